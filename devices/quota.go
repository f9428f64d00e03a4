package devices

import (
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
)

const (
	// quotaBurst is how far a device may be ahead of its rates: as much as it may send in this time, at once.
	quotaBurst = int64(time.Second)
	// A device that is over its rates is not read from for a while: long enough to cost little, short enough that a
	// socket that has ended is noticed.
	leastPause = 50 * time.Millisecond
	mostPause  = time.Second
	// quotaRetry is when a device that was sent away for its rates may come back.
	quotaRetry = 15 * time.Second
	// A hello that changes something costs a durable write, and schemas to compile. A device may say one so often, and is
	// held back once it is further ahead than the burst: one that finds its parts one after the other is not.
	helloEvery = 10 * time.Second
	helloBurst = 3 * helloEvery
)

// rates are what one device may send in a second; 0 is any number.
type rates struct{ frames, bytes, points int64 }

func ratesOf(c *configs.Devices) rates {
	return rates{int64(c.FramesPerSecond), int64(c.BytesPerSecond), int64(c.PointsPerSecond)}
}

// quota is what one device has sent, held against its rates: for each rate the time at which that much would have come
// at the rate, in nanoseconds on the clock of its owner. Until then the device is ahead.
type quota struct {
	frames, bytes, points int64
}

// paid is when n more would have come at a rate.
func paid(until, now, n, rate int64) int64 {
	if rate == 0 {
		return until
	}
	return max(until, now) + n*int64(time.Second)/rate
}

func (q *quota) frame(now int64, r *rates, size int) {
	q.frames, q.bytes = paid(q.frames, now, 1, r.frames), paid(q.bytes, now, int64(size), r.bytes)
}

func (q *quota) measured(now int64, r *rates, points int) {
	q.points = paid(q.points, now, int64(points), r.points)
}

// ahead is how far the device is ahead of the rate that it exceeds most.
func (q *quota) ahead(now int64) int64 { return max(q.frames, q.bytes, q.points) - now }

// meter holds the session back if its device is over its rates. The registry's clock, as of its last tick, is exact
// enough: a burst is worth many ticks.
func (s *Session) meter(now int64) {
	q := &s.quota
	ahead := q.ahead(now)
	if ahead <= quotaBurst {
		if s.slowed != 0 && ahead < quotaBurst/2 {
			s.slowed = 0
		}
		return
	}
	second := wholeSecond(now)
	if s.slowed == 0 {
		s.slowed = second
		s.host.metrics.slowed.Inc()
	}
	if patience := s.host.cfg.QuotaPatience; patience > 0 && time.Duration(second-s.slowed)*time.Second > patience {
		s.stop(endQuota)
		return
	}
	s.pause(min(max(time.Duration(ahead-quotaBurst), leastPause), mostPause))
}

// meterHellos holds the session back if its device changes what it says of itself too often. The newest hello counts by
// then, so none is lost if the session ends meanwhile.
func (s *Session) meterHellos() {
	for first := true; !s.ending(); first = false {
		ahead := time.Duration(s.hellos-s.host.clock.Load()) - helloBurst
		if ahead <= 0 {
			return
		}
		if first {
			s.host.metrics.slowed.Inc()
		}
		s.pause(min(max(ahead, leastPause), mostPause))
	}
}

// wholeSecond is the registry's clock in seconds, rounded up, so that it is never zero: a session keeps small what need
// not be exact.
func wholeSecond(now int64) int32 { return int32(now/int64(time.Second)) + 1 }

// pause reads nothing for a while, so that TCP slows the device down. It ends early with the session.
func (s *Session) pause(d time.Duration) {
	s.busy.Store(true)
	over := time.NewTimer(d)
	defer over.Stop()
	for passed := false; !passed; {
		s.mu.Lock()
		if s.end != nil {
			s.mu.Unlock()
			break
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room: // the session ends, or something was stored
		case <-over.C:
			passed = true
		}
	}
	s.heard.Store(s.host.clock.Load())
	s.busy.Store(false)
}

const (
	postShards = 16
	// A shard with so many devices drops those that are not ahead any more, at most once in postSweep.
	postSweepOver = 64
	postSweep     = time.Second
)

// postQuota holds what devices post against the same rates. A post pays once it is known what it holds, so one that is
// over the rates holds up the next.
type postQuota struct {
	rates  rates
	start  time.Time // its clock counts from then, also when the hub's is set
	shards [postShards]struct {
		mu    sync.Mutex
		m     map[string]*quota
		swept int64
	}
}

func newPostQuota(r rates, start time.Time) *postQuota {
	p := &postQuota{rates: r, start: start}
	for i := range p.shards {
		p.shards[i].m = make(map[string]*quota)
	}
	return p
}

// wait is how long a device has to wait before it may post again.
func (p *postQuota) wait(device string, now time.Time) time.Duration {
	s := &p.shards[shardOf(device)%postShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.m[device]
	if q == nil {
		return 0
	}
	return time.Duration(max(0, q.ahead(int64(now.Sub(p.start)))-quotaBurst))
}

// pay counts one post.
func (p *postQuota) pay(device string, now time.Time, size, points int) {
	if p.rates == (rates{}) {
		return
	}
	at := int64(now.Sub(p.start))
	s := &p.shards[shardOf(device)%postShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.m[device]
	if q == nil {
		if len(s.m) >= postSweepOver && at-s.swept > int64(postSweep) {
			s.swept = at
			for d, old := range s.m {
				if old.ahead(at) <= 0 {
					delete(s.m, d)
				}
			}
		}
		q = &quota{}
		s.m[device] = q
	}
	q.frame(at, &p.rates, size)
	q.measured(at, &p.rates, points)
}
