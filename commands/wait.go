package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Command returns one command with its events, also one that ended long ago.
func (r *Router) Command(ctx context.Context, id string) (Command, error) {
	if err := r.awaitReady(ctx); err != nil {
		return Command{}, err
	}
	t, err := r.recall(ctx, id)
	if err != nil {
		return Command{}, err
	}
	return r.snapshot(t), nil
}

// Peek returns a command without its events if this node has it in memory, as it has every open one.
func (r *Router) Peek(id string) (Command, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.ledger.lookup(id)
	if t == nil {
		return Command{}, false
	}
	return t.view(false), true
}

// Check reports why Create would refuse a request, as far as that can be told beforehand. It records nothing.
func (r *Router) Check(ctx context.Context, q Request) error {
	if err := r.awaitReady(ctx); err != nil {
		return err
	}
	o, err := r.read(&q)
	if err != nil {
		return err
	}
	return r.allow(&q, o)
}

// Applied returns how far this node has read the log: every command made from now on has a higher Place.
func (r *Router) Applied() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger.applied
}

// Wait returns a command once it is final. If ctx ends first it returns the command as it is then, with ctx's error;
// the command goes on.
func (r *Router) Wait(ctx context.Context, id string) (Command, error) {
	if err := r.awaitReady(ctx); err != nil {
		return Command{}, err
	}
	t, err := r.recall(ctx, id)
	if err != nil {
		return Command{}, err
	}
	r.mu.Lock()
	if t.state.Final() {
		defer r.mu.Unlock()
		return t.view(true), nil
	}
	if t.done == nil {
		t.done = make(chan struct{})
	}
	done := t.done
	r.mu.Unlock()
	select {
	case <-done:
		return r.snapshot(t), nil
	case <-ctx.Done():
		return r.snapshot(t), ctx.Err()
	case <-r.ctx.Done():
		return r.snapshot(t), ErrClosed
	}
}

// awaitLeft waits until a command that was for now or never is written to the socket or given up.
func (r *Router) awaitLeft(ctx context.Context, t *tracked) (Command, error) {
	r.mu.Lock()
	left := t.left
	if t.state == Queued && left == nil {
		left = make(chan struct{})
		t.left = left
	}
	r.mu.Unlock()
	if left != nil {
		select {
		case <-left:
		case <-ctx.Done():
			return r.snapshot(t), ctx.Err()
		case <-r.ctx.Done():
			return r.snapshot(t), ErrClosed
		}
	}
	c := r.snapshot(t)
	if c.State == Expired {
		return c, ErrOffline
	}
	return c, nil
}

func (r *Router) snapshot(t *tracked) Command {
	r.mu.Lock()
	defer r.mu.Unlock()
	return t.view(true)
}

// Cancel takes a command back. One that no node was allowed to write yet is cancelled at once. For the rest the
// device is asked, and the command ends by what the device answers: cancelled if it says so (a result whose error code
// is "cancelled"), succeeded or failed if it had finished, timed_out if it stays silent. So the command that Cancel
// returns need not be final. One that already ended is ErrFinal.
func (r *Router) Cancel(ctx context.Context, id, actor string) (Command, error) {
	c, err := r.Command(ctx, id)
	if err != nil {
		return Command{}, err
	}
	if c.State.Final() {
		return c, ErrFinal
	}
	e := r.entry(cancel, id)
	e.Actor = actor
	t, effective, err := r.record(ctx, c.Device, e)
	if err != nil {
		return c, err
	}
	if t == nil {
		return c, ErrNotFound
	}
	c = r.snapshot(t)
	if !effective && c.State.Final() {
		return c, ErrFinal // it ended while we asked
	}
	return c, nil
}

// Watch calls each with every change of a device's commands ("*": of every device's), from any node, without the
// events. A slow each loses changes; whoever must not miss one reads the command again.
func (r *Router) Watch(device string, each func(Command)) (stop func(), err error) {
	subject, err := bus.CommandEvent(device)
	if err != nil {
		return nil, err
	}
	sub, err := r.bus.Conn().Subscribe(subject, func(m *nats.Msg) {
		var c Change
		if json.Unmarshal(m.Data, &c) == nil {
			each(c.Command)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("watch commands: %w", err)
	}
	return func() {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
			r.log.Debug("stop watching commands", "err", err)
		}
	}, nil
}
