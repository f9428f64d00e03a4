package broker

import "github.com/prometheus/client_golang/prometheus"

// Why a client or its subscription was refused, or a message not kept.
const (
	refusedAuth  = "auth"
	refusedFull  = "full"
	refusedWill  = "will_topic"
	refusedTopic = "reserved_topic"
	refusedLarge = "connect_too_large"
	refusedDeep  = "topic_too_deep"

	refusedPublish = "publish_not_allowed" // by a device, where it may not
	refusedRead    = "subscribe_not_allowed"

	refusedFilter       = "filter_too_long" // or too deep
	refusedSubscription = "subscription_limit"

	droppedRetained = "retained_limit"
	droppedGate     = "not_stored"
	droppedSession  = "session_ended"
	droppedSlow     = "slow_client"
	droppedQueue    = "queue_limit"
	droppedAway     = "hub_away" // at QoS 0
)

type metrics struct {
	clients prometheus.Gauge
	waiting prometheus.Gauge
	evicted prometheus.Counter
	ended   *prometheus.CounterVec
	refused *prometheus.CounterVec
	dropped *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		clients: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_broker_clients", Help: "Sockets open at the embedded MQTT broker.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_broker_publishers_waiting", Help: "Publishers whose QoS 1 message is not yet stored.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_broker_sessions_evicted_total", Help: "Sessions without a client that made room for others.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_broker_refused_total", Help: "Clients, what they published, and filters that they would subscribe to, refused, by reason.",
		}, []string{"reason"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_broker_devices_ended_total", Help: "Clients with a device's token sent away, by cause.",
		}, []string{"cause"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_broker_dropped_total", Help: "Messages not kept or not acknowledged, by reason.",
		}, []string{"reason"}),
	}
	for _, r := range []string{refusedAuth, refusedFull, refusedWill, refusedTopic, refusedLarge, refusedDeep, refusedFilter, refusedSubscription, refusedPublish, refusedRead} {
		m.refused.WithLabelValues(r)
	}
	for _, r := range []string{droppedRetained, droppedGate, droppedSession, droppedSlow, droppedQueue, droppedAway} {
		m.dropped.WithLabelValues(r)
	}
	for _, c := range []string{endRevoked, endExpired, endReplaced} {
		m.ended.WithLabelValues(c)
	}
	reg.MustRegister(m.clients, m.waiting, m.evicted, m.ended, m.refused, m.dropped)
	return m
}
