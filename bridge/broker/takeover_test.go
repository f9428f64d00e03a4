package broker_test

import (
	"fmt"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A device whose connection was lost unnoticed comes back under its id: what the broker clears away of the old connection is not
// the new one's. The old one has subscriptions, so that clearing away takes its time.
func TestTakeoverLeavesTheNewSessionAlone(t *testing.T) {
	b, _, _ := start(t)
	connectClean := func() mqtt.Client {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(b.Hub().URL).SetUsername("site").SetPassword("pw").
			SetClientID("device").SetCleanSession(true).SetAutoReconnect(false))
		wait(t, c.Connect())
		t.Cleanup(func() { c.Disconnect(0) })
		return c
	}
	pub := publisher(t, b)
	for i := range 30 {
		old := connectClean()
		filters := make(map[string]byte, 500)
		for i := range 500 {
			filters[fmt.Sprintf("x/%d", i)] = 0
		}
		wait(t, old.SubscribeMultiple(filters, nil))
		c, got := connectClean(), make(chan struct{}, 1)
		wait(t, c.Subscribe("a", 1, func(mqtt.Client, mqtt.Message) { got <- struct{}{} }))
		wait(t, pub.Publish("a", 1, false, "x"))
		select {
		case <-got:
		case <-time.After(patience):
			t.Fatalf("the connection after takeover %d gets no messages", i)
		}
		c.Disconnect(0)
	}
}
