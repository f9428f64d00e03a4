package devices

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

const (
	maxUnanswered = 512         // presence messages that the bus has not answered
	tellAgain     = time.Second // what the bus did not take
)

var errUnanswered = errors.New("the bus does not answer")

// told is a message into the bucket.
type told struct {
	device string
	answer jetstream.PubAckFuture
	epoch  uint64
	marker bool // the device's key is taken away
}

// tell publishes changes, and again what the bus did not take.
func (p *Presence) tell(ctx context.Context) error {
	settling, settled := context.WithCancel(context.WithoutCancel(ctx)) // the last changes need room too
	var wg sync.WaitGroup
	wg.Go(func() { p.settle(settling) })
	defer wg.Wait()
	defer settled()
	again := time.NewTicker(tellAgain)
	defer again.Stop()
	for {
		select {
		case <-p.wake:
			p.tellChanged(ctx)
		case <-again.C:
			p.tellUntold(ctx)
		case <-ctx.Done():
			ctx = context.WithoutCancel(ctx)
			p.tellChanged(ctx)
			p.tellUntold(ctx)
			return nil
		}
	}
}

// settle takes the bus's answers until ctx ends.
func (p *Presence) settle(ctx context.Context) {
	for {
		select {
		case t := <-p.told:
			select {
			case <-t.answer.Ok():
			case err := <-t.answer.Err():
				if t.marker {
					p.keepGone(t.device, t.epoch)
				}
				p.later(t.device, false, err)
			case <-ctx.Done():
				return
			}
			<-p.room
		case <-ctx.Done():
			return
		}
	}
}

// later has a device told again in a while. The set is bounded by the number of devices.
func (p *Presence) later(device string, listeners bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.untold[device] = p.untold[device] || listeners
	p.failure = err
}

func (p *Presence) tellChanged(ctx context.Context) {
	p.mu.Lock()
	changed := p.changed
	p.changed = make(map[string]struct{})
	p.mu.Unlock()
	p.tellConflicts(ctx)
	for device := range changed {
		p.tellOne(ctx, device, true)
	}
}

func (p *Presence) tellUntold(ctx context.Context) {
	p.mu.Lock()
	untold, err := p.untold, p.failure
	if len(untold) > 0 {
		p.untold = make(map[string]bool)
	}
	p.mu.Unlock()
	if len(untold) == 0 {
		return
	}
	p.opts.Log.Warn("presence not told, trying again", "devices", len(untold), "err", err)
	for device, listeners := range untold {
		p.tellOne(ctx, device, listeners)
	}
}

// tellOne tells what a device is, and before that what it was if it was forgotten.
func (p *Presence) tellOne(ctx context.Context, device string, listeners bool) {
	p.forgetUnknown(device)
	if was, ok := p.takeGone(device); ok {
		p.tellGone(ctx, was)
	}
	st := p.State(device)
	if st.Status == Never && st.Expect == 0 {
		return // it is not on line, and nobody waits for it
	}
	if listeners {
		if err := p.tellListeners(st); err != nil {
			p.later(device, true, err)
			return
		}
	}
	if st.Node != p.opts.Node {
		return
	}
	if err := p.put(ctx, st, false); err != nil {
		p.later(device, false, err)
	}
}

// tellGone tells listeners that a device that was forgotten is off line, and takes its key out of the bucket. They hear so
// once more if they knew it: whether they did is not known.
func (p *Presence) tellGone(ctx context.Context, was State) {
	if was.Status != Never && p.speaksFor(was.Node) {
		if err := p.tellListeners(was); err != nil {
			p.mu.Lock()
			p.gone[was.Device] = was
			p.mu.Unlock()
			p.later(was.Device, false, err)
			return
		}
	}
	if err := p.put(ctx, was, true); err != nil {
		p.keepGone(was.Device, was.Epoch)
		p.later(was.Device, false, err)
	}
}

func (p *Presence) tellListeners(st State) error {
	subject, err := bus.PresenceEvent(st.Device)
	if err != nil {
		return err
	}
	event, err := json.Marshal(presenceEvent{
		Event: "presence", Device: st.Device, Status: st.Status, Cause: st.Cause, Link: st.Link, Node: st.Node,
		Since: unixMS(st.Since), Address: st.Address, Flaps: st.Flaps, Conflict: st.Conflict, Silent: st.Silent,
		SilentSince: unixMS(st.SilentSince),
	})
	if err != nil {
		return err
	}
	return p.opts.Events.Publish(subject, event)
}

// put stores a state in the bucket, or as a marker takes the device's key away, without waiting for the answer, unless too
// many are outstanding.
func (p *Presence) put(ctx context.Context, st State, marker bool) error {
	if !p.opts.Shared {
		return nil
	}
	msg, err := p.message(st, marker)
	if err != nil {
		return err
	}
	if err := p.awaitRoom(ctx); err != nil {
		return err
	}
	answer, err := p.opts.Stream.PublishMsgAsync(msg)
	if err != nil {
		<-p.room
		return err
	}
	p.told <- told{device: st.Device, answer: answer, epoch: st.Epoch, marker: marker} // it has room for all that have
	return nil
}

func (p *Presence) message(st State, marker bool) (*nats.Msg, error) {
	key, err := bus.DeviceKey(st.Device)
	if err != nil {
		return nil, err
	}
	value := presenceValue{
		Status: st.Status, Node: p.opts.Node, Session: st.Session, Epoch: st.Epoch, Link: st.Link, Cause: st.Cause,
		Since: unixMS(st.Since), Seen: unixMS(st.LastSeen), Address: st.Address, Silent: unixMS(st.SilentSince), Flap: p.flapOf(st.Device),
	}
	msg := &nats.Msg{Subject: "$KV." + bus.BucketPresence + "." + key}
	if marker {
		// The bucket's own way takes no value, and waits for the answer.
		msg.Header = nats.Header{"KV-Operation": {"DEL"}}
		value = presenceValue{Status: Never, Node: p.opts.Node, Epoch: st.Epoch}
	}
	msg.Data, err = json.Marshal(value)
	return msg, err
}

// awaitRoom waits until the bus has answered, but only once while it answers nothing: listeners wait meanwhile.
func (p *Presence) awaitRoom(ctx context.Context) error {
	select {
	case p.room <- struct{}{}:
		p.stuck = false
		return nil
	default:
	}
	if p.stuck {
		return errUnanswered
	}
	select {
	case p.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(leaseEvery):
		p.stuck = true
		return errUnanswered
	}
}
