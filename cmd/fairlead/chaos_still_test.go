//go:build chaos

package main_test

import (
	"syscall"
	"testing"
	"time"
)

// A hub stands still for longer than its lease, as a suspended machine does. When it goes on, its devices are on line again
// for the other hub and take commands, and it has not lost the other's devices.
func TestChaosLostHubReturns(t *testing.T) {
	t.Parallel()
	both := nodes(t, natsServer(t), "a", "b")
	a, b := both[0], both[1]
	d := a.connect(t, "pump-1", addEverywhere(t, "pump-1", a, b), jsonFrames)
	b.connect(t, "pump-2", addEverywhere(t, "pump-2", a, b), jsonFrames)
	b.wantStatus("pump-1", "online", "connected")
	a.wantStatus("pump-2", "online", "connected")

	a.signal(syscall.SIGSTOP)
	b.wantStatus("pump-1", "offline", "node_lost")
	a.signal(syscall.SIGCONT)
	ends := time.Now().Add(2 * time.Second) // the first beat after the stop is at once, the next one later
	for time.Now().Before(ends) {
		if dev, _ := a.device(t, "pump-2"); dev.Status != "online" {
			t.Fatalf("the hub that stood still took the other for lost: %+v", dev)
		}
	}
	b.wantStatus("pump-1", "online", "connected")
	done := b.sending(t, "pump-1", "set_interval", map[string]any{"seconds": 10})
	d.obey(d.next("command"))
	wantDone(t, <-done, "queued sent delivered succeeded")
	a.stop()
	b.stop()
}
