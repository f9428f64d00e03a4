package ingest

import (
	"context"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
)

// gentleLanes is how many lanes write at once while the writer catches up beside devices that send. A store that takes
// writes as fast as it can leaves them no processor, where it shares the machine with the hub; and what has waited for
// minutes may wait for a little longer than an ack.
const gentleLanes = 1

// pace is how hard the writer presses on.
type pace struct {
	gentle atomic.Bool
	turns  chan struct{} // of lanes that write gently

	// owned by look
	waiting, last uint64
}

func newPace() pace { return pace{turns: make(chan struct{}, gentleLanes)} }

// begin waits for a lane's turn to write; finished ends it.
func (p *pace) begin(ctx context.Context) (finished func(), err error) {
	if !p.gentle.Load() {
		return func() {}, nil
	}
	select {
	case p.turns <- struct{}{}:
		return func() { <-p.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// look finds out whether the writer catches up: less is waiting than before, although more has come. If ever more waits,
// or nothing comes that could be held up, then the writer takes all it can get.
func (w *Writer) look(ctx context.Context, cons jetstream.Consumer) {
	p := &w.pace
	if w.Lag() < behind {
		p.gentle.Store(false)
		p.waiting, p.last = 0, 0
		return
	}
	info, err := cons.Info(ctx)
	if err != nil {
		return
	}
	w.mu.Lock()
	waiting := info.NumPending + uint64(len(w.batches))
	w.mu.Unlock()
	last := info.Delivered.Stream + info.NumPending
	p.gentle.Store(waiting < p.waiting && last > p.last)
	p.waiting, p.last = waiting, last
}
