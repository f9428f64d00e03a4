package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	cacheShards = 16
	// maxCached is how many verified tokens are remembered; a reconnect storm presents the same ones again.
	maxCached = 64 << 10
	// evictLook is how many entries are looked at for an expired one when a shard is full.
	evictLook = 8
)

type sum [sha256.Size]byte

// digest hashes a token. Nothing is refused by its digest, only remembered as good: a token can be written in more
// than one way, and each way is verified on its own.
func digest(raw string) sum {
	return sha256.Sum256([]byte(raw))
}

// cache remembers verified tokens. What it returns is checked again against the clock and the record.
type cache struct {
	shards [cacheShards]struct {
		mu sync.Mutex
		m  map[sum]*Claims
	}
}

func newCache() *cache {
	c := &cache{}
	for i := range c.shards {
		c.shards[i].m = make(map[sum]*Claims)
	}
	return c
}

func (c *cache) get(k sum) (*Claims, bool) {
	s := &c.shards[k[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	claims, ok := s.m[k]
	return claims, ok
}

func (c *cache) put(k sum, claims *Claims, now time.Time) {
	s := &c.shards[k[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.m) >= maxCached/cacheShards {
		evict(s.m, now)
	}
	s.m[k] = claims
}

// evict makes room for one: an expired token if one is met soon, else whichever the map shows last.
func evict(m map[sum]*Claims, now time.Time) {
	var victim sum
	looked := 0
	for k, c := range m {
		victim = k
		if looked++; looked == evictLook || now.After(c.Expires) {
			break
		}
	}
	delete(m, victim)
}

func (c *cache) drop(k sum) {
	s := &c.shards[k[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
}
