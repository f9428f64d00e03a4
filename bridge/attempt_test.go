package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// A second attempt that could not be published takes nothing from the first, whose reply is evidence as before. What was never
// published has none.
func TestReplyToTheFirstAttempt(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), MaxPayload: 200, Command: []configs.CmdMap{{
		Devices: []string{"valve"}, Topic: "do/{device}/{name}", Reply: "done/{device}/{id}", QoS: 1,
	}}})
	h.until("the valve", func() bool { return h.online["valve"] != "" })
	deliver := func(id, value string) error {
		_, err := r.Links().Deliver(context.Background(), "valve", wire.Command{ID: id, Name: "set", Params: json.RawMessage(`{"v":"` + value + `"}`)})
		return err
	}
	large := strings.Repeat("x", 300)
	if err := deliver("c1", "open"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"c1", "c2"} {
		if err := deliver(id, large); !errors.Is(err, bridge.ErrUnsupported) {
			t.Fatalf("%s: %v, want it not published", id, err)
		}
	}
	broker.Pub("done/valve/c2", `{"ok":true}`, "-q", "1")
	broker.Pub("done/valve/c1", `{"ok":true}`, "-q", "1")
	s := r.wantStatus("both read", func(s bridge.Status) bool { return s.Received == 2 })
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.answers) != 1 || h.answers[0].ID != "c1" || h.answers[0].evidence != "confirmed" {
		t.Errorf("answers are %v; %+v", h.answers, s.Topics)
	}
}
