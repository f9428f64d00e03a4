package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// ErrNotConnected says that the device has no live session on this node.
var ErrNotConnected = errors.New("device is not connected")

const registryShards = 64

// Registry holds the live sessions of this node: it hands frames to them, ends them when their device's record says so,
// and watches over their liveness. The newest session of a device wins.
type Registry struct {
	// static after NewRegistry
	cfg      configs.Devices
	node     string
	records  *Records
	presence *Presence
	verifier *auth.Verifier
	log      *slog.Logger
	metrics  *metrics
	stile    *Turnstile
	now      func() time.Time
	started  time.Time
	most     int64
	files    int64 // connections that may be open
	rates    rates
	expects  []expectRule

	clock  atomic.Int64 // nanoseconds since started, as of the last tick
	timers clock
	seats  atomic.Int64 // sessions and handshakes
	life   life
	shards [registryShards]registryShard

	tracing atomic.Int64 // devices that somebody traces
	traceMu sync.Mutex
	tracers map[string]*tracer // guarded by traceMu
}

type registryShard struct {
	mu sync.RWMutex
	m  map[string]*Session
}

// RegistryOptions are the parts that a registry works with.
type RegistryOptions struct {
	Config   configs.Devices
	Node     string
	Records  *Records
	Presence *Presence
	Verifier *auth.Verifier
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Turns    *Turnstile       // of the listener; nil: one of its own
	Now      func() time.Time // nil: the system's clock
}

// NewRegistry returns a registry without sessions. It follows the records and the presence from now on.
func NewRegistry(o RegistryOptions) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Turns == nil {
		o.Turns = NewTurnstile(runtime.GOMAXPROCS(0))
	}
	files, err := filesOf(o.Config.MaxSessions)
	if err != nil {
		return nil, err
	}
	if o.Config.Heartbeat <= 0 || o.Config.FrameBytes <= 0 || o.Config.QueueBytes < o.Config.FrameBytes {
		return nil, fmt.Errorf("devices: heartbeat %s, frame_bytes %d, queue_bytes %d: all above zero, the queue at least a frame",
			o.Config.Heartbeat, o.Config.FrameBytes, o.Config.QueueBytes)
	}
	expects, err := parseExpect(o.Config.Expect)
	if err != nil {
		return nil, err
	}
	r := &Registry{
		rates: ratesOf(&o.Config), expects: expects, stile: o.Turns,
		cfg: o.Config, node: o.Node, records: o.Records, presence: o.Presence, verifier: o.Verifier, log: o.Log,
		metrics: newMetrics(o.Metrics), now: o.Now, started: o.Now(), most: int64(files.sessions), files: int64(files.connections), tracers: make(map[string]*tracer),
	}
	for i := range r.shards {
		r.shards[i].m = make(map[string]*Session)
	}
	gauges(o.Metrics, r)
	r.records.Observe(r.recordChanged)
	r.verifier.OnKeysGone(r.recheckAll)
	r.presence.onReplaced(r.replacedElsewhere)
	return r, nil
}

// MaxSessions is how many sessions this node takes.
func (r *Registry) MaxSessions() int { return int(r.most) }

// Room is how many connections may be open beside the sessions.
func (r *Registry) Room() int { return int(r.files - r.seats.Load()) }

// Len is the number of live sessions.
func (r *Registry) Len() int {
	n := 0
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		n += len(s.m)
		s.mu.RUnlock()
	}
	return n
}

func (r *Registry) shard(device string) *registryShard {
	return &r.shards[shardOf(device)%registryShards]
}

func (r *Registry) session(device string) *Session {
	s := r.shard(device)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[device]
}

// add makes s the device's session. An older one is told that it was replaced; if s itself is the older one, it is.
func (r *Registry) add(s *Session) {
	shard := r.shard(s.device)
	shard.mu.Lock()
	old := shard.m[s.device]
	if old == nil || old.epoch < s.epoch {
		shard.m[s.device] = s
	} else {
		old = s
	}
	shard.mu.Unlock()
	r.metrics.sessions.Inc()
	r.metrics.connects.Inc()
	if old != nil {
		old.stop(endReplaced)
	}
}

// remove takes a session that has ended out of the registry, and its device off line, unless a newer one is there.
func (r *Registry) remove(s *Session) {
	r.timers.remove(s)
	shard := r.shard(s.device)
	shard.mu.Lock()
	if shard.m[s.device] == s {
		delete(shard.m, s.device)
	}
	shard.mu.Unlock()
	s.mu.Lock()
	e := s.end
	s.mu.Unlock()
	s.traceEnd(e)
	heard := r.started.Add(time.Duration(s.heard.Load()))
	r.presence.pointedAt(s.device, s.pointed())
	r.presence.disconnected(s.device, s.epoch, e.cause, heard)
	r.seats.Add(-1)
	r.metrics.sessions.Dec()
	r.metrics.end(e)
	r.log.Debug("session ended", keyDevice, s.device, keySession, s.id, "code", int(e.code), "cause", e.cause)
}

// Deliver writes a command to the device's session and returns which one took it. It blocks until the frame is
// written, and fails with ErrNotConnected if there is no session or it ends meanwhile. A command without parameters has an
// empty object, so that a device finds all keys that the protocol names.
func (r *Registry) Deliver(ctx context.Context, device string, c wire.Command) (Attachment, error) {
	if len(c.Params) == 0 {
		c.Params = json.RawMessage("{}")
	}
	return r.write(ctx, device, &c)
}

