package auth

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
)

// The bounds of what tokens can make the hub ask an issuer.
const (
	// askEvery is the least time between two fetches because of kids that are not known.
	askEvery = 30 * time.Second
	// askWait is how long such a token waits for the answer, maxAsking how many may wait; the others are refused at once.
	askWait   = time.Second
	maxAsking = 64

	retryLeast = time.Second
	retryMost  = time.Minute
)

// issuer is one outside party and its keys.
type issuer struct {
	// static after newIssuer
	name, url, audience, claim string

	refresh time.Duration
	keep    time.Duration // of keys that could not be confirmed
	parts   issuerParts
	wake    chan struct{} // of 1
	set     atomic.Pointer[issuerSet]

	mu sync.Mutex // guards all below
	// arrived is closed when the fetch that is under way, or asked for, has ended; nil: there is none.
	arrived chan struct{}
	asking  int       // tokens that wait for arrived
	nextAsk time.Time // when an unknown kid may cause a fetch again
}

type issuerParts struct {
	client  *http.Client
	log     *slog.Logger
	metrics *metrics
	gone    func() // a key was removed
}

// issuerSet is what an issuer published. It is not changed once it is made.
type issuerSet struct {
	byKID   map[string]*PublicKey
	fetched time.Time
}

func newIssuer(c configs.Issuer, longest time.Duration, parts issuerParts) *issuer {
	i := &issuer{
		name: c.Issuer, url: c.JWKSURL, audience: c.Audience, claim: c.DeviceClaim, refresh: c.Refresh,
		// Whatever an older set could verify has expired: nothing is lost by dropping it.
		keep: c.Refresh + longest, parts: parts, wake: make(chan struct{}, 1),
		arrived: make(chan struct{}), // by the first fetch, with which run begins
	}
	i.set.Store(&issuerSet{})
	return i
}

// run fetches the keys now, then as often as configured and as asked.
func (i *issuer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry, failing := retryLeast, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-i.wake:
		}
		err := i.fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if failing {
				i.parts.log.Info("issuer answers again", "issuer", i.name)
			}
			retry, failing = retryLeast, false
			timer.Reset(jitter(i.refresh))
			continue
		case !failing:
			i.parts.log.Warn("issuer's keys not fetched, trying again; devices with its tokens are refused unless their key is known",
				"issuer", i.name, "url", i.url, "keys", len(i.set.Load().byKID), "err", err)
		}
		failing = true
		i.expire()
		timer.Reset(jitter(min(retry, i.refresh)))
		retry = min(2*retry, retryMost)
	}
}

// jitter spreads what many nodes do at the same interval.
func jitter(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

// fetch takes over what the issuer publishes now. On an error the keys stay as they were.
func (i *issuer) fetch(ctx context.Context) error {
	i.begin()
	defer i.end()
	found, err := fetchKeys(ctx, i.parts.client, i.url)
	if err != nil {
		i.parts.metrics.fetches.WithLabelValues(fetchFailed).Inc()
		return err
	}
	i.parts.metrics.fetches.WithLabelValues(fetchGood).Inc()
	i.take(found)
	return nil
}

// take makes found the keys. A key that is there still is kept as it is, so that tokens verified with it stay verified.
func (i *issuer) take(found published) {
	old := i.set.Load()
	next := &issuerSet{byKID: make(map[string]*PublicKey, len(found.keys)), fetched: time.Now()}
	for _, k := range found.keys {
		if was, ok := old.byKID[k.kid]; ok && was.equal(k) {
			k = was
		}
		next.byKID[k.kid] = k
	}
	i.set.Store(next)
	added, removed := 0, 0
	for kid, k := range next.byKID {
		if old.byKID[kid] != k {
			added++
		}
	}
	for kid, k := range old.byKID {
		if next.byKID[kid] != k {
			removed++
		}
	}
	if added+removed > 0 || old.fetched.IsZero() {
		i.parts.log.Info("issuer's keys", "issuer", i.name, "keys", len(next.byKID), "added", added, "removed", removed, "skipped", found.skipped)
	}
	for _, why := range found.skipped {
		i.parts.log.Debug("issuer's key not used", "issuer", i.name, "err", why)
	}
	if removed > 0 {
		i.parts.gone()
	}
}

// expire drops keys that nobody has confirmed for too long.
func (i *issuer) expire() {
	old := i.set.Load()
	if len(old.byKID) == 0 || time.Since(old.fetched) < i.keep {
		return
	}
	i.set.Store(&issuerSet{fetched: old.fetched})
	i.parts.log.Error("issuer's keys dropped: it has not answered for too long", "issuer", i.name, "for", i.keep)
	i.parts.gone()
}

// key finds the key that a token names. Without a kid it is the only one of the algorithm, if there is only one.
func (i *issuer) key(h header) (*PublicKey, error) {
	if k := i.set.Load().find(h); k != nil {
		return k, nil
	}
	if arrived := i.ask(); arrived != nil {
		patience := time.NewTimer(askWait)
		select {
		case <-arrived:
		case <-patience.C:
		}
		patience.Stop()
		i.mu.Lock()
		i.asking--
		i.mu.Unlock()
		if k := i.set.Load().find(h); k != nil {
			return k, nil
		}
	}
	return nil, refuse(UnknownKey, "kid is not a key of the issuer")
}

func (s *issuerSet) find(h header) *PublicKey {
	if k, ok := s.byKID[h.KID]; ok && h.KID != "" {
		if k.alg == h.Alg {
			return k
		}
		return nil
	}
	if h.KID != "" || len(s.byKID) != 1 {
		return nil
	}
	for _, k := range s.byKID {
		if k.alg == h.Alg {
			return k
		}
	}
	return nil
}

// ask has the keys fetched for a token that names another one, if that may be, and returns what to wait for: nil for
// those who shall not wait.
func (i *issuer) ask() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.arrived == nil {
		now := time.Now()
		if now.Before(i.nextAsk) {
			i.parts.metrics.unknown.WithLabelValues(askLimited).Inc()
			return nil
		}
		i.nextAsk = now.Add(askEvery)
		i.arrived = make(chan struct{})
		select {
		case i.wake <- struct{}{}:
		default: // asked already
		}
	}
	if i.asking >= maxAsking {
		i.parts.metrics.unknown.WithLabelValues(askLimited).Inc()
		return nil
	}
	i.asking++
	i.parts.metrics.unknown.WithLabelValues(askAsked).Inc()
	return i.arrived
}

func (i *issuer) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.arrived == nil {
		i.arrived = make(chan struct{})
	}
}

func (i *issuer) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.arrived)
	i.arrived = nil
	select {
	case <-i.wake: // asked for while it was under way: this was the answer
	default:
	}
}

// holds reports whether k is still a key of the issuer.
func (i *issuer) holds(k *PublicKey) bool { return i.set.Load().byKID[k.kid] == k }

// subject names the device that a token of the issuer is for.
func (i *issuer) subject(c *claims) (string, error) {
	if i.claim == defaultClaim {
		if c.Subject == "" {
			return "", errors.New("no sub")
		}
		return c.Subject, nil
	}
	device, ok := c.named[i.claim]
	if !ok {
		return "", fmt.Errorf("no %s", i.claim)
	}
	return device, nil
}

// equal reports whether both are the same key.
func (k *PublicKey) equal(other *PublicKey) bool {
	own, ok := k.key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.alg == other.alg && own.Equal(other.key)
}
