package enroll

import (
	"net/netip"
	"sync"
	"time"
)

// maxAddresses is how many addresses are remembered at once.
const maxAddresses = 16 << 10

// wrongCost is what a wrong secret counts as, in requests.
const wrongCost = 10

// limit bounds how often one address asks: perMinute in the long run, and as many at once.
type limit struct {
	cost time.Duration // of one request

	mu sync.Mutex
	m  map[netip.Addr]time.Time // when all of the address's requests are forgiven
}

func newLimit(perMinute int) *limit {
	return &limit{cost: time.Minute / time.Duration(max(perMinute, 1)), m: make(map[netip.Addr]time.Time)}
}

// allow counts one request and reports whether it is within the limit.
func (l *limit) allow(addr netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.forgiven(addr, now).Add(l.cost)
	if next.Sub(now) > time.Minute {
		return false
	}
	if _, known := l.m[addr]; !known && len(l.m) >= maxAddresses {
		l.makeRoom(now)
	}
	l.m[addr] = next
	return true
}

// charge makes a request that was allowed dearer.
func (l *limit) charge(addr netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.m[addr]; known {
		l.m[addr] = l.forgiven(addr, now).Add((wrongCost - 1) * l.cost)
	}
}

// forgiven is called with mu held.
func (l *limit) forgiven(addr netip.Addr, now time.Time) time.Time {
	if t := l.m[addr]; t.After(now) {
		return t
	}
	return now
}

// makeRoom drops who is forgiven, and if that is nobody, anybody. Called with mu held.
func (l *limit) makeRoom(now time.Time) {
	for a, t := range l.m {
		if !t.After(now) {
			delete(l.m, a)
		}
	}
	for a := range l.m {
		if len(l.m) < maxAddresses {
			return
		}
		delete(l.m, a)
	}
}
