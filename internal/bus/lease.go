package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A lease is renewed leaseTTL/3 apart and free again leaseTTL after its holder fell silent.
const (
	leaseTTL   = 15 * time.Second
	leaseRenew = leaseTTL / 3
	leaseRetry = 2 * time.Second
)

// errLeaseLost ends what was done under a lease that somebody else has now.
var errLeaseLost = errors.New("lease lost")

// Hold runs work on one node at a time: it waits for the lease called name, runs work with a context that ends when the
// lease is lost, and waits again. It returns when ctx ends, or when work fails by itself.
func (b *Bus) Hold(ctx context.Context, name string, work func(context.Context) error) error {
	kv, err := b.Bucket(ctx, BucketLeases)
	switch {
	case ctx.Err() != nil:
		return nil // whether it was found or not
	case err != nil:
		return err
	}
	for {
		rev, err := kv.Create(ctx, name, []byte(b.opts.Node))
		if err == nil {
			err = b.under(ctx, kv, name, rev, work)
			if !errors.Is(err, errLeaseLost) {
				return err
			}
			b.opts.Log.Warn("lease lost; another node goes on", "lease", name)
		} else if !errors.Is(err, jetstream.ErrKeyExists) && ctx.Err() == nil {
			b.opts.Log.Warn("ask for lease", "lease", name, "err", err)
		}
		select {
		case <-time.After(leaseRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

// under runs work while the lease can be renewed.
func (b *Bus) under(ctx context.Context, kv jetstream.KeyValue, name string, rev uint64, work func(context.Context) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- work(inner) }()
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			b.giveBack(kv, name, rev)
			if err == nil {
				err = context.Cause(inner)
			}
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-tick.C:
			renew, stop := context.WithTimeout(ctx, leaseRenew)
			next, err := kv.Update(renew, name, []byte(b.opts.Node), rev)
			stop()
			if err == nil {
				rev = next
				continue
			}
			if ctx.Err() == nil {
				cancel(fmt.Errorf("%w: %w", errLeaseLost, err))
			}
		}
	}
}

// giveBack frees the lease at once instead of after its time.
func (b *Bus) giveBack(kv jetstream.KeyValue, name string, rev uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), leaseRetry)
	defer cancel()
	// If it fails the lease runs out by itself.
	_ = kv.Purge(ctx, name, jetstream.LastRevision(rev))
}
