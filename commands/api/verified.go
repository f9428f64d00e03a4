package api

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxVerified bounds the tokens that are remembered; beyond it all are checked anew.
const maxVerified = 1024

// verified remembers tokens whose form and signature were good, by their digest: a program that asks again and again
// with one token does not wait for its signature each time. What can change is asked each time all the same: whether
// the token has expired, here, and by the caller whether its operator is still who it was.
type verified struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*claims // guarded by mu
}

func newVerified() *verified { return &verified{known: make(map[[sha256.Size]byte]*claims)} }

// find returns the claims of a token that was good before and has not expired.
func (v *verified) find(digest [sha256.Size]byte, now time.Time, skew time.Duration) *claims {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.known[digest]
	if c != nil && !now.Add(-skew).Before(time.Unix(c.Expires, 0)) {
		delete(v.known, digest)
		return nil
	}
	return c
}

func (v *verified) keep(digest [sha256.Size]byte, c *claims) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxVerified {
		clear(v.known)
	}
	v.known[digest] = c
}
