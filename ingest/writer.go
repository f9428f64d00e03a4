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
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/configs"
)

// WriterConsumer is the durable cursor of the writer in the log.
const WriterConsumer = "influx-writer"

// The writer's bounds.
const (
	writeBytes   = 8 << 20               // of one write to the store
	heldBytes    = 64 << 20              // of batches in memory, all lanes together
	linger       = 50 * time.Millisecond // how long a write waits for company when nothing is behind
	behind       = time.Second           // lag from which on the writer is behind
	maxUnwritten = 4096                  // batches in memory and not yet wholly written
	// laneQueue is how many batches wait in one lane: all that may be in memory. Many small ones make one write, and a
	// lane that writes must not keep the others from being dealt theirs.
	laneQueue  = maxUnwritten
	watchEvery = time.Second // how often the lag is measured
)

// Log is the stream of the bus from which the writer reads.
type Log interface {
	CreateOrUpdateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error)
	DeleteConsumer(ctx context.Context, name string) error
	ListConsumers(ctx context.Context) jetstream.ConsumerInfoLister
	Info(ctx context.Context, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error)
	Purge(ctx context.Context, opts ...jetstream.StreamPurgeOpt) error
}

// WriterOptions say what a writer works with.
type WriterOptions struct {
	Config  configs.Ingest
	Log     Log
	Store   Store
	Dead    *Deadletters
	Files   func() []uint64 // the first batches of the files that the log lies in, see cut; nil: not known
	Slog    *slog.Logger
	Metrics prometheus.Registerer
}

// Writer carries batches from the log to the store and cuts the log behind them.
type Writer struct {
	// static after New
	log       Log
	store     Store
	dead      *Deadletters
	slog      *slog.Logger
	metrics   *writerMetrics
	files     func() []uint64
	lineLimit int
	lanes     [Lanes]chan piece

	mu      sync.Mutex
	held    int                 // bytes of batches in memory; guarded by mu
	freed   sync.Cond           // waits for held to fall
	batches map[uint64]*pending // by stream sequence; guarded by mu
	dealt   uint64              // stream sequence of the last batch that was taken out of the log; guarded by mu
	stopped bool                // guarded by mu

	pace    pace
	wrote   atomic.Bool           // a batch was wholly written since the log was cut last
	trouble atomic.Pointer[error] // why nothing can be written, or nil
	lag     atomic.Int64          // age of the oldest unwritten point, ns
}

// pending is a batch that is not yet wholly written.
type pending struct {
	size   int
	oldest int64
	left   atomic.Int32 // lanes to go
	seq    uint64
}

// piece is one lane of a batch.
type piece struct {
	lane
	of *pending
}

// NewWriter returns a writer; Run makes it work.
func NewWriter(o WriterOptions) (*Writer, error) {
	m, err := newWriterMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	w := &Writer{
		log: o.Log, store: o.Store, dead: o.Dead, slog: o.Slog, metrics: m, files: o.Files, lineLimit: o.Config.WriteLines,
		batches: make(map[uint64]*pending),
	}
	w.pace.init()
	w.freed.L = &w.mu
	return w, nil
}

// Run writes until ctx ends. What is not written then stays in the log. Only one writer may run on a log: two would not
// keep the order of a device's points.
func (w *Writer) Run(ctx context.Context) error {
	for {
		err := w.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		// Nothing is lost: what was not written is still in the log, and is read from there again.
		w.slog.Warn("reading the log was broken off; it begins anew", "err", err)
		if !pause(ctx, retryMost) {
			return nil
		}
	}
}

// errBroken says that the log's messages no longer come, or one of them was lost on its way.
var errBroken = errors.New("cursor in the log is broken")

// run writes until ctx ends or the cursor breaks.
func (w *Writer) run(ctx context.Context) error {
	cons, err := w.cursor(ctx)
	if err != nil {
		return fmt.Errorf("cursor of the writer: %w", err)
	}
	w.reset()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.read(ctx, cons) })
	for i := range w.lanes {
		g.Go(func() error { return w.writeLane(ctx, w.lanes[i]) })
	}
	g.Go(func() error { return w.cut(ctx) })
	g.Go(func() error { return w.watch(ctx, cons) })
	g.Go(func() error {
		<-ctx.Done()
		w.mu.Lock()
		w.stopped = true
		w.freed.Broadcast()
		w.mu.Unlock()
		return nil
	})
	return g.Wait()
}

// cursor begins at the first batch that is still in the log: an earlier writer's stands behind what that one had taken and
// perhaps not written. Batches are not acknowledged to it: what is written the writer knows itself, the log is cut there,
// and the next writer begins with a new cursor. So nothing is sent twice while this writer lives.
func (w *Writer) cursor(ctx context.Context) (jetstream.Consumer, error) {
	if err := w.log.DeleteConsumer(ctx, WriterConsumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err
	}
	return w.log.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: WriterConsumer, AckPolicy: jetstream.AckNonePolicy,
	})
}

// reset forgets what an earlier Run had in memory.
func (w *Writer) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.batches)
	w.held, w.dealt, w.stopped = 0, 0, false
	for i := range w.lanes {
		w.lanes[i] = make(chan piece, laneQueue)
	}
}

// read pulls batches out of the log and deals them to the lanes.
func (w *Writer) read(ctx context.Context, cons jetstream.Consumer) error {
	it, err := cons.Messages(jetstream.PullMaxBytes(4<<20), jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	stop := context.AfterFunc(ctx, it.Stop)
	defer stop()
	defer it.Stop()
	for number := uint64(1); ; {
		msg, err := it.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return errors.Join(errBroken, ctx.Err())
		}
		if err != nil {
			w.slog.Warn("read the log", "err", err)
			continue
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		// A message that was dealt out and lost, with a connection or a server, is never sent again: see cursor.
		if meta.Sequence.Consumer != number {
			return fmt.Errorf("%w: message %d came as number %d, not %d", errBroken, meta.Sequence.Stream, meta.Sequence.Consumer, number)
		}
		number++
		if err := w.deal(ctx, msg, meta.Sequence.Stream); err != nil {
			return err
		}
	}
}

// watch measures how old the oldest unwritten point is.
func (w *Writer) watch(ctx context.Context, cons jetstream.Consumer) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			w.measure(now)
			w.look(ctx, cons)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *Writer) measure(now time.Time) {
	oldest := int64(0)
	w.mu.Lock()
	for _, p := range w.batches {
		if oldest == 0 || p.oldest < oldest {
			oldest = p.oldest
		}
	}
	w.mu.Unlock()
	lag := time.Duration(0)
	if oldest != 0 {
		lag = max(now.Sub(time.Unix(0, oldest)), 0)
	}
	w.lag.Store(int64(lag))
	w.metrics.lag.Set(lag.Seconds())
}

// Lag is the age of the oldest point that is acked and not yet in the store.
func (w *Writer) Lag() time.Duration { return time.Duration(w.lag.Load()) }

// Healthy reports why nothing can be written, or nil.
func (w *Writer) Healthy() error {
	if err := w.trouble.Load(); err != nil {
		return fmt.Errorf("influx: %w", *err)
	}
	return nil
}

// written is up to where all batches are wholly written; 0 if that is not known yet.
func (w *Writer) written() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	floor := w.dealt
	for seq := range w.batches {
		floor = min(floor, seq-1)
	}
	return floor
}
