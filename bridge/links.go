package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// ErrNotConnected says that the device cannot be reached now: it is not bridged here, its broker is down, or its last
// will says that it is gone.
var ErrNotConnected = errors.New("device is not connected")

// ErrUnsupported says that the device cannot be asked that, now or ever.
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
// AnswerSink. ErrNotConnected: try again when the device is there. ErrUnsupported: never.
func (l *Links) Deliver(ctx context.Context, device string, cmd wire.Command) (Delivery, error) {
	d := l.directory.find(device)
	if d == nil || d.isOffline() {
		return Delivery{}, ErrNotConnected
	}
	c := d.conn
	link := c.current.Load()
	if link == nil || !link.isUp() {
		return Delivery{}, ErrNotConnected
	}
	req, err := c.request(d, cmd)
	if err != nil {
		return Delivery{}, fmt.Errorf("command %s: %w", cmd.Name, err)
	}
	if err := c.publish(ctx, link, req.Topic, req.qos, req.Payload); err != nil {
		req.Forget()
		c.m.commands.WithLabelValues("failed").Inc()
		if errors.Is(err, errTopic) || errors.Is(err, errPayload) {
			return Delivery{}, fmt.Errorf("command %s: %w: %w", cmd.Name, ErrUnsupported, err)
		}
		return Delivery{}, fmt.Errorf("command %s: %w: %w", cmd.Name, ErrNotConnected, err)
	}
	c.m.commands.WithLabelValues("published").Inc()
	if req.assumed {
		c.m.answered(fleets.Assumed)
		l.answers.Answered(device, &wire.Answer{Kind: wire.Result, ID: cmd.ID, OK: true}, string(fleets.Assumed), func(err error) {
			if err != nil {
				c.log.Warn("record answer", "device_id", device, "command_id", cmd.ID, "err", err)
			}
		})
	}
	return Delivery{Session: c.link(), Epoch: link.epoch}, nil
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
		if m.serves(d) {
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
