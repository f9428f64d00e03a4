package ingest

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// metrics are the committer's.
type metrics struct {
	batches   prometheus.Counter
	points    prometheus.Counter
	bytes     prometheus.Counter
	sizes     prometheus.Histogram
	waits     prometheus.Counter
	failures  prometheus.Counter
	abandoned prometheus.Counter
	stalled   prometheus.Gauge
	rejects   map[wire.Code]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_ingest_" + name, Help: help})
	}
	m := &metrics{
		batches:   counter("batches_total", "batches committed to the log"),
		points:    counter("points_total", "points committed to the log"),
		bytes:     counter("bytes_total", "bytes of line protocol committed to the log"),
		waits:     counter("waits_total", "frames that waited for room in the open batch"),
		failures:  counter("publish_failures_total", "publishes that the log refused or did not answer"),
		abandoned: counter("abandoned_points_total", "points never acked when the hub stopped; their devices hold them"),
		stalled:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_ingest_stalled", Help: "1 while the log takes no points"}),
		sizes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_ingest_batch_points", Help: "points in a batch", Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		rejects: make(map[wire.Code]prometheus.Counter, len(wire.Codes)),
	}
	rejects := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_ingest_rejected_frames_total", Help: "frames refused whole, by code",
	}, []string{"code"})
	for _, code := range wire.Codes {
		m.rejects[code] = rejects.WithLabelValues(string(code))
	}
	return m, register(reg, m.batches, m.points, m.bytes, m.sizes, m.waits, m.failures, m.abandoned, m.stalled, rejects)
}

func register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}

func (m *metrics) rejected(code wire.Code) { m.rejects[code].Inc() }

func (m *metrics) batch(b *batch) { m.sizes.Observe(float64(b.lines())) }

func (m *metrics) committed(b *batch) {
	m.batches.Inc()
	m.points.Add(float64(b.lines()))
	m.bytes.Add(float64(b.bytes))
}
