package bus_test

import (
	"context"
	"testing"
)

// A node that is stopped before it has asked for a lease has not failed. The control is that it does the work otherwise.
func TestHoldEndsWithItsContext(t *testing.T) {
	b := open(t, t.TempDir())
	defer b.Close()
	for _, stopped := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		if stopped {
			cancel()
		}
		worked := false
		err := b.Hold(ctx, "work", func(ctx context.Context) error {
			worked = true
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil || worked == stopped {
			t.Errorf("stopped before: %v: worked %v, %v", stopped, worked, err)
		}
		cancel()
	}
}
