package ingest

import (
	"context"
	"errors"
	"sync"
	"time"
)

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
		err := c.types.claim(c.alive, measurement, field, k)
		if err == nil || errors.Is(err, errTooManyFields) {
			return err
		}
		c.metrics.failures.Inc()
		if !told {
			c.log.Warn("type of a new field is not settled yet; its device waits", "err", err)
		}
		select {
		case <-time.After(retryMost):
		case <-c.alive.Done():
			return ErrClosed
		}
	}
}
