package embedded

import (
	"context"
	"errors"
	"time"
)

var errBusy = errors.New("too many requests at a time: try again")

// slots bounds how many requests of a kind run at a time.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

// take waits for a slot, but no longer than queueTimeout.
func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(queueTimeout)
	defer t.Stop()
	select {
	case s <- struct{}{}:
		return nil
	case <-t.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slots) give() { <-s }

// fill returns when nobody holds a slot, and nobody gets one again.
func (s slots) fill() {
	for range cap(s) {
		s <- struct{}{}
	}
}
