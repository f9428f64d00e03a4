package enroll

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ requests *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_enroll_requests_total", Help: "Requests of devices to be enrolled, by what became of them.",
	}, []string{"code"})}
	reg.MustRegister(m.requests)
	for _, c := range codes {
		m.requests.WithLabelValues(c)
	}
	return m
}
