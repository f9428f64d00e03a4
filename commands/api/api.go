package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Options are what an API is made of. A nil part leaves its calls out, and out of the OpenAPI document.
type Options struct {
	Bus      *bus.Bus // operators, audit, live events
	Node     string
	Issuer   string   // of operator tokens
	KeysDir  string   // signing keys of operator tokens
	Origins  []string // further sites whose pages may call, as https://host[:port]
	External string   // address to put into links that a caller asks for; empty: the request's own host

	// Remote is where a request comes from, for the audit log. Nil: the peer, which behind a proxy is the proxy.
	Remote func(*http.Request) string

	// Plaintext says that the listener speaks HTTP: cookies are then not Secure.
	Plaintext bool

	TokenTTL    time.Duration // of operator tokens; 0: 30 days
	MaxTokenTTL time.Duration // 0: 366 days
	Skew        time.Duration // tolerated between clocks; 0: 30 s

	Devices     Devices
	History     History
	Commands    Commander
	Leases      Leases
	Approver    Approver
	Jobs        Jobs
	Twin        Twin
	Bridge      BridgeStatus
	Deadletters Deadletters
	Types       FieldTypes
	Nodes       Nodes
	Trace       Trace
	Enrollments Enrollments
	Transfer    Transfer
	DeviceKeys  HubKeys // that sign device tokens
	Watcher     Watcher // nil: telemetry events are always produced

	Log      *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time // nil: time.Now
}

const (
	defaultTokenTTL    = 30 * 24 * time.Hour
	defaultMaxTokenTTL = 366 * 24 * time.Hour
	defaultSkew        = 30 * time.Second

	sweepEvery = 10 * time.Minute
	keysEvery  = 10 * time.Second
)

// API is the operators' side of a hub.
type API struct {
	// static after New
	opts      Options
	tokens    *tokens
	dir       *directory
	audit     *auditLog
	live      *live
	metrics   *metrics
	endpoints []endpoint
	document  func() ([]byte, error)
	origins   map[string]bool
	cross     *http.CrossOriginProtection
	keysGone  chan struct{} // of 1: a node removed a key
	requests  *places       // of operators
	strangers *places       // requests of callers who are not known yet, by address
	waits     *places       // of operators, for commands
	omissions *omissions
}

// New reads the operators and the signing keys, making the first key if there is none. It starts nothing.
func New(ctx context.Context, o Options) (*API, error) {
	if o.Devices == nil || o.Commands == nil || o.Bus == nil || o.Issuer == "" || o.KeysDir == "" {
		return nil, errors.New("api: Devices, Commands, Bus, Issuer and KeysDir are needed")
	}
	setDefaults(&o)
	keys, err := OpenKeys(o.KeysDir)
	if err != nil {
		return nil, err
	}
	kv, err := o.Bus.Bucket(ctx, bus.BucketOperators)
	if err != nil {
		return nil, err
	}
	stream, err := o.Bus.Stream(ctx, bus.StreamAudit)
	if err != nil {
		return nil, err
	}
	dir, err := openDirectory(ctx, kv, o.Now)
	if err != nil {
		return nil, err
	}
	a := &API{
		opts: o, tokens: newTokens(keys, o), dir: dir, metrics: newMetrics(o.Registry),
		audit:     openAudit(o.Bus.JetStream(), stream, o.Node, o.Now),
		origins:   map[string]bool{},
		cross:     http.NewCrossOriginProtection(),
		requests:  newPlaces(maxInFlight, operatorInFlight, ErrOverloaded, errRequests),
		strangers: newPlaces(maxStrangers, addressStrangers, errStrangers, errAddress),
		waits:     newPlaces(maxWaits, operatorWaits, errAllWaits, errWaits),
		omissions: newOmissions(o.Now),
		keysGone:  make(chan struct{}, 1),
	}
	if err := a.trustOrigins(); err != nil {
		return nil, err
	}
	a.live = newLive(a)
	dir.changed, dir.keyGone = a.live.recheck, a.keyWithdrawn
	keys.gone, keys.withdrawn = a.live.recheckAll, func(kid string) bool { return dir.withdrawn(OperatorKeys, kid) }
	a.endpoints = a.routes()
	a.document = sync.OnceValues(a.openAPI)
	return a, nil
}

func setDefaults(o *Options) {
	if o.TokenTTL == 0 {
		o.TokenTTL = defaultTokenTTL
	}
	if o.MaxTokenTTL == 0 {
		o.MaxTokenTTL = defaultMaxTokenTTL
	}
	if o.Skew == 0 {
		o.Skew = defaultSkew
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Remote == nil {
		o.Remote = peer
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
}

func (a *API) trustOrigins() error {
	for _, origin := range a.opts.Origins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" {
			return fmt.Errorf("auth.origins: %q: want https://host or https://host:port", origin)
		}
		if err := a.cross.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("auth.origins: %w", err)
		}
		a.origins[origin] = true
	}
	return nil
}

// Run follows the operators of other nodes, serves live views, removes what has expired and records what the audit log
// leaves out, until ctx ends; then it closes all live views and returns once they are gone.
func (a *API) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.dir.watch(ctx) })
	g.Go(func() error { return a.live.run(ctx) })
	g.Go(func() error { return a.sweep(ctx) })
	g.Go(func() error { return a.rereadKeys(ctx) })
	g.Go(func() error { return a.tellOmissions(ctx) })
	return g.Wait()
}

// keyWithdrawn ends what a key signed that some node has removed. It reads no file, for it holds up the watch.
func (a *API) keyWithdrawn() {
	a.live.recheckAll()
	select {
	case a.keysGone <- struct{}{}:
	default:
	}
}

// rereadKeys follows what other nodes, or people, do to the directory of the signing keys.
func (a *API) rereadKeys(ctx context.Context) error {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.keysGone:
			if a.opts.DeviceKeys != nil {
				if err := a.opts.DeviceKeys.Reload(); err != nil {
					a.opts.Log.Error("device keys not reloaded", "err", err)
				}
			}
		case <-tick.C:
		}
		err := a.tokens.keys.Reload()
		if err != nil && !failing {
			a.opts.Log.Error("operator keys not reloaded", "err", err)
		}
		failing = err != nil
	}
}

func (a *API) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := a.dir.sweep(ctx); err != nil && ctx.Err() == nil {
				a.opts.Log.Warn("expired sessions not removed", "err", err)
			}
		}
	}
}
