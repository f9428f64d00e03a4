package twin

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// slotState says where a device's reports are.
type slotState uint8

const (
	slotReady   slotState = iota // may be written
	slotWriting                  // being written
	slotResting                  // was written lately
)

// slot holds what one device has reported and is not stored: one patch, however many reports. A device has a slot from
// its first report until reportEvery after the last write.
type slot struct {
	patch  map[string]any // nil: nothing waits
	bytes  int
	rev    uint64 // counts changes of patch
	state  slotState
	failed bool // the last write; told once
}

// rest ends at a time. All rests are equally long, so they end in the order in which they began.
type rest struct {
	device string
	until  time.Time
}

// reports is what waits to be stored.
type reports struct {
	wake  chan struct{}
	limit *rate.Limiter

	mu       sync.Mutex
	slots    map[string]*slot // guarded by mu
	ready    []string         // guarded by mu: slots in slotReady, oldest first
	resting  []rest           // guarded by mu
	bytes    int              // guarded by mu: of all patches
	draining bool             // guarded by mu: the node stops, so nobody rests
}

func newReports() *reports {
	return &reports{
		wake: make(chan struct{}, 1), slots: make(map[string]*slot), limit: rate.NewLimiter(reportRate, reportBurst),
	}
}

// mark names a state of a device's slot, to find out whether it has changed.
type mark struct {
	slot *slot
	rev  uint64
}

// look returns what waits for a device. idle says that nothing waits and nothing is being written.
func (r *reports) look(device string) (patch map[string]any, m mark, idle bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[device]
	if s == nil {
		return nil, mark{}, true
	}
	return s.patch, mark{s, s.rev}, s.patch == nil && s.state != slotWriting
}

// put makes patch what waits for a device, unless that has changed since it was looked at.
func (r *reports) put(device string, m mark, patch map[string]any, bytes int) (done bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[device]
	if s != m.slot || s != nil && s.rev != m.rev {
		return false, nil
	}
	if r.draining {
		return false, ErrClosed
	}
	before := 0
	if s != nil {
		before = s.bytes
	}
	if r.bytes-before+bytes > maxPending {
		return false, ErrOverloaded
	}
	if s == nil {
		s = &slot{}
		r.slots[device] = s
		r.readyLocked(device, s)
	}
	r.setLocked(s, patch, bytes)
	return true, nil
}

func (r *reports) setLocked(s *slot, patch map[string]any, bytes int) {
	r.bytes += bytes - s.bytes
	s.patch, s.bytes = patch, bytes
	s.rev++
}

func (r *reports) readyLocked(device string, s *slot) {
	s.state = slotReady
	r.ready = append(r.ready, device)
	r.wakeLocked()
}

func (r *reports) wakeLocked() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// next takes the reports that are to be written now, and waits until there are some. It ends with ctx, or when nothing
// is left while draining.
func (r *reports) next(ctx context.Context) (device string, patch map[string]any, ok bool) {
	for {
		device, patch, wait := r.take(time.Now())
		if patch != nil {
			return device, patch, true
		}
		if wait < 0 || ctx.Err() != nil {
			return "", nil, false
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// idleWait is how long a writer waits that knows of nothing to come; a report wakes it.
const idleWait = time.Hour

// take returns the oldest reports that may be written, or how long to wait for some; below 0 there is nothing to wait
// for.
func (r *reports) take(now time.Time) (device string, patch map[string]any, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rouseLocked(now)
	for len(r.ready) > 0 {
		device, r.ready = r.ready[0], r.ready[1:]
		s := r.slots[device]
		if s.patch == nil { // its device was deleted
			delete(r.slots, device)
			continue
		}
		patch, s.state = s.patch, slotWriting
		r.setLocked(s, nil, 0)
		if len(r.ready)+len(r.resting) > 0 {
			r.wakeLocked() // another writer must go on, or watch the clock
		}
		return device, patch, 0
	}
	switch {
	case r.draining:
		return "", nil, -1
	case len(r.resting) > 0:
		return "", nil, max(r.resting[0].until.Sub(now), 0)
	}
	return "", nil, idleWait
}

// rouseLocked ends the rests that are over.
func (r *reports) rouseLocked(now time.Time) {
	for len(r.resting) > 0 && (r.draining || !r.resting[0].until.After(now)) {
		device := r.resting[0].device
		r.resting = r.resting[1:]
		s := r.slots[device]
		if s.patch == nil {
			delete(r.slots, device)
			continue
		}
		s.state = slotReady
		r.ready = append(r.ready, device)
	}
}

// written ends a write. What could not be written waits again, below what came meanwhile, unless the node stops. It
// reports whether the failure is news.
func (r *reports) written(device string, unwritten map[string]any) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[device]
	news = unwritten != nil && !s.failed
	s.failed = unwritten != nil
	if r.draining {
		delete(r.slots, device)
		return news
	}
	s.state = slotResting
	r.resting = append(r.resting, rest{device, time.Now().Add(reportEvery)})
	if len(r.resting) == 1 {
		r.wakeLocked() // somebody must watch the clock
	}
	if unwritten != nil {
		if s.patch != nil {
			unwritten = composePatch(unwritten, s.patch)
		}
		r.setLocked(s, unwritten, weigh(unwritten))
	}
	return news
}

// forget drops what waits for a deleted device.
func (r *reports) forget(device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.slots[device]; s != nil {
		r.setLocked(s, nil, 0)
	}
}

// drain ends all rests, refuses reports, and tells how many wait.
func (r *reports) drain() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	n := 0
	for _, s := range r.slots {
		if s.patch != nil {
			n++
		}
	}
	return n
}

// waiting is how many devices have reports that wait.
func (r *reports) waiting() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return float64(len(r.slots))
}
