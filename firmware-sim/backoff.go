package sim

import (
	"math/rand/v2"
	"time"
)

// Backoff says how long a device waits before it connects again: a random time between zero and a bound that doubles
// with each try from Base to Max.
type Backoff struct{ Base, Max time.Duration }

// The waits of a device that is not told others, and how long a session must have lasted to start from Base again.
const (
	defaultBackoffBase = 500 * time.Millisecond
	defaultBackoffMax  = 30 * time.Second
	steadySession      = 10 * time.Second
)

func (b Backoff) withDefaults() Backoff {
	if b.Base <= 0 {
		b.Base = defaultBackoffBase
	}
	if b.Max <= 0 {
		b.Max = defaultBackoffMax
	}
	return b
}

// wait returns the time before the try-th try. What the hub asked for is the least of it; the jitter comes on top, so
// that a fleet that was sent away together does not come back together.
func (b Backoff) wait(try int, asked time.Duration) time.Duration {
	bound := min(b.Base<<min(try, 30), b.Max)
	if bound <= 0 {
		bound = b.Max
	}
	jitter := rand.N(bound)
	if asked > 0 {
		return asked + min(jitter, asked/2+b.Base)
	}
	return jitter
}
