package embedded

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	points       *prometheus.CounterVec
	writes       *prometheus.CounterVec
	queries      *prometheus.CounterVec
	writeSeconds prometheus.Histogram
	querySeconds prometheus.Histogram
	diskBytes    prometheus.Gauge
	brokenShards prometheus.Gauge
	droppedSize  prometheus.Counter
	reopened     prometheus.Counter
	unauthorized prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	name := func(n string) string { return "fairlead_embedded_" + n }
	m := &metrics{
		points: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("points_total"),
			Help: "Points in write requests, by what became of them.",
		}, []string{"outcome"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("writes_total"), Help: "Write requests, by class of HTTP status.",
		}, []string{"status"}),
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("queries_total"), Help: "Query requests, by class of HTTP status.",
		}, []string{"status"}),
		writeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("write_seconds"), Help: "Time to store one body, fsync included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		querySeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("query_seconds"), Help: "Time to answer one query.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		diskBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("disk_bytes"), Help: "TSM and WAL files, at the last look.",
		}),
		brokenShards: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("broken_shards"), Help: "Shards that could not be read when the store was opened.",
		}),
		droppedSize: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("shard_groups_dropped_for_size_total"), Help: "Shard groups dropped because of the size limit.",
		}),
		reopened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("reopened_total"), Help: "How often the store was opened anew after it could not write.",
		}),
		unauthorized: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("unauthorized_total"), Help: "Requests without the token.",
		}),
	}
	for _, o := range []string{pointStored, pointDropped, pointFailed} {
		m.points.WithLabelValues(o)
	}
	for _, s := range []string{"2xx", "4xx", "5xx"} {
		m.writes.WithLabelValues(s)
		m.queries.WithLabelValues(s)
	}
	reg.MustRegister(m.points, m.writes, m.queries, m.writeSeconds, m.querySeconds, m.diskBytes, m.brokenShards,
		m.droppedSize, m.reopened, m.unauthorized)
	return m
}

// What becomes of a point in a write request.
const (
	pointStored  = "stored"
	pointDropped = "dropped" // the engine refused it: type conflict, beyond retention
	pointFailed  = "failed"  // the write failed as a whole
)
