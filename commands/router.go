package commands

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Link reaches the devices that this node holds.
type Link interface {
	// Deliver writes c to the device's live session on this node and returns the session that took it. It returns
	// ErrNotConnected only if nothing was written; after any other error the frame may have left.
	Deliver(ctx context.Context, device string, c wire.Command) (Delivery, error)
	// Cancel asks the device to stop acting on a command. Nothing follows from its success.
	Cancel(ctx context.Context, device, id string) error
}

// Presence knows who is on line, and where. It must not block.
type Presence interface {
	Node(device string) (node string, online bool)
}

// Devices knows the device records and what each device announced. It must not block.
type Devices interface {
	// Born returns when the record was made, in Unix milliseconds: the next device of the id has another one.
	Born(device string) (born int64, known bool)
	// Spec returns how the device announced a command: announced says whether it announced any, known whether this one.
	Spec(device, command string) (spec wire.CommandSpec, announced, known bool)
}

// Options are what a Router is made of.
type Options struct {
	Config   configs.Commands
	Bus      *bus.Bus
	Node     string
	Link     Link
	Presence Presence
	Devices  Devices
	Policy   *Policy   // nil: no command needs a second operator
	Notes    Annotator // nil: none
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Router takes commands from operators to devices and keeps what becomes of them. It is safe for concurrent use.
type Router struct {
	// static after New
	cfg      configs.Commands
	bus      *bus.Bus
	node     string
	link     Link
	presence Presence
	devices  Devices
	log      *slog.Logger
	metrics  *metrics
	schemas  *schemas
	policy   *Policy
	notes    Annotator
	alone    bool   // nobody else writes the log
	from     string // this run of this node, in the log
	ready    chan struct{}
	late     chan lateAnswer // answers to commands that are not in memory
	alarm    chan struct{}   // a deadline came nearer
	leftOver chan struct{}   // something of a deleted device could not be taken back

	// static after Run began
	history *history
	leases  *leases
	commits *committer
	live    *nats.Conn // own connection for the log
	ctx     context.Context

	workers sync.WaitGroup

	// guarded by mu
	mu       sync.Mutex
	ledger   ledger
	keys     keyring
	pipes    map[string]*pipe
	timers   deadlines
	inflight map[uint64]*outgoing // published by this run, by number
	early    []func()             // answers that came before the log was read
	remains  map[remains]struct{} // deleted devices of which something is to be taken back
	started  bool
	stopping bool
}

// New returns a Router. It starts nothing: Run does.
func New(o Options) (*Router, error) {
	if err := wire.CheckID(o.Node); err != nil {
		return nil, fmt.Errorf("commands: node: %w", err)
	}
	for key, n := range map[string]int{
		"queue_per_device": o.Config.QueuePerDevice, "sent_per_device": o.Config.SentPerDevice,
		"drain_per_second": o.Config.DrainPerSecond, "max_open": o.Config.MaxOpen, "params_bytes": o.Config.ParamsBytes,
	} {
		if n < 1 {
			return nil, fmt.Errorf("commands.%s: %d; must be at least 1", key, n)
		}
	}
	r := &Router{
		cfg: o.Config, bus: o.Bus, node: o.Node, link: o.Link, presence: o.Presence, devices: o.Devices,
		policy: o.Policy, notes: o.Notes,
		log: o.Log, schemas: newSchemas(o.Log), alone: o.Bus.Alone(), from: o.Node + "/" + newSuffix() + newSuffix(),
		ready: make(chan struct{}), late: make(chan lateAnswer, maxLateChecks), alarm: make(chan struct{}, 1),
		leftOver: make(chan struct{}, 1), remains: make(map[remains]struct{}),
		pipes: make(map[string]*pipe), inflight: make(map[uint64]*outgoing),
	}
	r.ledger = newLedger()
	r.keys = newKeyring()
	r.metrics = newMetrics(o.Metrics, r.openCommands)
	return r, nil
}

// Ready is closed once the open commands are in memory and the Router serves. Until then Create and the rest wait.
func (r *Router) Ready() <-chan struct{} { return r.ready }

// Run rebuilds the open commands from the log and serves until ctx ends. What was proposed by then is still recorded.
func (r *Router) Run(ctx context.Context) error {
	js, nc, err := r.openLog(ctx)
	if err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	defer nc.Close()
	if err := r.rebuild(ctx); err != nil {
		return fmt.Errorf("commands: %w", err)
	}

	abort, cancelAbort := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelAbort()
	// The committer outlives everybody who proposes.
	committing, stopCommitting := context.WithCancel(abort)
	defer stopCommitting()
	r.commits = newCommitter(js, nc, r.from, r.metrics, r.published, r.committed)
	var commits, others sync.WaitGroup
	commits.Go(func() { r.commits.Run(committing, abort) })
	loaded := make(chan struct{})
	others.Go(func() { r.leases.watch(ctx, loaded) })
	select {
	case <-loaded:
	case <-ctx.Done():
	}
	r.serve(ctx)
	others.Go(func() { r.watchDeadlines(ctx) })
	others.Go(func() { r.resolveLate(ctx) })
	others.Go(func() { r.keepFloor(ctx) })
	others.Go(func() { r.clearAway(ctx) })
	if !r.alone {
		others.Go(func() { r.follow(ctx) })
	}

	<-ctx.Done()
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	hard := time.AfterFunc(stopTimeout, cancelAbort)
	defer hard.Stop()
	others.Wait()
	r.workers.Wait()
	stopCommitting()
	commits.Wait()
	return r.storeFloor(abort)
}

// openLog opens the router's own connection to the log, so that commands never wait behind bulk traffic.
func (r *Router) openLog(ctx context.Context) (jetstream.JetStream, *nats.Conn, error) {
	_, nc, err := r.bus.Dedicated("commands")
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(publishTimeout), jetstream.WithDefaultTimeout(publishTimeout))
	if err == nil {
		r.history, err = openHistory(ctx, r.bus)
	}
	if err == nil {
		r.leases, err = openLeases(ctx, r.bus, r.log)
	}
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	r.live = nc
	return js, nc, nil
}

