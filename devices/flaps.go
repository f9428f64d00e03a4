package devices

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

const (
	// How long the session that is there stays undisturbed: at the first replacement of a conflict, and at most. It
	// doubles with each.
	flapHold     = 10 * time.Second
	flapMostHold = 5 * time.Minute
	// flapQuiet is how many windows must pass without another try before a conflict is over.
	flapQuiet = 2
)

// flap counts how often a device's live session was replaced by another. One device that comes back before the hub has
// noticed that it went does so now and then; two devices with one identity do it without end. Every node holds it, and
// goes on where another left off. Times are Unix milliseconds.
type flap struct {
	Begin  int64 `json:"t"` // of the window
	Now    int   `json:"n"` // in the window
	Before int   `json:"b"` // in the one before
	Tried  int64 `json:"l"` // when another session last came, or was put off
	Since  int64 `json:"s,omitempty"`
	Hold   int64 `json:"h,omitempty"` // until when the session that is there stays
	Step   int64 `json:"d,omitempty"` // milliseconds of the newest hold
}

// roll begins a new window if it is time.
func (f *flap) roll(now, window int64) {
	switch passed := now - f.Begin; {
	case passed >= 2*window:
		f.Begin, f.Before, f.Now = now, 0, 0
	case passed >= window:
		f.Begin, f.Before, f.Now = f.Begin+window, f.Now, 0
	}
}

// count is how many there were in the window that ends now.
func (f *flap) count(now, window int64) int {
	g := *f
	g.roll(now, window)
	old := float64(g.Before) * float64(window-(now-g.Begin)) / float64(window)
	return g.Now + int(max(0, old)+0.5)
}

// over reports whether the device has been left alone for long enough.
func (f *flap) over(now, window int64) bool {
	return now-max(f.Tried, f.Hold) > flapQuiet*window
}

// Conflict is one identity that two devices use, as far as the hub can see.
type Conflict struct {
	Device    string
	Flaps     int
	Addresses [2]string // of the session that was there, and of the one that replaced it
	Since     time.Time
	Node      string
}

// conflictEvent is the live event of a conflict.
type conflictEvent struct {
	Event     string   `json:"event"`
	Device    string   `json:"device"`
	Flaps     int      `json:"flaps"`
	Addresses []string `json:"addresses"`
	Since     int64    `json:"since"`
	Node      string   `json:"node"`
}

// flapOf returns a copy of what other nodes need to go on with, or nil.
func (p *Presence) flapOf(device string) *flap {
	s := p.shard(device)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.m[device]
	if e == nil || e.flap == nil {
		return nil
	}
	f := *e.flap
	return &f
}

func (p *Presence) flapWindow() int64 { return max(p.opts.FlapWindow, time.Second).Milliseconds() }

// flapped counts a replacement of e's live session by one from address. Called with the shard's lock held.
func (p *Presence) flapped(device string, e *presenceEntry, address string, now int64) {
	if p.opts.FlapLimit == 0 {
		return
	}
	f := e.flap
	if f == nil {
		f = &flap{Begin: now}
		e.flap = f
	}
	f.roll(now, p.flapWindow())
	f.Now++
	f.Tried = now
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flapping[device] = struct{}{}
	flaps := f.count(now, p.flapWindow())
	if f.Since == 0 && flaps > p.opts.FlapLimit {
		f.Since = now
		p.news[device] = Conflict{
			Device: device, Flaps: flaps, Addresses: [2]string{e.address, address}, Since: time.UnixMilli(now), Node: p.opts.Node,
		}
	}
	if f.Since != 0 {
		f.Step = min(max(2*f.Step, flapHold.Milliseconds()), flapMostHold.Milliseconds())
		f.Hold = now + f.Step
	}
}

// held is how long a connect of the device has to wait for the session that is there: zero unless two devices replace
// each other in turn. The wait is jittered, so that they do not come together.
func (p *Presence) held(device string) time.Duration {
	now := p.opts.Now().UnixMilli()
	s := p.shard(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[device]
	if e == nil || e.flap == nil || !e.online || e.flap.Hold <= now {
		return 0
	}
	e.flap.Tried = now
	left := time.Duration(e.flap.Hold-now) * time.Millisecond
	if left > flapMostHold {
		e.flap.Hold = now // the clock was set back
		return 0
	}
	return left + rand.N(left/4+1)
}

// settleFlaps forgets who has been left alone. It is called once in a while.
func (p *Presence) settleFlaps(now int64) {
	p.mu.Lock()
	flapping := make([]string, 0, len(p.flapping))
	for device := range p.flapping {
		flapping = append(flapping, device)
	}
	p.mu.Unlock()
	for _, device := range flapping {
		s := p.shard(device)
		s.mu.Lock()
		e := s.m[device]
		gone := e == nil || e.flap == nil || e.flap.over(now, p.flapWindow())
		conflict := gone && e != nil && e.flap != nil && e.flap.Since != 0
		if gone {
			if e != nil {
				e.flap = nil
			}
			p.mu.Lock()
			delete(p.flapping, device)
			p.mu.Unlock()
		}
		s.mu.Unlock()
		if conflict {
			p.note(device)
		}
	}
}

// conflicts counts the devices in conflict whose session is or was here.
func (p *Presence) conflicts() int {
	p.mu.Lock()
	flapping := make([]string, 0, len(p.flapping))
	for device := range p.flapping {
		flapping = append(flapping, device)
	}
	p.mu.Unlock()
	n := 0
	for _, device := range flapping {
		s := p.shard(device)
		s.mu.RLock()
		if e := s.m[device]; e != nil && e.flap != nil && e.flap.Since != 0 && e.node == p.opts.Node {
			n++
		}
		s.mu.RUnlock()
	}
	return n
}

// tellConflicts tells listeners, the log and the audit of conflicts that are new.
func (p *Presence) tellConflicts(ctx context.Context) {
	p.mu.Lock()
	var news map[string]Conflict
	if len(p.news) > 0 {
		news, p.news = p.news, make(map[string]Conflict)
	}
	p.mu.Unlock()
	for device, c := range news {
		p.opts.Log.Warn("identity conflict: two devices use one identity", "device_id", device, "flaps", c.Flaps,
			"addresses", c.Addresses[:])
		if err := p.tellConflict(c); err != nil {
			p.opts.Log.Warn("identity conflict not told", "device_id", device, "err", err)
		}
		if p.opts.Conflicts == nil {
			continue
		}
		if err := p.opts.Conflicts.Conflict(ctx, c); err != nil {
			p.opts.Log.Warn("identity conflict not recorded", "device_id", device, "err", err)
		}
	}
}

func (p *Presence) tellConflict(c Conflict) error {
	subject, err := bus.PresenceEvent(c.Device)
	if err != nil {
		return err
	}
	event, err := json.Marshal(conflictEvent{
		Event: "identity_conflict", Device: c.Device, Flaps: c.Flaps, Addresses: c.Addresses[:], Since: c.Since.UnixMilli(), Node: c.Node,
	})
	if err != nil {
		return err
	}
	return p.opts.Events.Publish(subject, event)
}
