package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// ErrNotConnected says that the device cannot be reached now, and that nothing was written: it is not bridged here, its
// broker is down, its last will says that it is gone, its record refuses it, or too many commands wait for its answer.
var ErrNotConnected = errors.New("device is not connected")

// ErrUnsupported says that the device cannot be asked that, now or ever; nothing was written.
var ErrUnsupported = fleets.ErrUnsupported

// Delivery is one attempt to hand a command over that succeeded as far as the broker.
type Delivery struct {
	Session string // the link, as in presence
	Epoch   uint64 // of the connection
}

// Links is the way of commands to bridged devices.
type Links struct {
	directory *directory
	answers   AnswerSink
}

// Deliver publishes cmd to the device and returns when the broker has taken it. What becomes of it is told to the
// AnswerSink. With ErrNotConnected and ErrUnsupported nothing was written. After any other error the command may have
// left, and its answer is waited for.
func (l *Links) Deliver(ctx context.Context, device string, cmd wire.Command) (Delivery, error) {
	d := l.directory.find(device)
	if d == nil || d.refused.Load() || d.isOffline() {
		return Delivery{}, ErrNotConnected
	}
	c := d.conn
	link := c.current.Load()
	if link == nil || !link.isUp() {
		return Delivery{}, ErrNotConnected
	}
	req, err := c.request(d, cmd)
	if err == nil {
		frame := d.frame(req.Topic, req.Payload, true)
		if err = c.publish(ctx, link, req.Topic, req.qos, req.Payload); err == nil {
			frame.show(fateSent)
		} else {
			frame.show(fateUnsent)
		}
		if errors.Is(err, errUnsent) {
			req.Forget()
		}
	}
	if err != nil {
		c.m.commands.WithLabelValues("failed").Inc()
		return Delivery{}, fmt.Errorf("command %s: %w", cmd.Name, meaning(err))
	}
	c.m.commands.WithLabelValues("published").Inc()
	if req.assumed {
		l.answer(d, wire.Answer{Kind: wire.Result, ID: cmd.ID, OK: true}, fleets.Assumed)
	}
	return Delivery{Session: c.link(), Epoch: link.epoch}, nil
}

// meaning sorts a failed delivery into what the caller can do about it.
func meaning(err error) error {
	switch {
	case errors.Is(err, ErrUnsupported):
		return err
	case errors.Is(err, errTopic), errors.Is(err, errPayload):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case errors.Is(err, fleets.ErrBusy), errors.Is(err, errUnsent):
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	default:
		return err
	}
}

func (l *Links) answer(d *device, a wire.Answer, evidence fleets.Evidence) {
	d.conn.m.answered(evidence)
	l.answers.Answered(d.id, &a, string(evidence), func(err error) {
		if err != nil {
			d.conn.log.Warn("record answer", "device_id", d.id, "command_id", a.ID, "err", err)
		}
	})
}

// Cancel stops waiting for an answer. MQTT fleets have no way to take a command back, so it returns ErrUnsupported.
func (l *Links) Cancel(_ context.Context, device, id string) error {
	if d := l.directory.find(device); d != nil {
		d.conn.asked.forget(id)
	}
	return ErrUnsupported
}

// request is a command ready to be published.
type request struct {
	fleets.Request
	qos     byte
	assumed bool // nothing will ever be seen of it
}

// request asks the command maps first, then the profile that knows the device.
func (c *connection) request(d *device, cmd wire.Command) (request, error) {
	for _, m := range c.commands {
		if m.serves(d.id, d.name) {
			return m.request(d, cmd, c.asked, time.Now())
		}
	}
	if d.via == nil {
		return request{}, fmt.Errorf("%w: no command map of connection %s is for %s", ErrUnsupported, c.name, d.id)
	}
	r, err := d.via.Command(d.name, cmd, time.Now())
	if err != nil {
		return request{}, err
	}
	return request{Request: *r, qos: 1}, nil
}
