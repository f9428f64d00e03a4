package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Outside servers forget what they keep in memory when they start again: who is on line, and who holds which lease. The
// hub makes both anew once it is connected again.

// Renewed is closed when the buckets in memory were next made anew, empty: who has something there says it again.
func (b *Bus) Renewed() <-chan struct{} {
	b.renewMu.Lock()
	defer b.renewMu.Unlock()
	if b.renewed == nil {
		b.renewed = make(chan struct{})
	}
	return b.renewed
}

// renew declares everything again after each reconnect, until ctx ends.
func (b *Bus) renew(ctx context.Context) error {
	for {
		select {
		case <-b.back:
		case <-ctx.Done():
			return nil
		}
		for {
			err := b.declareLost(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			b.opts.Log.Warn("look for what the bus has lost", "err", err)
			select {
			case <-time.After(mendEvery):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// declareLost declares the streams again if those in memory are gone. Another hub may have been faster: then they are
// there, and their watchers have to begin anew all the same.
func (b *Bus) declareLost(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mendTime)
	defer cancel()
	kv, err := b.js.KeyValue(ctx, BucketLeases)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if err := b.declare(ctx, b.sizes); err != nil {
			return fmt.Errorf("declare the bus: %w", err)
		}
		kv, err = b.js.KeyValue(ctx, BucketLeases)
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", BucketLeases, err)
	}
	made, err := madeAt(ctx, kv)
	if err != nil {
		return err
	}
	if made.Equal(b.made) {
		return nil
	}
	b.made = made
	b.opts.Log.Warn("the bus has lost what it kept in memory; it was made anew")
	b.renewMu.Lock()
	defer b.renewMu.Unlock()
	if b.renewed != nil {
		close(b.renewed)
		b.renewed = nil
	}
	return nil
}

// madeAt is when a bucket was made.
func madeAt(ctx context.Context, kv jetstream.KeyValue) (time.Time, error) {
	status, err := kv.Status(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("bucket %s: %w", kv.Bucket(), err)
	}
	s, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return time.Time{}, fmt.Errorf("bucket %s: status %T", kv.Bucket(), status)
	}
	return s.StreamInfo().Created, nil
}
