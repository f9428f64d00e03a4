package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

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
		// What is behind one that was given up may be stored, but an ack would say so of that one too.
		if c.gaveUp = c.gaveUp || !c.publish(ctx, b); c.gaveUp {
			c.abandon(b)
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

// abandon lets go of a batch without a word: its devices hold its points.
func (c *Committer) abandon(b *batch) {
	c.metrics.abandoned.Add(float64(b.lines()))
	c.release(b)
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

// roomRetry is how long the committer waits before it looks again whether there is room.
const roomRetry = 100 * time.Millisecond

// hasRoom reports whether the log may take more. While it may not, the open batch fills, and then devices wait.
func (c *Committer) hasRoom() bool {
	err := c.space()
	if err != nil {
		if !c.cramped {
			c.stall(err)
		}
		// One look ahead is enough, however many frames ask meanwhile.
		if now := time.Now(); !now.Before(c.lookAgain) {
			c.lookAgain = now.Add(roomRetry)
			time.AfterFunc(roomRetry, c.ring)
		}
	} else if c.cramped {
		c.stall(nil)
	}
	c.cramped = err != nil
	return err == nil
}
