package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
)

// stuck holds up the lines of one device.
type stuck struct {
	*scripted
	device  string
	release chan struct{}
}

func (s stuck) Write(ctx context.Context, body []byte) error {
	if bytes.Contains(body, []byte("device="+s.device+" ")) {
		select {
		case <-s.release:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.scripted.Write(ctx, body)
}

// A write that takes long holds up its own lane only, also where the log holds many small batches of it.
func TestSlowLaneHoldsUpNoOther(t *testing.T) {
	const each = 300
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), nil)
	w := newWaiter()
	slow, other := c.Open("dev-0", nil, w), c.Open("dev-1", nil, nil) // in lanes of their own
	for i := 1; i <= each; i++ {
		wantTaken(t, slow, fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"n":%d}}`, i, i))
		w.wait(uint64(i)) // so each is a batch
	}
	for i := 1; i <= each; i++ {
		wantTaken(t, other, fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"n":%d}}`, i, i))
	}
	store := stuck{newScripted(nil), "dev-0", make(chan struct{})}
	startWriter(t, b, store)
	store.wait(each) // those of dev-1
	close(store.release)
	store.wait(2 * each)
	if n := store.calls; n > 20 {
		t.Errorf("%d writes: small batches were not joined", n)
	}
}
