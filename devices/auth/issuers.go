package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
)

// The defaults of an outside issuer, for what its configuration leaves out.
const (
	defaultRefresh = 10 * time.Minute
	defaultClaim   = "sub"
)

// Issuers are the outside parties whose tokens the hub takes. Their keys come from their JWKS addresses and are kept in
// memory; no token is looked up over the network but a few with a kid that is new.
type Issuers struct {
	// static after NewIssuers
	byName map[string]*issuer
	claims []string // that name devices, besides sub

	mu   sync.Mutex
	gone []func() // guarded by mu
}

// NewIssuers returns the issuers of the configuration. They have no keys until Run runs.
func NewIssuers(cfg configs.Auth, log *slog.Logger, reg prometheus.Registerer) (*Issuers, error) {
	is := &Issuers{byName: make(map[string]*issuer, len(cfg.Issuers))}
	m := newMetrics(reg)
	for _, c := range cfg.Issuers {
		c.Audience = cmp.Or(c.Audience, cfg.Audience)
		c.DeviceClaim = cmp.Or(c.DeviceClaim, defaultClaim)
		c.Refresh = cmp.Or(c.Refresh, defaultRefresh)
		switch {
		case c.Issuer == "" || c.Issuer == cfg.Issuer:
			return nil, fmt.Errorf("auth.issuers: issuer %q is empty or the hub's own", c.Issuer)
		case is.byName[c.Issuer] != nil:
			return nil, fmt.Errorf("auth.issuers: %q is there twice", c.Issuer)
		case c.Audience == "":
			return nil, errors.New("auth.issuers: no audience: tokens for anybody would be good here")
		}
		client, err := jwksClient(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("auth.issuers: %s: %w", c.Issuer, err)
		}
		is.byName[c.Issuer] = newIssuer(c, cfg.MaxTokenTTL, issuerParts{client: client, log: log, metrics: m, gone: is.keysGone})
		if c.DeviceClaim != defaultClaim && !slices.Contains(is.claims, c.DeviceClaim) {
			is.claims = append(is.claims, c.DeviceClaim)
		}
	}
	return is, nil
}

// Run keeps the keys of all issuers fresh until ctx ends. An issuer that is down is told to the log, and asked again.
func (is *Issuers) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, i := range is.byName {
		wg.Go(func() { i.run(ctx) })
	}
	wg.Wait()
	<-ctx.Done()
	return nil
}

// issuer returns who signs as name; nil if nobody does.
func (is *Issuers) issuer(name string) *issuer {
	if is == nil {
		return nil
	}
	return is.byName[name]
}

func (is *Issuers) deviceClaims() []string {
	if is == nil {
		return nil
	}
	return is.claims
}

func (is *Issuers) onGone(fn func()) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.gone = append(is.gone, fn)
}

func (is *Issuers) keysGone() {
	is.mu.Lock()
	told := slices.Clone(is.gone)
	is.mu.Unlock()
	for _, fn := range told {
		fn()
	}
}