// Cancel asks the device to stop acting on a command.
func (r *Registry) Cancel(ctx context.Context, device, id string) error {
	_, err := r.write(ctx, device, &wire.Cancel{ID: id})
	return err
}

// SendState writes a desired state to the device's session.
func (r *Registry) SendState(ctx context.Context, device string, st wire.State) error {
	_, err := r.write(ctx, device, &st)
	return err
}

func (r *Registry) write(ctx context.Context, device string, frame any) (Attachment, error) {
	s := r.session(device)
	if s == nil {
		return Attachment{}, ErrNotConnected
	}
	written := make(chan error, 1)
	if err := s.send(frame, written); err != nil {
		return Attachment{}, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	select {
	case err := <-written:
		if errors.Is(err, errEnded) {
			return Attachment{}, fmt.Errorf("%w: %w", ErrNotConnected, err)
		}
		if err != nil {
			// Part of it may have left, and more than this frame: the device may have it.
			return s.attachment(), fmt.Errorf("write to device: %w", err)
		}
		return s.attachment(), nil
	case <-ctx.Done():
		// It may still be written: who asked must count it as sent.
		return s.attachment(), ctx.Err()
	}
}

// Kick ends the device's session; the device may come back. It reports whether there was one.
func (r *Registry) Kick(device, reason string) bool {
	s := r.session(device)
	if s == nil {
		return false
	}
	s.stop(ending{code: CloseDraining, cause: causeKicked, reason: reason})
	return true
}

// recordChanged ends a session whose record does not allow it any more.
func (r *Registry) recordChanged(old, now *Record) {
	id := ""
	if now != nil {
		id = now.ID
	} else {
		id = old.ID
		r.presence.forget(id)
	}
	r.presence.expect(id, r.expectOf(now))
	if s := r.session(id); s != nil {
		s.recheck()
	}
}

// recheckAll ends the sessions whose tokens were verified with a key that is gone.
func (r *Registry) recheckAll() {
	for _, s := range r.all() {
		s.recheck()
	}
}

func (s *Session) recheck() {
	s.mu.Lock()
	claims := s.claims
	s.mu.Unlock()
	var rej *auth.Refusal
	if err := s.host.verifier.Still(claims); errors.As(err, &rej) {
		if rej.Status() == http.StatusUnauthorized { // the device may come back with another token
			s.stop(ending{code: CloseToken, cause: causeExpired, reason: rej.Detail})
			return
		}
		s.stop(ending{code: CloseRevoked, cause: causeRevoked, reason: rej.Detail})
	}
}

// replacedElsewhere ends a session that another node has a newer one for.
func (r *Registry) replacedElsewhere(device string, epoch uint64) {
	if s := r.session(device); s != nil && s.epoch <= epoch {
		s.stop(endReplaced)
	}
}

// Run watches over the sessions until ctx ends. It then refuses new ones, ends those there are, spread over the
// configured time, and returns when they have ended.
func (r *Registry) Run(ctx context.Context) error {
	r.log.Info("sessions", "max", r.most)
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { r.watchSessions(watching) })
	wg.Go(func() { r.watchSilence(watching) })
	defer wg.Wait()
	defer stop()
	<-ctx.Done()
	empty := r.life.shut()
	r.drain(empty)
	select {
	case <-empty:
		return nil
	case <-time.After(r.cfg.WriteTimeout + closeGrace):
		return fmt.Errorf("drain: %d sessions are still held by the log", r.Len())
	}
}

const (
	drainStep = 20 * time.Millisecond
	// returnRate is how many devices a second the rest of the fleet should be asked to take back.
	returnRate = 1000
)

// drain ends all sessions, evenly over the configured time and in no order, each with its own time to come back.
func (r *Registry) drain(empty <-chan struct{}) {
	all := r.all()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	back := time.Second + time.Duration(len(all))*time.Second/returnRate
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	start := time.Now()
	for done := 0; done < len(all); {
		upTo := len(all)
		if passed := time.Since(start); passed < r.cfg.DrainFor {
			upTo = int(float64(len(all)) * float64(passed) / float64(r.cfg.DrainFor))
		}
		for ; done < upTo; done++ {
			all[done].stop(ending{code: CloseDraining, cause: causeDraining, reason: "draining", retry: rand.N(back) + drainStep})
		}
		select {
		case <-empty:
			return
		case <-tick.C:
		}
	}
}

func (r *Registry) all() []*Session {
	var all []*Session
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		for _, session := range s.m {
			all = append(all, session)
		}
		s.mu.RUnlock()
	}
	return all
}

// life counts what must end before the registry has: a wait group that can be shut.
type life struct {
	mu    sync.Mutex
	n     int
	empty chan struct{} // not nil: shut; closed when n is zero
}

func (r *Registry) enter() bool {
	r.life.mu.Lock()
	defer r.life.mu.Unlock()
	if r.life.empty != nil {
		return false
	}
	r.life.n++
	return true
}

func (r *Registry) leave() {
	r.life.mu.Lock()
	defer r.life.mu.Unlock()
	if r.life.n--; r.life.n == 0 && r.life.empty != nil {
		close(r.life.empty)
	}
}

func (r *Registry) draining() bool {
	r.life.mu.Lock()
	defer r.life.mu.Unlock()
	return r.life.empty != nil
}

func (l *life) shut() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.empty == nil {
		l.empty = make(chan struct{})
		if l.n == 0 {
			close(l.empty)
		}
	}
	return l.empty
}