// publishTimeout is when a publish without an answer counts as unclear.
const publishTimeout = 10 * time.Second

// serve lets everybody in, those first who came too early.
func (r *Router) serve(ctx context.Context) {
	r.mu.Lock()
	r.ctx, r.started = ctx, true
	early := r.early
	r.early = nil
	for _, p := range r.pipes {
		r.takeBackLocked(p, false)
		r.kickLocked(p)
	}
	for _, device := range r.leases.unmarked() {
		if _, known := r.devices.Born(device); !known {
			r.remainsLocked(device, 0)
		}
	}
	r.mu.Unlock()
	for _, f := range early {
		f()
	}
	close(r.ready)
}

// awaitReady waits until the Router serves.
func (r *Router) awaitReady(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	default:
	}
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("commands are not ready: %w", ctx.Err())
	}
}

// propose hands an entry to the log. If it returns an error, done is not called.
func (r *Router) propose(p *proposal, urgent bool) error {
	if p.done == nil {
		p.done = func(*tracked, bool, error) {}
	}
	return r.commits.propose(p, urgent)
}

// record proposes an urgent entry and waits until it is durable.
func (r *Router) record(ctx context.Context, device string, e entry) (*tracked, bool, error) {
	type answer struct {
		t         *tracked
		effective bool
		err       error
	}
	heard := make(chan answer, 1)
	err := r.propose(&proposal{device: device, entry: e, done: func(t *tracked, effective bool, err error) {
		heard <- answer{t, effective, err}
	}}, true)
	if err != nil {
		return nil, false, err
	}
	select {
	case a := <-heard:
		return a.t, a.effective, a.err
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

func (r *Router) openCommands() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return float64(len(r.ledger.open))
}
