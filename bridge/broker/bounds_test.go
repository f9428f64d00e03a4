package broker_test

import (
	"fmt"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fairlead-hub/fairlead/bridge/broker"
)

// retained returns what c gets retained for topic.
func retained(t *testing.T, c mqtt.Client, topic string) (bytes int) {
	t.Helper()
	got := make(chan int, 1)
	wait(t, c.Subscribe("end", 1, func(mqtt.Client, mqtt.Message) { got <- 0 }))
	wait(t, c.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) { bytes += len(m.Payload()) }))
	wait(t, c.Publish("end", 1, false, "x")) // comes after what is retained
	<-got
	wait(t, c.Unsubscribe(topic))
	return bytes
}

// One client retains messages as large as they may be: their bytes are bounded, an update counts once, an empty message
// gives its bytes back.
func TestRetainedBytesAreBounded(t *testing.T) {
	b, _, _ := start(t)
	pub, reader := publisher(t, b), publisher(t, b)
	large := make([]byte, broker.MaxPacketBytes-2048)
	const most = broker.MaxRetainedBytes / broker.MaxPacketBytes
	for range 2 * most { // updates of one topic take the place of one
		wait(t, pub.Publish("r/0", 1, true, large))
	}
	for i := range most + most/4 {
		wait(t, pub.Publish(fmt.Sprintf("r/%d", i), 1, true, large))
	}
	kept := 0
	for i := range most + most/4 {
		bytes := retained(t, reader, fmt.Sprintf("r/%d", i))
		if kept += bytes; bytes == 0 && i < most {
			t.Errorf("r/%d is not retained, although it fits", i)
		}
	}
	if kept > broker.MaxRetainedBytes {
		t.Errorf("%d bytes are retained, want at most %d", kept, broker.MaxRetainedBytes)
	}
	wait(t, pub.Publish("r/0", 1, true, ""))
	wait(t, pub.Publish("r/new", 1, true, large))
	if retained(t, reader, "r/new") == 0 {
		t.Error("an empty message did not give its place back")
	}
}
