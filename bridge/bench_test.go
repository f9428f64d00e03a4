package bridge_test

import (
	"testing"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// BenchmarkInbound is one message from mosquitto_pub over mosquitto to the log and back to its acknowledgement, QoS 1
// all the way. The log is a map.
func BenchmarkInbound(b *testing.B) {
	broker := mosquittotest.Start(b, mosquittotest.Options{})
	h := newHub(b)
	r := start(b, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	lines := numbered(b.N)
	b.ResetTimer()
	broker.PubLines("site/d1/env", lines)
	r.wantStatus("all acknowledged", func(s bridge.Status) bool { return s.Acked >= uint64(b.N) })
}

// BenchmarkTopicMap is the work of one message without a broker.
func BenchmarkTopicMap(b *testing.B) {
	m, err := bridge.NewTopicMap(jsonMap())
	if err != nil {
		b.Fatal(err)
	}
	msg := fleets.Message{Topic: "site/d1/env", Payload: []byte(`{"temp":21.5,"hum":40.2,"in":{"door":true}}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := m.Points(msg); err != nil {
			b.Fatal(err)
		}
	}
}
