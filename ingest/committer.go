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
	Retention      time.Duration // of the store; 0: for ever
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

	alive context.Context // ends when the log takes no more: what waits for the bus on a device's behalf is no call of anybody's
	stop  context.CancelFunc

	watchAll atomic.Bool

	devMu   sync.RWMutex
	devices map[string]*device // guarded by devMu
	watched map[string]bool    // guarded by devMu

	mu       sync.Mutex
	room     sync.Cond     // waits for room in the open batch
	next     *Source       // whose lines come first in batch nextFrom; guarded by mu
	nextFrom uint64        // guarded by mu
	open     *batch        // guarded by mu
	free     []*batch      // guarded by mu
	flying   int           // sealed and not yet acked; guarded by mu
	holding  bool          // while failed batches are published again; guarded by mu
	closed   bool          // guarded by mu
	ready    chan struct{} // closed once the types are known
	wake     chan struct{}
	sealed   chan *batch

	stalled atomic.Pointer[error] // why the log takes nothing, or nil
	gaveUp  bool                  // on a batch, as the hub stops; owned by confirm
	// owned by Run
	cramped   bool      // there was no room when it was last looked for
	lookAgain time.Time // when it is looked for next, if nobody asks before
}

// New returns a committer; Run makes it work.
func New(o Options) (*Committer, error) {
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	c := &Committer{
		pub: o.Publisher, rules: newRules(o.Config, o.Retention, o.PointsPerFrame), tags: o.Config.Tags,
		types: newTypes(o.Types, o.Config.TotalSeries), live: o.Live, now: o.Now, log: o.Log, metrics: m,
		space:      o.Room,
		batchBytes: o.Config.BatchBytes - batchHeader, deviceFields: o.Config.DeviceFields, deviceSeries: deviceSeries,
		devices: make(map[string]*device), watched: make(map[string]bool), open: &batch{id: 1},
		wake: make(chan struct{}, 1), sealed: make(chan *batch, inFlight), ready: make(chan struct{}),
	}
	c.alive, c.stop = context.WithCancel(context.Background())
	if c.now == nil {
		c.now = clockNow
	}
	if c.space == nil {
		c.space = func() error { return nil }
	}
	if c.live == nil {
		c.live = func(string, *wire.Telemetry) {}
	}
	c.types.changed = c.retype
	c.room.L = &c.mu
	return c, nil
}

// MaxAge is how old a point may be, be it by ingest.max_age or by the store's retention.
func (c *Committer) MaxAge() time.Duration { return c.rules.maxAge }

// add puts the rendered lines of s into the open batch.
func (c *Committer) add(s *Source, lines int, seq uint64, now int64) error {
	c.mu.Lock()
	for !c.fitsLocked(s) && !c.closed {
		c.metrics.waits.Inc()
		c.room.Wait()
	}
	if c.next == s {
		c.next = nil
		c.room.Broadcast()
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

// fitsLocked reports whether the open batch has room for the lines of s. Lines that need most of a batch would seldom find
// one empty enough while many short frames come: so the next batch is theirs first, but no two batches in a row.
func (c *Committer) fitsLocked(s *Source) bool {
	b := c.open
	if c.next != nil && c.next != s && c.nextFrom <= b.id {
		return false
	}
	if b.bytes == 0 || b.bytes+len(s.buf) <= c.batchBytes {
		return true
	}
	if len(s.buf) > c.batchBytes/2 && c.next == nil && c.nextFrom != b.id {
		c.next, c.nextFrom = s, b.id+1
	}
	return false
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

// Ready is closed once the committer knows the types of all fields that were ever stored.
func (c *Committer) Ready() <-chan struct{} { return c.ready }
