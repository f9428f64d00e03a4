package broker_test

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/bridge/broker"
)

// held publishes n messages that the hub takes and does not acknowledge. They have the packet ids 1 to n.
func held(t *testing.T, b *broker.Broker, hub *consumer, n int) ([]mqtt.Token, []mqtt.Message) {
	t.Helper()
	tokens, messages := make([]mqtt.Token, n), make([]mqtt.Message, n)
	for i := range n {
		tokens[i] = publisher(t, b).Publish("tele/a", 1, false, "x")
		messages[i] = <-hub.got
	}
	return tokens, messages
}

// What the hub publishes has packet ids of its own, and acknowledges nothing that was sent to the hub under the same ids.
func TestHubsPublishesAcknowledgeNothing(t *testing.T) {
	b, _, _ := start(t)
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	tokens, messages := held(t, b, hub, 8)
	for range 2 * len(tokens) {
		wait(t, hub.Publish("cmnd/a", 1, false, "x"))
	}
	time.Sleep(100 * time.Millisecond) // nothing must happen; there is no event for nothing
	for i, token := range tokens {
		select {
		case <-token.Done():
			t.Errorf("message %d was acknowledged (%v) before the hub has it", messages[i].MessageID(), token.Error())
		default:
		}
	}
	for i, m := range messages {
		m.Ack()
		wait(t, tokens[i])
	}
}

// Nor does a packet id that is in use in the other direction refuse a subscription, or keep one.
func TestPacketIDsOfTheTwoDirectionsAreTheirOwn(t *testing.T) {
	b, _, _ := start(t)
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	_, messages := held(t, b, hub, 8)
	for range messages {
		token := hub.Subscribe("more/#", 1, nil)
		wait(t, token)
		if code := token.(*mqtt.SubscribeToken).Result()["more/#"]; code != 1 {
			t.Fatalf("answered %#x, want QoS 1", code)
		}
	}
	for range messages {
		wait(t, hub.Subscribe("more/#", 1, nil))
		wait(t, hub.Unsubscribe("more/#"))
		wait(t, publisher(t, b).Publish("more/a", 1, false, "x")) // waits for the hub if that is still subscribed
	}
}

// A hub that starts: devices are back before its own bridge is. What they publish waits, and is not acknowledged to them as if
// nobody wanted it.
func TestPublishersWaitForTheHubsFirstSubscription(t *testing.T) {
	var subscribed func()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), func(b *broker.Broker) { subscribed = b.AwaitHub() })
	early := publisher(t, b)
	early.Publish("tele/a", 0, false, "first")
	token := early.Publish("tele/a", 1, false, "second")
	select {
	case <-token.Done():
		t.Fatal("acknowledged before the hub is there")
	case <-time.After(100 * time.Millisecond): // nothing must happen; there is no event for nothing
	}
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	subscribed()
	for _, want := range []string{"first", "second"} {
		m := <-hub.got
		if string(m.Payload()) != want {
			t.Errorf("the hub got %q, want %q", m.Payload(), want)
		}
		m.Ack()
	}
	wait(t, token)
}

// Nor does waiting for a hub that never comes keep the broker from stopping.
func TestStopWithoutTheHub(t *testing.T) {
	b, _, stop := startCounted(t, prometheus.NewRegistry(), func(b *broker.Broker) { b.AwaitHub() })
	token := publisher(t, b).Publish("tele/a", 1, false, "x")
	stop()
	if token.WaitTimeout(time.Millisecond) && token.Error() == nil {
		t.Error("acknowledged without the hub")
	}
}

// What a client publishes at QoS 0 is kept for nobody. What the hub misses of it is counted.
func TestMissedQoS0IsCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	b, _, _ := startCounted(t, reg)
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	pub := publisher(t, b)
	publish := func() {
		wait(t, pub.Publish("tele/a", 0, false, "x"))
		wait(t, pub.Publish("other/a", 0, false, "x"))
		wait(t, pub.Publish("end", 1, false, "x")) // the broker has read all three
	}
	publish()
	if n := counted(t, reg, "fairlead_broker_dropped_total", "hub_away"); n != 0 {
		t.Errorf("%v are missing while the hub is there", n)
	}
	<-hub.got
	hub.Disconnect(0)
	for deadline := time.Now().Add(patience); counted(t, reg, "fairlead_broker_clients", "") > 1 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // the broker tells nobody that a client is gone
	}
	publish()
	if n := counted(t, reg, "fairlead_broker_dropped_total", "hub_away"); n != 1 {
		t.Errorf("%v are missing, want the one for the hub", n)
	}
}
