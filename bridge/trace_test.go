package bridge_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// Who looks at a bridged device sees its messages with what became of them, the commands published to it, and nothing of
// others; who looks no more sees nothing.
func TestMessagesAreTraced(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{
		URL: broker.URL(), In: []configs.InMap{jsonMap()},
		Command: []configs.CmdMap{{Devices: []string{"p1"}, Topic: "do/{device}/{name}", Payload: "{param:v}", QoS: 1}},
	})
	r.wantState(bridge.StateConnected)
	frames := make(chan bridge.Frame, 16)
	stop := r.Trace("p1", func(f bridge.Frame) { frames <- f }) // before the device is there
	want := func(out bool, bytes int, text, fate string) {
		t.Helper()
		select {
		case f := <-frames:
			if f.Device != "p1" || f.Link != "mqtt:site" || f.Out != out || f.Bytes != bytes || f.Text != text || f.Fate != fate || f.Time.IsZero() {
				t.Errorf("%+v, want %s %s", f, text, fate)
			}
		case <-time.After(patience):
			t.Fatalf("no frame %s %s", text, fate)
		}
	}
	token := strings.Repeat("eyJhbGciOiJF.", 2) + "c2lnbmF0dXJl"
	for _, c := range []struct{ payload, shown, fate string }{
		{`{"temp":21.5}`, `{"temp":21.5}`, "stored"},
		{`{"conflict":"x"}`, `{"conflict":"x"}`, "type_conflict"},
		{`{"temp":`, `{"temp":`, "invalid_json"},
		{`{"text":"` + token + `"}`, `{"text":"` + strings.Repeat("*", len(token)) + `"}`, "stored"},
	} {
		broker.Pub("site/p2/env", `{"temp":1}`, "-q", "1") // another one's
		broker.Pub("site/p1/env", c.payload, "-q", "1")
		want(false, len(c.payload), "site/p1/env "+c.shown, c.fate)
	}
	deliver := func() {
		t.Helper()
		if _, err := r.Links().Deliver(context.Background(), "p1", wire.Command{ID: "c1", Name: "open", Params: json.RawMessage(`{"v":5}`)}); err != nil {
			t.Fatal(err)
		}
	}
	deliver()
	want(true, 1, "do/p1/open 5", "sent")

	stop()
	broker.Pub("site/p1/env", `{"temp":22}`, "-q", "1")
	deliver()
	h.until("what came is stored all the same", func() bool { return len(h.points["p1"]) == 3 })
	if len(frames) > 0 {
		t.Errorf("shown though nobody looks: %+v", <-frames)
	}
}
