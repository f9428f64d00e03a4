package ingest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

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

// finish closes the log to sources and sends off what is open.
func (c *Committer) finish() {
	c.mu.Lock()
	c.closed = true
	c.stop()
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
	// Not repeated by itself if nobody answers for the log, as while its servers elect a leader: a later batch would be stored
	// meanwhile, without any error, and so before this one. recover repeats in order.
	b.future, b.err = c.pub.PublishAsync(bus.TelemetrySubject, b.msg, jetstream.WithRetryAttempts(0))
	c.sealed <- b // has room for all that may be flying
}

// confirm waits for the batches in the order in which they were sealed: acks leave strictly in commit order.
func (c *Committer) confirm(ctx context.Context) {
	for b := range c.sealed {
		if c.gaveUp {
			c.abandon(b)
			continue
		}
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

// settle tells the sources of b that it is stored, and reuses its room.
func (c *Committer) settle(b *batch) {
	c.mu.Lock()
	for i := range b.notes {
		if src := b.notes[i].src; src != nil && !src.holdLocked(b.id) {
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

// holdLocked reports whether the ack of batch id waits for the next one, where more of the source is already: once, so
// that a device which always sends is acked at every other commit. A device's window would otherwise fall apart into
// ever smaller pieces, each with a read, an ack and a write of its own.
func (s *Source) holdLocked(id uint64) bool {
	s.held = s.batch > id && !s.held
	return s.held
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
