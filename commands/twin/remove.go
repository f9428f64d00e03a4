package twin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// removals are the devices whose documents are to go.
type removals struct {
	wake chan struct{}

	mu  sync.Mutex
	due map[string]struct{} // guarded by mu
}

func newRemovals() *removals {
	return &removals{wake: make(chan struct{}, 1), due: make(map[string]struct{})}
}

func (r *removals) add(device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due[device] = struct{}{}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *removals) take() map[string]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.due
	r.due = make(map[string]struct{})
	return due
}

// Deleted says that a device's record is gone: its documents follow. It does not block.
func (t *Twin) Deleted(device string) {
	t.reports.forget(device)
	p := t.docs.pair(device)
	if p.desired.exists() || p.reported.exists() {
		t.removals.add(device)
	}
}

// Remove deletes a device's documents and returns once that is durable. Only their versions stay.
func (t *Twin) Remove(ctx context.Context, device string) error {
	if err := t.awaitReady(ctx); err != nil {
		return err
	}
	t.reports.forget(device)
	for _, h := range []half{desired, reported} {
		if err := t.clear(ctx, device, h); err != nil {
			return fmt.Errorf("remove twin of %s: %w", device, err)
		}
	}
	return nil
}

func (t *Twin) clear(ctx context.Context, device string, h half) error {
	for try := range conflictTries {
		old := t.docs.half(device, h)
		if !old.exists() {
			return nil
		}
		err := t.docs.put(ctx, device, h, old, document{Version: old.Version + 1})
		if err == nil {
			t.metrics.removed.Inc()
			return nil
		}
		if !errors.Is(err, errStale) {
			return err
		}
		if err := t.again(ctx, change{device: device, half: h}, try); err != nil {
			return err
		}
	}
	return ErrConflict
}

// sweep finds the documents of devices that were deleted while no node was there to see it.
func (t *Twin) sweep() {
	for _, device := range t.docs.devices() {
		if !t.devices.Known(device) {
			t.removals.add(device)
		}
	}
}

// remove deletes what is due. A device that is known again by now has new documents, or soon will.
func (t *Twin) remove(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.removals.wake:
		}
		for device := range t.removals.take() {
			if t.devices.Known(device) {
				continue
			}
			if err := t.Remove(ctx, device); err != nil && ctx.Err() == nil {
				t.log.Warn("twin not removed, trying again", "device_id", device, "err", err)
				t.removeLater(ctx, device)
			}
		}
	}
}

func (t *Twin) removeLater(ctx context.Context, device string) {
	select {
	case <-ctx.Done():
	case <-time.After(removeAgain):
		t.removals.add(device)
	}
}
