package devices

import (
	"sync"
	"time"
)

const (
	connectShards = 16
	// sweepOver is how many devices' connects a shard remembers before it drops those that are forgiven, sweepEvery how
	// often it looks for them.
	sweepOver  = 64
	sweepEvery = time.Second
)

// connectLimit bounds how often one device connects: perMinute in the long run, and as many at once.
type connectLimit struct {
	perMinute int
	shards    [connectShards]struct {
		mu    sync.Mutex
		m     map[string]time.Time // when all of the device's connects are forgiven
		swept time.Time
	}
}

// newConnectLimit returns a limit; zero is none.
func newConnectLimit(perMinute int) *connectLimit {
	l := &connectLimit{perMinute: perMinute}
	for i := range l.shards {
		l.shards[i].m = make(map[string]time.Time)
	}
	return l
}

// allow counts one connect and reports whether it is within the limit.
func (l *connectLimit) allow(device string, now time.Time) bool {
	if l.perMinute == 0 {
		return true
	}
	cost := time.Minute / time.Duration(l.perMinute)
	s := &l.shards[shardOf(device)%connectShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	forgiven := s.m[device]
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
	s.m[device] = forgiven
	return true
}
