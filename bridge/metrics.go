package bridge

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
)

// The connection is a label: its values are the few names in the configuration.
const connectionLabel = "connection"

var bridgeReasons = []DropReason{
	reasonTopic, reasonTooLarge, reasonLine, reasonUnmapped, reasonRefused, reasonRejected, reasonStalled, reasonReply, reasonLog,
	reasonFilter, reasonManyFilters, reasonReadBack, reasonDenied,
}

type metrics struct {
	connected   *prometheus.GaugeVec
	received    *prometheus.CounterVec
	acked       *prometheus.CounterVec
	repeated    *prometheus.CounterVec
	points      *prometheus.CounterVec
	dropped     *prometheus.CounterVec
	published   *prometheus.CounterVec
	unpublished *prometheus.CounterVec
	commands    *prometheus.CounterVec
	answers     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_bridge_" + name, Help: help}, append([]string{connectionLabel}, labels...))
		reg.MustRegister(c)
		return c
	}
	m := &metrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_bridge_connected", Help: "1 while the connection to the broker is up.",
		}, []string{connectionLabel}),
		received:    counter("messages_received_total", "Messages from the broker."),
		acked:       counter("messages_finished_total", "Messages stored, or meaningless, and acknowledged."),
		repeated:    counter("messages_repeated_total", "Messages that the broker repeated and that were not stored again."),
		points:      counter("points_total", "Points given to the log."),
		dropped:     counter("messages_dropped_total", "Messages that became nothing, by reason.", "reason"),
		published:   counter("messages_published_total", "Messages that the broker took from the hub."),
		unpublished: counter("messages_unpublishable_total", "Outgoing points whose topic or payload no broker would take."),
		commands:    counter("commands_total", "Commands to MQTT devices, by result of publishing.", "result"),
		answers:     counter("answers_total", "Answers of MQTT devices, by evidence.", "evidence"),
	}
	reg.MustRegister(m.connected)
	return m
}

// connectionMetrics are those of one connection.
type connectionMetrics struct {
	connected                                                 prometheus.Gauge
	received, acked, repeated, points, published, unpublished prometheus.Counter
	dropped, commands, answers                                *prometheus.CounterVec
}

func (m *metrics) connection(name string) *connectionMetrics {
	l := prometheus.Labels{connectionLabel: name}
	c := &connectionMetrics{
		connected: m.connected.With(l),
		received:  m.received.With(l), acked: m.acked.With(l), repeated: m.repeated.With(l), points: m.points.With(l),
		published: m.published.With(l), unpublished: m.unpublished.With(l),
		dropped: m.dropped.MustCurryWith(l), commands: m.commands.MustCurryWith(l), answers: m.answers.MustCurryWith(l),
	}
	for _, list := range [][]DropReason{fleets.Reasons, bridgeReasons} {
		for _, r := range list {
			c.dropped.WithLabelValues(string(r))
		}
	}
	for _, r := range []string{"published", "failed"} {
		c.commands.WithLabelValues(r)
	}
	for _, e := range []fleets.Evidence{fleets.Confirmed, fleets.Observed, fleets.Assumed} {
		c.answers.WithLabelValues(string(e))
	}
	return c
}

func (c *connectionMetrics) drop(r DropReason) { c.dropped.WithLabelValues(string(r)).Inc() }

func (c *connectionMetrics) answered(e fleets.Evidence) { c.answers.WithLabelValues(string(e)).Inc() }
