package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the package's counters. Labels come from fixed sets: routes, status codes, event kinds.
type metrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	refused     *prometheus.CounterVec
	viewers     prometheus.Gauge
	events      *prometheus.CounterVec
	dropped     prometheus.Counter
	liveClosed  *prometheus.CounterVec
	auditErrors prometheus.Counter
	unrecorded  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_api_requests_total", Help: "Requests answered, by call and status.",
		}, []string{"call", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fairlead_api_request_seconds", Help: "Time from request to answer, without waiting for commands to end.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}, []string{"call"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_api_refused_total", Help: "Requests refused before their handler, by reason.",
		}, []string{"reason"}),
		viewers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_api_live_viewers", Help: "Open live views.",
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_api_live_events_total", Help: "Events queued for live views, by kind.",
		}, []string{"kind"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_api_live_dropped_total", Help: "Telemetry events that slow live views lost.",
		}),
		liveClosed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_api_live_closed_total", Help: "Live views closed by the hub, by reason.",
		}, []string{"reason"}),
		auditErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_api_audit_errors_total", Help: "Changes whose audit record could not be written.",
		}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_api_audit_unrecorded_total", Help: "Refused changes beyond the bound of the audit log, which keeps only their number.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.refused, m.viewers, m.events, m.dropped, m.liveClosed, m.auditErrors, m.unrecorded)
	for _, reason := range refusals {
		m.refused.WithLabelValues(reason)
	}
	for _, kind := range Kinds {
		m.events.WithLabelValues(string(kind))
	}
	for _, reason := range closeReasons {
		m.liveClosed.WithLabelValues(reason)
	}
	return m
}

func (m *metrics) answered(call string, status int, took time.Duration) {
	m.requests.WithLabelValues(call, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(call).Observe(took.Seconds())
}
