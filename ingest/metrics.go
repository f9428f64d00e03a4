package ingest

import (
	"bytes"
	"errors"
	"time"

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

// writerMetrics are the writer's.
type writerMetrics struct {
	lines, bytes, retries, held, splits, dead, unreadable prometheus.Counter
	seconds                                               prometheus.Histogram
	lag, up                                               prometheus.Gauge
}

func newWriterMetrics(reg prometheus.Registerer) (*writerMetrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_ingest_write_" + name, Help: help})
	}
	m := &writerMetrics{
		lines:      counter("lines_total", "lines that the store took"),
		bytes:      counter("bytes_total", "bytes of line protocol that the store took"),
		retries:    counter("retries_total", "writes that were not answered or put off"),
		held:       counter("held_total", "writes refused for a reason that an operator must mend"),
		splits:     counter("splits_total", "writes halved because the store refused some of their lines"),
		dead:       counter("dead_total", "lines set aside because the store refused them"),
		unreadable: counter("unreadable_batches_total", "batches of the log that could not be read"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_ingest_write_seconds", Help: "time of one write", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_ingest_write_lag_seconds", Help: "age of the oldest point that is not yet in the store"}),
		up:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_ingest_write_up", Help: "1 while the store takes points"}),
	}
	m.up.Set(1)
	return m, register(reg, m.lines, m.bytes, m.retries, m.held, m.splits, m.dead, m.unreadable, m.seconds, m.lag, m.up)
}

func (m *writerMetrics) wrote(lines []byte, took time.Duration) {
	m.lines.Add(float64(bytes.Count(lines, []byte{'\n'})))
	m.bytes.Add(float64(len(lines)))
	m.seconds.Observe(took.Seconds())
}
