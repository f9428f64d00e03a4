package commands

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// keepFloor moves the durable floor up now and then, and makes room in the log before it is full.
func (r *Router) keepFloor(ctx context.Context) {
	save, trim := time.NewTicker(floorEvery), time.NewTicker(trimEvery)
	defer save.Stop()
	defer trim.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-save.C:
			if err := r.storeFloor(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("store floor of the command log", "err", err)
			}
		case <-trim.C:
			first, err := r.history.trim(ctx, r.pinned())
			if err != nil && ctx.Err() == nil {
				r.log.Warn("trim command log", "err", err)
			}
			if first > 0 {
				r.metrics.trims.Inc()
				r.log.Warn("command log full: oldest commands forgotten before their time", "stream_seq", first)
			}
		}
	}
}

// storeFloor stores the floor that was seen the time before, so that a message whose ack was lost and that was
// published twice never lies on both sides of it.
func (r *Router) storeFloor(ctx context.Context) error {
	r.mu.Lock()
	f := r.ledger.aging
	r.ledger.aging = floor{Stream: r.ledger.stream, Floor: r.ledger.lowest(), Keys: r.keys.lowest(time.Now())}
	if r.ledger.aging.Keys == 0 {
		r.ledger.aging.Keys = r.ledger.aging.Floor
	}
	r.mu.Unlock()
	if f.Floor <= r.ledger.stored {
		return nil
	}
	if err := r.history.saveFloor(ctx, f); err != nil {
		return err
	}
	r.ledger.stored = f.Floor
	return nil
}

// follow reads what other nodes write, in the log's order.
func (r *Router) follow(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		err := r.followOnce(ctx, &backoff)
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("follow command log", "err", err)
		select {
		case <-time.After(backoff):
			backoff = min(2*backoff, maxBackoff)
		case <-ctx.Done():
		}
	}
}

func (r *Router) followOnce(ctx context.Context, backoff *time.Duration) error {
	r.mu.Lock()
	from := r.ledger.applied + 1
	r.mu.Unlock()
	consumer, err := r.history.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
	if err != nil {
		return err
	}
	msgs, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer msgs.Stop()
	stop := context.AfterFunc(ctx, msgs.Stop)
	defer stop()
	for {
		raw, err := msgs.Next()
		if err != nil {
			return err
		}
		meta, err := raw.Metadata()
		if err != nil {
			return err
		}
		*backoff = minBackoff
		m, err := decodeMessage(raw.Data())
		if err != nil {
			m = new(message)
		}
		r.mu.Lock()
		var fx effects
		r.foldLocked(&logged{seq: meta.Sequence.Stream, device: deviceOf(raw.Subject()), message: *m}, &fx)
		r.mu.Unlock()
		r.run(&fx)
	}
}

// rebuild folds the log from the durable floor to its end.
func (r *Router) rebuild(ctx context.Context) error {
	start := time.Now()
	f, err := r.history.loadFloor(ctx)
	if err != nil {
		return err
	}
	first, last, err := r.history.bounds(ctx)
	if err != nil {
		return err
	}
	if f.Floor > last+1 { // another log under the same name
		f = floor{Stream: f.Stream, Floor: 1, Keys: 1}
	}
	r.ledger.stream, r.ledger.stored, r.ledger.aging = f.Stream, f.Floor, f
	messages := 0
	err = r.history.read(ctx, "", max(min(f.Floor, f.Keys), first), last, func(l *logged) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		messages++
		if l.seq < f.Floor {
			r.rememberKeys(l)
			return nil
		}
		var fx effects
		r.ledger.applied = l.seq - 1
		r.foldLocked(l, &fx)
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ledger.applied = last
	r.log.Info("commands rebuilt", "open", len(r.ledger.open), "messages", messages,
		"stream_seq", last, "took", time.Since(start))
	return nil
}
