package twin

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	namespace = "fairlead"
	subsystem = "twin"

	outcomeWritten   = "written"
	outcomeUnreached = "unreached"
)

type metrics struct {
	desiredChanges prometheus.Counter
	reports        prometheus.Counter
	reportWrites   prometheus.Counter
	unchanged      prometheus.Counter
	conflicts      prometheus.Counter
	removed        prometheus.Counter
	unannounced    prometheus.Counter
	deliveries     *prometheus.CounterVec
	refused        *prometheus.CounterVec
}

// reasons are the labels of refused changes.
var reasons = []struct {
	err   error
	label string
}{
	{ErrUnknownDevice, "unknown_device"},
	{ErrInvalid, "invalid"},
	{ErrTooLarge, "too_large"},
	{ErrVersionMismatch, "version_mismatch"},
	{ErrConflict, "conflict"},
	{ErrFull, "full"},
	{ErrOverloaded, "overloaded"},
	{ErrClosed, "closed"},
}

const reasonOther = "error"

func newMetrics(reg prometheus.Registerer, waiting func() float64) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "reporting_devices", Help: "Devices whose reports wait or were stored within the last second.",
	}, waiting))
	m := &metrics{
		desiredChanges: counter("desired_changes_total", "Changes of desired documents by this node."),
		reports:        counter("reports_total", "State reports of devices."),
		reportWrites:   counter("report_writes_total", "Writes of reported documents; one holds all that its device reported since the last."),
		unchanged:      counter("reports_unchanged_total", "Reports that changed nothing and were not written."),
		conflicts:      counter("conflicts_total", "Writes that somebody else was faster with, and that were made again."),
		removed:        counter("removed_total", "Documents removed with their device."),
		unannounced:    counter("unannounced_total", "Changes that could not be told to live viewers."),
		deliveries:     vec("deliveries_total", "Desired documents for sockets of this node, by outcome; a device that is not here hears it when it attaches.", "outcome"),
		refused:        vec("refused_total", "Changes that were refused, by document and reason.", "document", "reason"),
	}
	for _, outcome := range []string{outcomeWritten, outcomeUnreached} {
		m.deliveries.WithLabelValues(outcome)
	}
	for _, h := range []half{desired, reported} {
		m.refused.WithLabelValues(string(h), reasonOther)
		for _, r := range reasons {
			m.refused.WithLabelValues(string(h), r.label)
		}
	}
	return m
}

func (m *metrics) refuse(h half, err error) {
	label := reasonOther
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			label = r.label
			break
		}
	}
	m.refused.WithLabelValues(string(h), label).Inc()
}
