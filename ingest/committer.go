package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// ErrClosed says that the hub stops and takes no more points.
var ErrClosed = errors.New("the log is closed")

// Publisher is what the committer needs of the bus.
type Publisher interface {
	PublishAsync(subject string, payload []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error)
	Publish(ctx context.Context, subject string, payload []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Options say what a committer works with.
type Options struct {
	Config         configs.Ingest
	PointsPerFrame int
	Publisher      Publisher
	Types          jetstream.KeyValue                     // where the types of fields are kept; nil: in this process alone
	Room           func() error                           // why the log must take nothing more, or nil; nil: it always may
	Live           func(device string, t *wire.Telemetry) // points of watched devices; must not block
	Log            *slog.Logger
	Metrics        prometheus.Registerer
	Now            func() time.Time // nil: the clock
}

// inFlight is how many sealed batches may be on their way to the log. A batch is sealed when none is, or when it is
// full; so at rest latency is one sync, and under load the batches grow until the disk is never idle.
const inFlight = 4

// maxFrame bounds the line protocol of one frame: with many tags and points it can be much longer than the frame was,
// and must still fit one message of the bus.
const maxFrame = 768 << 10

// deviceSeries is how many series one device may have: measurements times tag sets.
const deviceSeries = 1000

// publishTimeout bounds one publish; a disk that takes longer is treated as one that is full.
const publishTimeout = 10 * time.Second

// Committer is the group commit: points of all devices go into one open batch; while one batch is synced the next one
// fills; on the publish ack every source in the batch hears how far it is stored.
type Committer struct {
	// static after New
	pub          Publisher
	rules        rules
	tags         []string
	types        *types
	space        func() error
	live         func(string, *wire.Telemetry)
	now          func() time.Time
	log          *slog.Logger
	metrics      *metrics
	batchBytes   int
	deviceFields int
	deviceSeries int

	watchAll atomic.Bool

	devMu   sync.RWMutex
	devices map[string]*device // guarded by devMu
	watched map[string]bool    // guarded by devMu

	mu      sync.Mutex
	room    sync.Cond     // waits for room in the open batch
	open    *batch        // guarded by mu
	free    []*batch      // guarded by mu
	flying  int           // sealed and not yet acked; guarded by mu
	holding bool          // while failed batches are published again; guarded by mu
	closed  bool          // guarded by mu
	ready   chan struct{} // closed once the types are known
	stop    chan struct{} // closed when the log takes no more
	wake    chan struct{}
	sealed  chan *batch

	stalled atomic.Pointer[error] // why the log takes nothing, or nil
	cramped bool                  // there was no room when it was last looked for; owned by Run
}

// batch is an open or sealed batch.
type batch struct {
	id     uint64
	lanes  [Lanes]lane
	bytes  int
	oldest int64
	notes  []note
	msg    []byte
	future jetstream.PubAckFuture
	err    error
}

// note says up to where a source is stored when the batch is.
type note struct {
	src    *Source
	seq    uint64
	waiter Waiter // of src, while the batch settles
}

// New returns a committer; Run makes it work.
func New(o Options) (*Committer, error) {
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	c := &Committer{
		pub: o.Publisher, rules: newRules(o.Config, o.PointsPerFrame), tags: o.Config.Tags,
		types: newTypes(o.Types, o.Config.TotalSeries), live: o.Live, now: o.Now, log: o.Log, metrics: m,
		space:      o.Room,
		batchBytes: o.Config.BatchBytes - batchHeader, deviceFields: o.Config.DeviceFields, deviceSeries: deviceSeries,
		devices: make(map[string]*device), watched: make(map[string]bool), open: &batch{id: 1},
		wake: make(chan struct{}, 1), sealed: make(chan *batch, inFlight), ready: make(chan struct{}), stop: make(chan struct{}),
	}
	if c.now == nil {
		c.now = clockNow
	}
	if c.space == nil {
		c.space = func() error { return nil }
	}
	if c.live == nil {
		c.live = func(string, *wire.Telemetry) {}
	}
	c.room.L = &c.mu
	return c, nil
}

// add puts the rendered lines of s into the open batch.
func (c *Committer) add(s *Source, lines int, seq uint64, now int64) error {
	c.mu.Lock()
	for c.open.bytes > 0 && c.open.bytes+len(s.buf) > c.batchBytes && !c.closed {
		c.metrics.waits.Inc()
		c.room.Wait()
	}
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	b := c.open
	if b.bytes == 0 {
		b.oldest = now
	}
	l := &b.lanes[s.dev.lane]
	l.data = append(l.data, s.buf...)
	l.lines += lines
	b.bytes += len(s.buf)
	if seq != 0 && s.waiter != nil {
		if s.batch != b.id {
			s.batch, s.note = b.id, len(b.notes)
			b.notes = append(b.notes, note{src: s})
		}
		b.notes[s.note].seq = seq
	}
	ring := c.flying == 0 || c.full(b)
	c.mu.Unlock()
	if ring {
		c.ring()
	}
	return nil
}

// full reports whether b is worth a sync of its own.
func (c *Committer) full(b *batch) bool { return b.bytes >= c.batchBytes*3/4 }

// ring wakes the sealer.
func (c *Committer) ring() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// forget takes s out of the open batch's notes.
func (c *Committer) forget(s *Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.batch == c.open.id && s.note < len(c.open.notes) && c.open.notes[s.note].src == s {
		c.open.notes[s.note].src = nil
	}
	s.waiter = nil
}

// Run commits until ctx ends, and then what is still open. It returns when nothing is on its way any more.
func (c *Committer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { c.confirm(ctx) })
	wg.Go(func() { c.followTypes(ctx) })
	for {
		select {
		case <-c.wake:
			c.seal()
			continue
		case <-ctx.Done():
		}
		break
	}
	c.finish()
	close(c.sealed)
	wg.Wait()
	return nil
}

// Ready is closed once the committer knows the types of all fields that were ever stored.
func (c *Committer) Ready() <-chan struct{} { return c.ready }

// followTypes keeps the type registry as the other nodes see it, and tries again when the bus was away.
func (c *Committer) followTypes(ctx context.Context) {
	known := sync.OnceFunc(func() { close(c.ready) })
	for {
		if err := c.types.watch(ctx, known); err != nil && ctx.Err() == nil {
			c.log.Warn("types of fields are not followed", "err", err)
		}
		if !pause(ctx, retryMost) {
			return
		}
	}
}

// settleType claims a type, however long the bus is away; ErrClosed when the hub stops first.
func (c *Committer) settleType(measurement, field string, k kind) error {
	for told := false; ; told = true {
		err := c.types.claim(context.Background(), measurement, field, k)
		if err == nil || errors.Is(err, errTooManyFields) {
			return err
		}
		c.metrics.failures.Inc()
		if !told {
			c.log.Warn("type of a new field is not settled yet; its device waits", "err", err)
		}
		select {
		case <-time.After(retryMost):
		case <-c.stop:
			return ErrClosed
		}
	}
}

// finish closes the log to sources and sends off what is open.
func (c *Committer) finish() {
	c.mu.Lock()
	c.closed = true
	close(c.stop)
	c.room.Broadcast()
	left := c.open.bytes
	c.mu.Unlock()
	for c.seal(); left > 0; <-c.wake {
		c.seal()
		c.mu.Lock()
		left = c.open.bytes
		lines := c.open.lines()
		c.mu.Unlock()
		if left == 0 {
			return
		}
		if c.cramped {
			c.metrics.abandoned.Add(float64(lines)) // never acked; their devices hold them
			return
		}
	}
}

// seal sends off the open batch, if it has something and there is a reason to.
func (c *Committer) seal() {
	if !c.hasRoom() {
		return
	}
	c.mu.Lock()
	b := c.open
	if b.bytes == 0 || c.holding || c.flying >= inFlight || c.flying > 0 && !c.full(b) && !c.closed {
		c.mu.Unlock()
		return
	}
	next := &batch{}
	if n := len(c.free); n > 0 {
		next, c.free = c.free[n-1], c.free[:n-1]
	}
	next.id = b.id + 1
	c.open = next
	c.flying++
	c.room.Broadcast()
	c.mu.Unlock()

	b.msg = appendBatch(b.msg[:0], b.oldest, &b.lanes)
	c.metrics.batch(b)
	b.future, b.err = c.pub.PublishAsync(bus.TelemetrySubject, b.msg)
	c.sealed <- b // has room for all that may be flying
}

// confirm waits for the batches in the order in which they were sealed: acks leave strictly in commit order.
func (c *Committer) confirm(ctx context.Context) {
	for b := range c.sealed {
		if err := c.await(b); err != nil {
			c.recover(ctx, b, err)
			continue
		}
		c.settle(b)
	}
}

// await waits for the publish ack of b.
func (c *Committer) await(b *batch) error {
	if b.err != nil {
		return b.err
	}
	late := time.NewTimer(publishTimeout)
	defer late.Stop()
	select {
	case <-b.future.Ok():
		return nil
	case err := <-b.future.Err():
		return err
	case <-late.C:
		// A log that cannot write does not answer at all.
		return errUnanswered
	}
}

var errUnanswered = fmt.Errorf("no answer to a publish in %s", publishTimeout)

// roomRetry is how long the committer waits before it looks again whether there is room.
const roomRetry = 100 * time.Millisecond

// hasRoom reports whether the log may take more. While it may not, the open batch fills, and then devices wait.
func (c *Committer) hasRoom() bool {
	err := c.space()
	if err != nil {
		if !c.cramped {
			c.stall(err)
		}
		time.AfterFunc(roomRetry, c.ring)
	} else if c.cramped {
		c.stall(nil)
	}
	c.cramped = err != nil
	return err == nil
}

// settle tells the sources of b that it is stored, and reuses its room.
func (c *Committer) settle(b *batch) {
	c.mu.Lock()
	for i := range b.notes {
		if src := b.notes[i].src; src != nil {
			b.notes[i].waiter = src.waiter
		}
	}
	c.mu.Unlock()
	for i := range b.notes {
		if w := b.notes[i].waiter; w != nil {
			w.Stored(b.notes[i].seq)
		}
	}
	c.metrics.committed(b)
	c.release(b)
}

// release makes room for another batch.
func (c *Committer) release(b *batch) {
	b.reset()
	c.mu.Lock()
	c.flying--
	if len(c.free) < inFlight+1 {
		c.free = append(c.free, b)
	}
	c.mu.Unlock()
	c.ring()
}

// recover publishes b again until the log takes it, together with all that was sealed after it: a later batch may have
// been stored before, and then stands once more behind b, so that the order of a device's points holds. Nobody in them
// is acked before. Points that are stored twice are one in InfluxDB.
func (c *Committer) recover(ctx context.Context, b *batch, err error) {
	c.mu.Lock()
	c.holding = true // nothing new may overtake
	others := c.flying - 1
	c.mu.Unlock()
	pending := []*batch{b}
	for range others {
		later := <-c.sealed
		_ = c.await(later) // whatever came of it, it is published again
		pending = append(pending, later)
	}
	c.stall(err)
	for _, b := range pending {
		if !c.publish(ctx, b) {
			c.metrics.abandoned.Add(float64(b.lines()))
			c.release(b)
			continue
		}
		c.settle(b)
	}
	c.mu.Lock()
	c.holding = false
	c.mu.Unlock()
	c.ring()
	c.stall(nil)
}

// The wait between two attempts of a publish that fails.
const (
	retryFirst = 50 * time.Millisecond
	retryMost  = time.Second
)

// publish repeats b until it is stored; false when the hub stops first. Its points were never acked then, and their
// devices still hold them.
func (c *Committer) publish(ctx context.Context, b *batch) bool {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		if ctx.Err() != nil && wait > retryFirst {
			return false
		}
		err := c.space()
		if err == nil {
			attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
			_, err = c.pub.Publish(attempt, bus.TelemetrySubject, b.msg)
			cancel()
		}
		if err == nil {
			return true
		}
		c.stall(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// stall notes why the log takes nothing, for readiness, the metric and once for the log.
func (c *Committer) stall(err error) {
	was := c.stalled.Load()
	if err == nil {
		c.stalled.Store(nil)
		if was != nil {
			c.metrics.stalled.Set(0)
			c.log.Info("log takes points again")
		}
		return
	}
	c.stalled.Store(&err)
	c.metrics.failures.Inc()
	if was == nil {
		c.metrics.stalled.Set(1)
		c.log.Error("log takes no points; devices are slowed down until it does", "err", err, "full", bus.IsFull(err))
	}
}

// Healthy reports why the log takes no points, or nil.
func (c *Committer) Healthy() error {
	err := c.space()
	if stalled := c.stalled.Load(); err == nil && stalled != nil {
		err = *stalled
	}
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

func (b *batch) lines() (n int) {
	for i := range b.lanes {
		n += b.lanes[i].lines
	}
	return n
}

// keepLane is the most room that a reused batch keeps per lane.
const keepLane = 512 << 10

func (b *batch) reset() {
	for i := range b.lanes {
		b.lanes[i].lines = 0
		if cap(b.lanes[i].data) > keepLane {
			b.lanes[i].data = nil
		}
		b.lanes[i].data = b.lanes[i].data[:0]
	}
	clear(b.notes)
	b.notes = b.notes[:0]
	b.bytes, b.future, b.err = 0, nil, nil
}
