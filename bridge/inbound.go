package bridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// DropReason is why a message became nothing. Those of its content are fleets.Reasons.
type DropReason = fleets.DropReason

// The reasons that lie in the bridge.
const (
	reasonTopic    DropReason = "invalid_topic"
	reasonTooLarge DropReason = "too_large"
	reasonLine     DropReason = "invalid_line"
	reasonUnmapped DropReason = "unmapped"
	reasonRefused  DropReason = "device_refused"
	reasonRejected DropReason = "rejected"
	reasonStalled  DropReason = "stalled"
	reasonReply    DropReason = "unknown_reply"
	reasonLog      DropReason = "log_closed"

	// Of a filter that an announcement makes needed; its device is known, but not heard there.
	reasonFilter      DropReason = "invalid_filter"
	reasonManyFilters DropReason = "too_many_filters"
	reasonReadBack    DropReason = "read_back"
	reasonDenied      DropReason = "filter_refused"
)

// maxTopicRead is the longest topic that becomes something: its device is called by it, and the last topics are kept.
const maxTopicRead = 1024

// work turns messages into points until ctx is done.
func (c *connection) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.greet:
			c.introduce(ctx)
		case d := <-c.queue:
			c.process(ctx, d)
			d.release()
		}
	}
}

// introduce registers the devices that are only sent commands, and so never say that they are there.
func (c *connection) introduce(ctx context.Context) {
	if l := c.current.Load(); l == nil || !l.isUp() {
		return // the next link has them introduced
	}
	c.introduceOwn(ctx)
	for _, m := range c.commands {
		for _, name := range m.named() {
			if c.connectsItself(name) {
				continue
			}
			d, err := c.directory.claim(ctx, c, identity{name: name})
			if err != nil {
				c.status.fail(fmt.Errorf("register device: %w", err))
				continue
			}
			d.setOnline(true, "assumed", c.parts.Presence)
		}
	}
}

// process decides what a message is. A message that means nothing is counted and acknowledged like any other: the
// broker would only send it again.
func (c *connection) process(ctx context.Context, d *delivery) {
	topic := d.msg.topic
	if err := CheckTopic(topic); err != nil {
		c.drop(topic, &fleets.Drop{Reason: reasonTopic, Detail: err.Error()})
		return
	}
	if n := len(topic); n > maxTopicRead {
		c.drop(fleets.CleanText(topic, 80), &fleets.Drop{Reason: reasonTopic, Detail: fmt.Sprintf("%d bytes, at most %d", n, maxTopicRead)})
		return
	}
	if n := len(d.msg.Payload()); n > c.maxPayload {
		c.drop(topic, &fleets.Drop{Reason: reasonTooLarge, Detail: fmt.Sprintf("%d bytes, at most %d", n, c.maxPayload)})
		return
	}
	author, refused := c.authoredBy(d)
	if refused != nil {
		c.drop(topic, refused)
		return
	}
	m := fleets.Message{Topic: topic, Payload: d.msg.Payload(), Retained: d.msg.Retained(), Received: d.received, Author: author}
	result, via, err := c.read(m, d.msg.author)
	for _, u := range result.Updates {
		who, foreign := speaker(d.msg.author, author, u)
		if foreign != nil {
			err = worse(err, foreign)
			continue
		}
		who.via = via
		err = worse(err, c.apply(ctx, d, u, who))
	}
	for _, filter := range result.Unsubscribe {
		c.extras.remove(filter)
	}
	for _, filter := range result.Subscribe {
		if drop := c.want(filter); drop != nil && err == nil {
			err = drop
		}
	}
	var drop *fleets.Drop
	switch {
	case err == nil:
		c.status.seen(topic, true, nil)
	case errors.As(err, &drop):
		c.drop(topic, drop)
	case errors.Is(err, context.Canceled):
		d.failed.Store(true)
	default: // the log is closed: the broker keeps the message for the next process
		d.failed.Store(true)
		c.m.drop(reasonLog)
		c.status.fail(fmt.Errorf("store: %w", err))
	}
}

// worse is the error that decides about a message: the first, but none that says that it means nothing goes before one that
// says that a part of it could not be stored.
func worse(err, next error) error {
	var drop *fleets.Drop
	if err == nil || next != nil && errors.As(err, &drop) && !errors.As(next, &drop) {
		return next
	}
	return err
}

// read asks reply topics first, then topic maps, then profiles; the first that knows the topic has it.
func (c *connection) read(m fleets.Message, author string) (fleets.Result, fleets.Profile, error) {
	for _, cm := range c.commands {
		u, ok, err := cm.reply(m, author, c.asked)
		if ok {
			return fleets.Result{Updates: u}, nil, err
		}
	}
	for _, tm := range c.maps {
		name, points, ok, err := tm.Points(m)
		if !ok {
			continue
		}
		if err != nil {
			c.traceDrop(owner{c.name, name, author != ""}, m, err)
			return fleets.Result{}, nil, err
		}
		return fleets.Result{Updates: []fleets.Update{{Device: name, Points: points, Presence: online(m), Cause: "telemetry"}}}, nil, nil
	}
	for _, p := range c.profiles {
		result, err := p.Handle(m)
		if !errors.Is(err, fleets.ErrNotMine) {
			return result, p.Profile, err
		}
	}
	return fleets.Result{}, nil, &fleets.Drop{Reason: reasonUnmapped}
}

func online(m fleets.Message) fleets.Presence {
	if m.Retained {
		return fleets.Unsaid
	}
	return fleets.Online
}

// apply does what a message says about one device.
func (c *connection) apply(ctx context.Context, d *delivery, u fleets.Update, who identity) error {
	dev, err := c.directory.claim(ctx, c, who)
	if err != nil {
		return err
	}
	if d.link.isUp() && u.Presence != fleets.Unsaid {
		dev.setOnline(u.Presence == fleets.Online, u.Cause, c.parts.Presence)
	}
	for _, a := range u.Answers {
		c.m.answered(a.Evidence)
		d.hold()
		c.parts.Answers.Answered(dev.id, &a.Answer, string(a.Evidence), func(err error) {
			if err != nil {
				c.log.Warn("record answer", "device_id", dev.id, "command_id", a.ID, "err", err)
			}
			d.release()
		})
	}
	if len(u.State) > 0 && c.parts.States != nil {
		if err := c.parts.States.Reported(dev.id, &wire.StateReport{Reported: u.State}); err != nil {
			c.log.Debug("reported state not taken", "device_id", dev.id, "err", err)
		}
	}
	frame := dev.frame(d.msg.topic, d.msg.Payload(), false)
	if len(u.Points) == 0 {
		frame.show(fateTaken)
		return nil
	}
	err = dev.append(d, u.Points, frame)
	var reject *wire.Reject
	if errors.As(err, &reject) {
		frame.show(string(reject.Code))
		return &fleets.Drop{Reason: reasonRejected, Detail: string(reject.Code) + ": " + reject.Message}
	}
	if err == nil {
		c.m.points.Add(float64(len(u.Points)))
	}
	return err
}

func (c *connection) drop(topic string, why *fleets.Drop) {
	c.m.drop(why.Reason)
	c.status.seen(topic, why.Reason != reasonUnmapped, why)
	c.log.Debug("mqtt message dropped", "topic", topic, "reason", string(why.Reason), "detail", why.Detail)
}
