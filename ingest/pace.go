package ingest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
)

// gentleLanes is how many lanes write at once while the writer catches up beside devices that send. A store that takes
// writes as fast as it can leaves them no processor, where it shares the machine with the hub; and what has waited for
// minutes may wait for a little longer than an ack.
const gentleLanes = 1

// pace is how hard the writer presses on.
type pace struct {
	turns chan struct{} // of lanes that write gently
	waits atomic.Int32  // lanes that have none yet

	mu     sync.Mutex
	gentle bool          // guarded by mu
	hasty  chan struct{} // closed while no lane needs a turn; guarded by mu

	// owned by look
	waiting, last uint64
}

func (p *pace) init() {
	p.turns, p.hasty = make(chan struct{}, gentleLanes), make(chan struct{})
	close(p.hasty)
}

// set says whether lanes write gently. Those that wait for a turn go on when they no longer need one.
func (p *pace) set(gentle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case gentle && !p.gentle:
		p.hasty = make(chan struct{})
	case !gentle && p.gentle:
		close(p.hasty)
	}
	p.gentle = gentle
}

// begin waits for a lane's turn to ask the store once; finished ends it.
func (p *pace) begin(ctx context.Context) (finished func(), err error) {
	p.mu.Lock()
	gentle, hasty := p.gentle, p.hasty
	p.mu.Unlock()
	if !gentle {
		return func() {}, nil
	}
	p.waits.Add(1)
	defer p.waits.Add(-1)
	select {
	case p.turns <- struct{}{}:
		return func() { <-p.turns }, nil
	case <-hasty:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// look finds out whether the writer catches up: less is waiting than before, although more has come. If ever more waits,
// or nothing comes that could be held up, then the writer takes all it can get.
func (w *Writer) look(ctx context.Context, cons jetstream.Consumer) {
	p := &w.pace
	if w.Lag() < behind {
		p.set(false)
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
	p.set(waiting < p.waiting && last > p.last)
	p.waiting, p.last = waiting, last
}
