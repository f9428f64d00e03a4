package bridge_test

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// The negative control of TestUnstoredMessagesComeAgain: a consumer that leaves acknowledging to paho, on receipt, and
// dies before it has stored anything, does not get its messages again.
func TestAutoAckLoses(t *testing.T) {
	const n = 50
	broker := mosquittotest.Start(t, mosquittotest.Options{Config: []string{"max_inflight_messages 0"}})
	if got := consume(t, broker, "control", n, true); got != n {
		t.Fatalf("first consumer got %d of %d", got, n)
	}
	if got := consume(t, broker, "control", 0, true); got != 0 {
		t.Errorf("%d messages came again, want all of them lost", got)
	}
	// The same consumer without automatic acknowledgement gets all of them twice.
	if got := consume(t, broker, "manual", n, false); got != n {
		t.Fatalf("first manual consumer got %d of %d", got, n)
	}
	if got := consume(t, broker, "manual", 0, false); got != n {
		t.Errorf("%d messages came again, want %d", got, n)
	}
}

// consume connects, publishes n messages if n is not 0, and returns how many came before a last one.
func consume(t *testing.T, broker *mosquittotest.Broker, id string, n int, autoAck bool) int {
	t.Helper()
	got := make(chan string, 1000)
	opts := mqtt.NewClientOptions().AddBroker(broker.URL()).SetClientID(id).SetCleanSession(false).
		SetAutoReconnect(false).SetAutoAckDisabled(!autoAck).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			if m.Topic() == "last/"+id {
				m.Ack()
			}
			got <- m.Topic()
		})
	client := mqtt.NewClient(opts)
	for _, step := range []func() mqtt.Token{
		client.Connect,
		func() mqtt.Token {
			return client.SubscribeMultiple(map[string]byte{"site/" + id + "/#": 1, "last/" + id: 1}, nil)
		},
	} {
		if token := step(); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("%s: %v", id, token.Error())
		}
	}
	defer client.Disconnect(250)
	if n > 0 {
		broker.PubLines("site/"+id+"/env", numbered(n))
	}
	broker.Pub("last/"+id, "x", "-q", "1")
	for count := 0; ; count++ {
		select {
		case topic := <-got:
			if topic == "last/"+id {
				return count
			}
		case <-time.After(patience):
			t.Fatalf("%s: the last message does not come", id)
		}
	}
}
