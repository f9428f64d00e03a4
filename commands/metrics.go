package commands

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	created       prometheus.Counter
	final         *prometheus.CounterVec
	late          prometheus.Counter
	refused       *prometheus.CounterVec
	answers       *prometheus.CounterVec
	dropped       prometheus.Counter
	ignored       *prometheus.CounterVec
	deliveries    *prometheus.CounterVec
	void          *prometheus.CounterVec
	notTakenBack  prometheus.Counter
	unannounced   prometheus.Counter
	trims         prometheus.Counter
	commitRetries prometheus.Counter
	commitSeconds prometheus.Histogram
	commitEvents  prometheus.Histogram
	roundTrip     prometheus.Histogram
}

// reasons are the labels of refused commands.
var reasons = map[error]string{
	ErrUnknownDevice: "unknown_device", ErrOtherDevice: "other_device", ErrNotPermitted: "not_permitted", ErrUnknownCommand: "unknown_command", ErrInvalidRequest: "invalid_request",
	ErrInvalidParams: "invalid_params", ErrConfirmRequired: "confirm_required", ErrOffline: "offline",
	ErrQueueFull: "queue_full", ErrOverloaded: "overloaded", ErrKeyReused: "key_reused", ErrLogFull: "log_full",
	ErrClosed: "closed", ErrUnclear: "unclear", ErrHeld: "held",
}

const (
	namespace = "fairlead"
	subsystem = "commands"
)

func newMetrics(reg prometheus.Registerer, open func() float64) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{label})
		for _, v := range values {
			c.WithLabelValues(v)
		}
		reg.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets})
		reg.MustRegister(h)
		return h
	}
	var final, refused []string
	for _, s := range States {
		if s.Final() {
			final = append(final, string(s))
		}
	}
	for _, reason := range reasons {
		refused = append(refused, reason)
	}
	var kinds []string
	for k := range moves {
		kinds = append(kinds, string(k))
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "open", Help: "Commands that have not ended.",
	}, open))
	return &metrics{
		created:       counter("created_total", "Commands recorded by this node."),
		final:         vec("final_total", "Commands that this node saw end, by state.", "state", final...),
		late:          counter("late_total", "Commands whose answer came after they had timed out."),
		refused:       vec("refused_total", "Requests for commands that were refused, by reason.", "reason", append(refused, "error")...),
		answers:       vec("answers_total", "Frames of devices about commands, by kind.", "kind", "accept", "progress", "result"),
		dropped:       counter("results_dropped_total", "Results of devices that were too large for the command log and were left out."),
		ignored:       vec("answers_ignored_total", "Answers that needed no record, by reason.", "reason", "repeated", "foreign", "unknown", "too_often", "in_memory"),
		deliveries:    vec("deliveries_total", "Socket writes of commands, by outcome.", "outcome", "written", "not_connected", "unsupported", "failed"),
		void:          vec("void_events_total", "Events that changed nothing at their place in the log, by kind.", "kind", kinds...),
		notTakenBack:  counter("take_back_retries_total", "Cancels of commands to deleted devices that could not be recorded and are tried again."),
		unannounced:   counter("unannounced_total", "Changes that could not be told to live viewers."),
		trims:         counter("log_trims_total", "Times the oldest commands were forgotten early to make room in the log."),
		commitRetries: counter("commit_retries_total", "Commits published again because the log's answer was lost."),
		commitSeconds: histogram("commit_seconds", "Time of one group commit of events.", prometheus.ExponentialBuckets(0.0001, 2, 16)),
		commitEvents:  histogram("commit_events", "Events of one group commit.", prometheus.ExponentialBuckets(1, 2, 14)),
		roundTrip:     histogram("round_trip_seconds", "From the creation of a command to the device's result.", prometheus.ExponentialBuckets(0.0005, 2, 20)),
	}
}

func (m *metrics) refuse(err error) {
	for sentinel, reason := range reasons {
		if errors.Is(err, sentinel) {
			m.refused.WithLabelValues(reason).Inc()
			return
		}
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		m.refused.WithLabelValues("error").Inc()
	}
}
