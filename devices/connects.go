package devices

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	connectShards = 16
	// sweepOver is how many devices' connects a shard remembers before it drops those that are forgiven, sweepEvery how
	// often it looks for them.
	sweepOver  = 64
	sweepEvery = time.Second
)

// connectLimit bounds how often one device, or one address, connects: perMinute in the long run, and as many at once.
type connectLimit[K comparable] struct {
	perMinute int
	shards    [connectShards]struct {
		mu    sync.Mutex
		m     map[K]time.Time // when all of the connects are forgiven
		swept time.Time
	}
}

// newConnectLimit returns a limit; zero is none.
func newConnectLimit[K comparable](perMinute int) *connectLimit[K] {
	l := &connectLimit[K]{perMinute: perMinute}
	for i := range l.shards {
		l.shards[i].m = make(map[K]time.Time)
	}
	return l
}

// allow counts one connect and reports whether it is within the limit. Shard is any number that depends on who.
func (l *connectLimit[K]) allow(who K, shard uint32, now time.Time) bool {
	if l.perMinute == 0 {
		return true
	}
	cost := time.Minute / time.Duration(l.perMinute)
	s := &l.shards[shard%connectShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	forgiven := s.m[who]
	if forgiven.Before(now) {
		forgiven = now
	}
	if forgiven = forgiven.Add(cost); forgiven.Sub(now) > time.Minute {
		return false
	}
	if len(s.m) >= sweepOver && now.Sub(s.swept) > sweepEvery {
		s.swept = now
		for d, t := range s.m {
			if t.Before(now) {
				delete(s.m, d)
			}
		}
	}
	s.m[who] = forgiven
	return true
}

// nodeRate bounds how many devices connect to the node in a second: as many at once.
type nodeRate struct {
	perSecond int64
	until     atomic.Int64 // when those who came would have come at the rate, Unix nanoseconds
}

// allow counts one connect and reports whether it is within the limit.
func (l *nodeRate) allow(now time.Time) bool {
	if l.perSecond == 0 {
		return true
	}
	at := now.UnixNano()
	for {
		was := l.until.Load()
		next := paid(was, at, 1, l.perSecond)
		if was > at+int64(time.Second) {
			next = paid(0, at, 1, l.perSecond) // the clock was set back
		}
		if next-at > int64(time.Second) {
			return false
		}
		if l.until.CompareAndSwap(was, next) {
			return true
		}
	}
}
