package bridge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// The log hangs for longer than the bridge can wait. The broker keeps what the window does not hold, the state says
// why, and when the log is well again everything is stored, once, in order.
func TestLogHangs(t *testing.T) {
	const window, n = 4, 40
	broker := mosquittotest.Start(t, mosquittotest.Options{Config: []string{"max_inflight_messages 0"}})
	h := newHub(t)
	h.hold()
	r := start(t, h, configs.Connection{URL: broker.URL(), InFlight: window, In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	broker.PubLines("site/d1/env", numbered(n))
	r.wantStatus("given up, with the reason", func(s bridge.Status) bool { return strings.Contains(s.LastError, "faster than they can be stored") })
	h.mu.Lock()
	if got := len(h.points["d1"]); got != window {
		t.Errorf("%d messages in memory, the window is %d", got, window)
	}
	h.mu.Unlock()
	h.release()
	h.until("all", func() bool { return len(h.points["d1"]) >= n })
	r.wantStatus("all acknowledged", func(s bridge.Status) bool { return s.Acked >= n })
	if got := len(h.points["d1"]); got != n {
		t.Errorf("%d points, want %d: each once", got, n)
	}
	for i, p := range h.points["d1"] {
		if field(p, "n") != fmt.Sprint(i) {
			t.Fatalf("message %d is %s: order is lost", i, field(p, "n"))
		}
	}
}
