package bridge_test

import (
	"testing"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/configs"
)

// What one connection publishes another one must not read back, however the broker's address is written.
func TestLoopsAcrossNamesOfOneBroker(t *testing.T) {
	for _, c := range []struct {
		out, in string
		loop    bool
	}{
		{"embedded", "tcp://127.0.0.1:1883", true},
		{"embedded", "mqtt://localhost", true},
		{"tcp://broker.example", "mqtt://BROKER.example:1883", true},
		{"tcp://broker.example:1883", "tcp://broker.example:1884", false},
		{"embedded", "tcp://broker.example", false},
	} {
		faults := bridge.Check(configs.Bridge{
			Broker: configs.Broker{Listen: "127.0.0.1:1883"},
			Connections: []configs.Connection{
				{Name: "a", URL: c.out, Out: []configs.OutMap{{Topic: "x/{device}", QoS: 1}}},
				{Name: "b", URL: c.in, In: []configs.InMap{{Topic: "x/{device}", QoS: 1}}},
			},
		})
		if found := len(faults) > 0; found != c.loop {
			t.Errorf("%s and %s: %v", c.out, c.in, faults)
		}
	}
}
