package devices

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// watch is when a session is looked at next, and why. Times are nanoseconds on the registry's clock, except for the
// token's, which are Unix milliseconds: they follow the wall clock when it is set.
type watch struct {
	slot     int32 // in the clock's heap, plus one; guarded by clock.mu
	due      int64 // guarded by clock.mu
	nextPing int64
	closeAt  int64 // the socket is closed then; 0: not ending
	warnAt   int64 // the device is asked for a new token then; 0: was asked
	expireAt int64
	nonce    uint64
	pinged   bool
}

const (
	warnShare = 0.8
	warnLeast = time.Minute
)

// renewed sets when the device is asked for the next token: at 80 % of this one's life, or a minute before its end if
// that is later.
func (w *watch) renewed(c *auth.Claims, now time.Time) {
	from := c.IssuedAt
	if from.IsZero() || from.After(now) {
		from = now
	}
	life := c.Expires.Sub(from)
	warn := from.Add(time.Duration(warnShare * float64(life)))
	if late := c.Expires.Add(-warnLeast); late.After(warn) {
		warn = late
	}
	w.warnAt, w.expireAt = warn.UnixMilli(), c.Expires.UnixMilli()
}

// clock is the one timer of all sessions: a heap of when each is to be looked at. It is read a few times a second.
type clock struct {
	mu   sync.Mutex
	heap []*Session
}

// set says when a session is looked at next.
func (c *clock) set(s *Session, due int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.watch.due = due
	if s.watch.slot == 0 {
		c.heap = append(c.heap, s)
		s.watch.slot = int32(len(c.heap))
	}
	c.fix(int(s.watch.slot) - 1)
}

// sooner is set unless the session is looked at earlier anyway.
func (c *clock) sooner(s *Session, due int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.watch.slot != 0 && s.watch.due > due {
		s.watch.due = due
		c.fix(int(s.watch.slot) - 1)
	}
}

func (c *clock) remove(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := int(s.watch.slot) - 1
	if i < 0 {
		return
	}
	last := len(c.heap) - 1
	c.swap(i, last)
	c.heap[last] = nil
	c.heap = c.heap[:last]
	s.watch.slot = 0
	if i < last {
		c.fix(i)
	}
}

// first returns a session that is due, or nil.
func (c *clock) first(now int64) *Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.heap) == 0 || c.heap[0].watch.due > now {
		return nil
	}
	return c.heap[0]
}

func (c *clock) fix(i int) {
	for i > 0 && c.less(i, (i-1)/2) {
		c.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(c.heap) && c.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		c.swap(i, least)
		i = least
	}
}

func (c *clock) less(i, j int) bool { return c.heap[i].watch.due < c.heap[j].watch.due }

func (c *clock) swap(i, j int) {
	c.heap[i], c.heap[j] = c.heap[j], c.heap[i]
	c.heap[i].watch.slot, c.heap[j].watch.slot = int32(i+1), int32(j+1)
}

// tickEvery is how often the clock is read: often enough for closeGrace and short heartbeats.
func tickEvery(heartbeat time.Duration) time.Duration {
	return min(max(heartbeat/64, 5*time.Millisecond), 200*time.Millisecond)
}

// watchSessions looks at sessions when they are due, until ctx ends.
func (r *Registry) watchSessions(ctx context.Context) {
	tick := time.NewTicker(tickEvery(r.cfg.Heartbeat))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wall := r.now()
		now := int64(wall.Sub(r.started))
		r.clock.Store(now)
		for s := r.timers.first(now); s != nil; s = r.timers.first(now) {
			s.tick(now, wall)
		}
	}
}

// tick does what is due and sets when to look again. It does not block. All is done under the session's lock: whoever ends
// the session meanwhile wants it looked at sooner, and that must not be put off again.
func (s *Session) tick(now int64, wall time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next := s.tickLocked(now, wall); next > 0 {
		s.host.timers.set(s, next)
	} else {
		s.host.timers.remove(s)
	}
}

// tickLocked does what is due and returns when to look again; 0 is never.
func (s *Session) tickLocked(now int64, wall time.Time) int64 {
	w := &s.watch
	if w.closeAt != 0 {
		if now < w.closeAt {
			return w.closeAt
		}
		s.out.ended = true
		s.sock.abort()
		return 0
	}
	beat := int64(s.host.cfg.Heartbeat)
	if s.busy.Load() {
		s.heard.Store(now) // the device is not to blame for what the hub does not read
	}
	heard := s.heard.Load()
	ms := wall.UnixMilli()
	switch {
	case now-heard >= 2*beat:
		s.endLocked(endTimeout)
		return w.closeAt
	case ms >= w.expireAt:
		s.endLocked(endExpired)
		return w.closeAt
	case w.warnAt != 0 && ms >= w.warnAt:
		w.warnAt = 0
		s.askTokenLocked()
	}
	if now >= w.nextPing {
		s.pingLocked()
		w.nextPing = now + beat - beat/20 + rand.Int64N(beat/10+1)
	}
	next := min(w.nextPing, heard+2*beat, now+(w.expireAt-ms)*int64(time.Millisecond))
	if w.warnAt != 0 {
		next = min(next, now+(w.warnAt-ms)*int64(time.Millisecond))
	}
	return max(next, now+1)
}

func (s *Session) pingLocked() {
	s.watch.nonce, s.watch.pinged = rand.Uint64(), true
	var payload [8]byte
	binary.BigEndian.PutUint64(payload[:], s.watch.nonce)
	s.queueLocked(websocket.PingMessage, payload[:])
	s.host.metrics.pings.Inc()
}

func (s *Session) askTokenLocked() {
	ask := &wire.Token{Expires: s.claims.Expires.UnixMilli()}
	if payload, err := wire.Append(nil, s.codec, ask); err == nil {
		s.queueLocked(s.opcode(), payload)
	}
}

// expire closes the session's socket after a while. Called with s.mu held.
func (r *Registry) expire(s *Session, after time.Duration) {
	now := int64(r.now().Sub(r.started))
	s.watch.closeAt = now + int64(after)
	r.timers.sooner(s, s.watch.closeAt)
}

// reschedule looks at the session soon, since what it waits for has changed.
func (r *Registry) reschedule(s *Session) { r.timers.sooner(s, r.clock.Load()) }
