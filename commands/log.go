package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// history reads the command log.
type history struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	hub    jetstream.KeyValue
}

func openHistory(ctx context.Context, b *bus.Bus) (*history, error) {
	stream, err := b.Stream(ctx, bus.StreamCommands)
	if err != nil {
		return nil, err
	}
	hub, err := b.Bucket(ctx, bus.BucketHub)
	if err != nil {
		return nil, err
	}
	return &history{js: b.JetStream(), stream: stream, hub: hub}, nil
}

// logged is a message at its place in the log.
type logged struct {
	seq    uint64
	device string
	message
}

// errStop ends a read early.
var errStop = errors.New("stop reading")

// read calls each for every message from first to last, in order, of one subject or ("") of all. Messages that do
// not decode are left out: they cannot change a command.
func (h *history) read(ctx context.Context, subject string, first, last uint64, each func(*logged) error) error {
	return h.readBy(ctx, readBatch, subject, first, last, each)
}

// readBy is read for those who expect to stop early: it asks for a few messages first, and for more each time.
func (h *history) readBy(ctx context.Context, batch int, subject string, first, last uint64, each func(*logged) error) error {
	first = max(first, 1)
	for ; first <= last; batch = min(batch*readGrowth, readBatch) {
		opts := []jetstreamext.GetBatchOpt{jetstreamext.GetBatchSeq(first)}
		if subject != "" {
			opts = append(opts, jetstreamext.GetBatchSubject(subject))
		}
		rctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		next, err := h.readBatch(rctx, batch, opts, last, each)
		cancel()
		switch {
		case errors.Is(err, jetstreamext.ErrNoMessages), errors.Is(err, errStop):
			return nil
		case err != nil:
			return fmt.Errorf("read command log: %w", err)
		case next == 0: // an empty answer
			return nil
		}
		first = next
	}
	return nil
}

// readBatch returns the sequence to go on from, 0 if there was nothing.
func (h *history) readBatch(ctx context.Context, batch int, opts []jetstreamext.GetBatchOpt, last uint64, each func(*logged) error) (uint64, error) {
	msgs, err := jetstreamext.GetBatch(ctx, h.js, bus.StreamCommands, batch, opts...)
	if err != nil {
		return 0, err
	}
	var next uint64
	var failed error
	// The whole answer is taken even after an error: the rest of it would meet a subscription that is gone.
	for raw, err := range msgs {
		if failed == nil {
			next, failed = take(raw, err, last, next, each)
		}
	}
	if failed == nil && next == 0 {
		failed = ctx.Err()
	}
	return next, failed
}

func take(raw *jetstream.RawStreamMsg, err error, last, next uint64, each func(*logged) error) (uint64, error) {
	switch {
	case err != nil:
		return next, err
	case raw.Sequence > last:
		return next, errStop
	}
	if m, err := decodeMessage(raw.Data); err == nil {
		if err := each(&logged{seq: raw.Sequence, device: deviceOf(raw.Subject), message: *m}); err != nil {
			return next, err
		}
	}
	return raw.Sequence + 1, nil
}

// deviceOf undoes bus.CommandSubject.
func deviceOf(subject string) string {
	for i := range len(subject) {
		if subject[i] == '.' {
			return subject[i+1:]
		}
	}
	return ""
}

// bounds are the first and last sequence of the log.
func (h *history) bounds(ctx context.Context) (first, last uint64, err error) {
	info, err := h.stream.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("command log: %w", err)
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// find folds one command from the log up to last: the message that its id names, then what follows of its device.
func (h *history) find(ctx context.Context, id string, last uint64) (*command, error) {
	seq, suffix, ok := parseID(id)
	if !ok {
		return nil, ErrNotFound
	}
	raw, err := h.stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("find command: %w", err)
	}
	m, err := decodeMessage(raw.Data)
	if err != nil {
		return nil, ErrNotFound
	}
	c := foldOne(nil, &logged{seq: seq, device: deviceOf(raw.Subject), message: *m}, id, suffix)
	if c == nil {
		return nil, ErrNotFound
	}
	return c, h.grow(ctx, c, last)
}

// grow folds into a command what the log says of it after its creation.
func (h *history) grow(ctx context.Context, c *command, last uint64) error {
	subject, err := bus.CommandSubject(c.device)
	if err != nil {
		return fmt.Errorf("find command: %w", err)
	}
	known := make(publishers) // a message counts once, as when it was folded first
	return h.readBy(ctx, readFew, subject, c.seq+1, last, func(l *logged) error {
		if !known.firstTime(&l.message) {
			return nil
		}
		if foldOne(c, l, c.id, ""); c.settled() {
			return errStop
		}
		return nil
	})
}

// foldOne folds the entries of l that belong to one command; c is nil until its created entry came by.
func foldOne(c *command, l *logged, id, suffix string) *command {
	for i := range l.Events {
		e := &l.Events[i]
		switch {
		case c == nil && e.Kind == created && e.Order != nil && e.Order.Suffix == suffix:
			c = begin(l.device, l.seq, e)
		case c != nil && e.ID == id:
			c.apply(e)
		}
	}
	return c
}

// floor is where a node may start to read: every command created before Floor has ended, and no idempotency key
// that still counts is older than Keys. Any node may write it; each writes what it has seen to be true.
type floor struct {
	Stream int64  `json:"stream"` // when the log was created, Unix nanoseconds: another log, another floor
	Floor  uint64 `json:"floor"`
	Keys   uint64 `json:"keys"`
}

const floorKey = "commands.floor"

// loadFloor returns the durable floor, or the beginning.
func (h *history) loadFloor(ctx context.Context) (floor, error) {
	f := floor{Stream: h.stream.CachedInfo().Created.UnixNano(), Floor: 1, Keys: 1}
	kv, err := h.hub.Get(ctx, floorKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("floor of the command log: %w", err)
	}
	var stored floor
	if json.Unmarshal(kv.Value(), &stored) != nil || stored.Stream != f.Stream {
		return f, nil
	}
	return stored, nil
}

func (h *history) saveFloor(ctx context.Context, f floor) error {
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("floor of the command log: %w", err)
	}
	if _, err := h.hub.Put(ctx, floorKey, data); err != nil {
		return fmt.Errorf("floor of the command log: %w", err)
	}
	return nil
}
