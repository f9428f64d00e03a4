package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// The bounds of what is kept for who asks now and again instead of following.
const (
	recentFor     = 2 * time.Minute // after the last question
	recentFrames  = 200             // of one device
	recentDevices = 64
)

// recent keeps the last frames of devices whose frames were asked for of late; the first question begins to look.
type recent struct {
	records *devices.Records
	nc      *nats.Conn
	marks   *bus.Marks

	mu   sync.Mutex
	kept map[string]*lately // guarded by mu
}

// lately are the last frames of one device.
type lately struct {
	sub   *nats.Subscription
	until time.Time // guarded by recent.mu

	mu     sync.Mutex
	frames []api.TraceFrame // guarded by mu; the newest last
}

// Frames returns what has been seen since somebody began to ask, the newest last.
func (r *recent) Frames(_ context.Context, device string, limit int) ([]api.TraceFrame, error) {
	if _, ok := r.records.Record(device); !ok {
		return nil, api.ErrDeviceNotFound
	}
	l, err := r.look(device)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]api.TraceFrame(nil), l.frames[max(0, len(l.frames)-limit):]...), nil
}

func (r *recent) look(device string) (*lately, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.kept[device]
	if l == nil {
		if len(r.kept) >= recentDevices {
			return nil, fmt.Errorf("%w: frames of %d devices are looked at already", api.ErrUnavailable, recentDevices)
		}
		subject, err := bus.TraceEvent(device)
		if err != nil {
			return nil, err
		}
		l = &lately{}
		if l.sub, err = r.nc.Subscribe(subject, l.hear); err != nil {
			return nil, fmt.Errorf("%w: hear frames: %w", api.ErrUnavailable, err)
		}
		r.kept[device] = l
		r.marks.Mark(device, true)
	}
	l.until = time.Now().Add(recentFor)
	return l, nil
}

func (l *lately) hear(m *nats.Msg) {
	var e api.TraceEvent
	if json.Unmarshal(m.Data, &e) != nil {
		return // not a hub's
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.frames) >= recentFrames {
		l.frames = append(l.frames[:0], l.frames[1:]...)
	}
	l.frames = append(l.frames, e.TraceFrame)
}

// run stops looking at what nobody has asked for of late, and at all when ctx ends.
func (r *recent) run(ctx context.Context) error {
	tick := time.NewTicker(recentFor / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.end(func(*lately) bool { return true })
			return nil
		case now := <-tick.C:
			r.end(func(l *lately) bool { return now.After(l.until) })
		}
	}
}

func (r *recent) end(over func(*lately) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for device, l := range r.kept {
		if over(l) {
			delete(r.kept, device)
			r.marks.Mark(device, false)
			_ = l.sub.Unsubscribe() // fails only when the bus is closed
		}
	}
}
