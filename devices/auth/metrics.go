package auth

import "github.com/prometheus/client_golang/prometheus"

// What became of a fetch of an issuer's keys, and of a token that names a key that is not known.
const (
	fetchGood   = "ok"
	fetchFailed = "failed"

	askAsked   = "asked"
	askLimited = "limited"
)

type metrics struct {
	fetches *prometheus.CounterVec
	unknown *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_auth_jwks_fetches_total", Help: "Fetches of outside issuers' keys, by outcome.",
		}, []string{"outcome"}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_auth_unknown_kids_total", Help: "Tokens of outside issuers with an unknown kid: waited for a fetch, or refused at once.",
		}, []string{"outcome"}),
	}
	reg.MustRegister(m.fetches, m.unknown)
	for _, outcome := range []string{fetchGood, fetchFailed} {
		m.fetches.WithLabelValues(outcome)
	}
	for _, outcome := range []string{askAsked, askLimited} {
		m.unknown.WithLabelValues(outcome)
	}
	return m
}
