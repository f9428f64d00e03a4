package bridge

import (
	"errors"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The fates of messages that were not dropped; a dropped one's is its DropReason.
const (
	fateStored = "stored" // its points are on disk
	fateTaken  = "taken"  // it held no points
	fateSent   = "sent"   // the broker has it
	fateUnsent = "unsent"
	fateDenied = "not_authorized" // the embedded broker refused it: it was not the device's to make
)

// Frame is one MQTT message from or to a traced device, and what became of it. Text is its topic and payload, with tokens
// blanked and cut to a bound; hexadecimal if it is no text.
type Frame struct {
	Time   time.Time
	Device string
	Link   string
	Out    bool // from the hub to the device
	Bytes  int  // of the payload
	Text   string
	Fate   string
	End    bool // no message, but the end of the device's session at the embedded broker

	see func(Frame)
}

// show tells what became of the message; of a nil frame, because nobody looks, nothing.
func (f *Frame) show(fate string) {
	if f != nil {
		f.Fate = fate
		f.see(*f)
	}
}

// Trace shows see every message of a device until stop is called. see is called by the bridge's goroutines and must only take
// the frame. The last who asks has it.
func (b *Bridge) Trace(device string, see func(Frame)) (stop func()) {
	own := &see
	b.directory.retrace(device, func(*func(Frame)) *func(Frame) { return own })
	return func() {
		b.directory.retrace(device, func(now *func(Frame)) *func(Frame) {
			if now == own {
				return nil
			}
			return now
		})
	}
}

// retrace changes who looks at a device, also before it is there.
func (r *directory) retrace(device string, change func(*func(Frame)) *func(Frame)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	see := change(r.traced[device])
	if see == nil {
		delete(r.traced, device)
	} else {
		r.traced[device] = see
	}
	r.tracing.Store(int64(len(r.traced)))
	if d := r.byID[device]; d != nil {
		d.trace.Store(see)
	}
}

// frame is a message to be shown; nil if nobody looks, which costs a look at a nil pointer.
func (d *device) frame(topic string, payload []byte, out bool) *Frame {
	see := d.trace.Load()
	if see == nil {
		return nil
	}
	return &Frame{
		Time: time.Now(), Device: d.id, Link: d.conn.link(), Out: out, Bytes: len(payload), see: *see,
		Text: topic + " " + wire.Excerpt(wire.JSON, payload),
	}
}

// traceDrop shows a message that a topic map could not read, if somebody looks at the device that it names.
func (c *connection) traceDrop(of owner, m fleets.Message, err error) {
	r := c.directory
	if r.tracing.Load() == 0 {
		return
	}
	r.mu.Lock()
	d := r.byOwner[of]
	r.mu.Unlock()
	if d != nil {
		d.frame(m.Topic, m.Payload, false).show(fateOf(err))
	}
}

// Denied shows what a device was refused at the embedded broker: to publish to a topic, or to subscribe.
func (b *Bridge) Denied(device, what string, payload []byte) {
	if len(payload) > 0 {
		what += " " + wire.Excerpt(wire.JSON, payload)
	}
	b.directory.show(Frame{Device: device, Bytes: len(payload), Text: what, Fate: fateDenied})
}

// Ended shows why a device's client was sent away by the embedded broker.
func (b *Bridge) Ended(device, cause, reason string) {
	b.directory.show(Frame{Device: device, Out: true, End: true, Text: reason, Fate: cause})
}

// show shows what no connection has had.
func (r *directory) show(f Frame) {
	if r.tracing.Load() == 0 {
		return
	}
	r.mu.Lock()
	see := r.traced[f.Device]
	r.mu.Unlock()
	if see != nil {
		f.Time, f.Link, f.see = time.Now(), linkPrefix+configs.EmbeddedBroker, *see
		f.show(f.Fate)
	}
}

// fateOf is the fate of a message that was not stored.
func fateOf(err error) string {
	var drop *fleets.Drop
	if errors.As(err, &drop) {
		return string(drop.Reason)
	}
	return string(reasonLog)
}
