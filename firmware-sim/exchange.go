package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Limits that are assumed where the welcome says nothing, as the protocol gives them.
const (
	assumedFrameBytes = 64 << 10
	assumedPoints     = 1000
	assumedUnacked    = 256
)

// handle acts on one frame of the hub.
func (s *session) handle(ctx context.Context, f any) error {
	d, now := s.d, time.Now()
	if w, ok := f.(*wire.Welcome); ok {
		return s.begin(w)
	}
	if end, ok := f.(over); ok {
		return end.err
	}
	if s.bye == nil {
		s.bye, _ = f.(*wire.Bye) // of several, the first counts
	}
	if s.welcome == nil && s.bye == nil {
		return fmt.Errorf("the hub sent a %T frame before its welcome", f)
	}
	switch f := f.(type) {
	case ackedSeq:
		s.acked(uint64(f))
	case *wire.Ack:
		if f.ID != "" {
			d.orders.acked(f.ID)
		}
		s.acked(f.Seq)
	case *wire.Reject:
		s.rejected(f)
	case *wire.Command:
		d.orders.take(f, now, d.hubClock(now))
	case *wire.Cancel:
		d.orders.cancel(f.ID, now)
	case *wire.State:
		return s.desired(f)
	case *wire.Token:
		s.renew(ctx)
	case *wire.Error:
		d.uplink.complain("hub did not understand", keyDevice, d.id, keyCode, f.Code, keyReason, f.Message)
	}
	return nil
}

// begin opens the session proper: what the hub has not acked is to be sent again.
func (s *session) begin(w *wire.Welcome) error {
	d := s.d
	if s.welcome != nil {
		return fmt.Errorf("the hub sent a second welcome")
	}
	if w.Device != d.id {
		return fmt.Errorf("the hub takes this device for %q", w.Device)
	}
	s.welcome = w
	s.most = room{points: or(w.Limits.PointsPerFrame, assumedPoints), bytes: or(w.Limits.FrameBytes, assumedFrameBytes)}
	if d.byteCap > 0 {
		s.most.bytes = min(s.most.bytes, d.byteCap)
	}
	s.window = or(w.Limits.UnackedFrames, assumedUnacked)
	d.learnClock(w.Time)
	if d.faults.Disconnect > 0 {
		s.breakAt = time.Now().Add(time.Duration(rand.ExpFloat64() * float64(d.faults.Disconnect)))
	}
	d.uplink.Counts.connected.Add(1)
	if d.sessions++; d.sessions > 1 {
		d.uplink.Counts.reconnects.Add(1)
	}
	if d.forget {
		d.uplink.Counts.dropped.Add(uint64(d.backlog.settle(d.backlog.base, d.backlog.high)))
	}
	d.backlog.rewind()
	d.orders.resend()
	if err := s.write(d.panel.hello()); err != nil {
		return err
	}
	return s.report(0)
}

// report tells the state as it is; version is the desired state that it answers.
func (s *session) report(version uint64) error {
	r := report(s.d.panel, version)
	if r == nil {
		return nil
	}
	s.d.reported = r.Reported
	return s.write(r)
}

// reportChange tells the state if it is not what was told last.
func (s *session) reportChange() error {
	if r := report(s.d.panel, 0); r == nil || bytes.Equal(r.Reported, s.d.reported) {
		return nil
	}
	return s.report(s.d.version)
}

func or(v, otherwise int) int {
	if v > 0 {
		return v
	}
	return otherwise
}

// flush sends answers, and points as far as the window is open. It reports whether there is more that could be sent.
func (s *session) flush() (more bool, err error) {
	o := &s.d.orders
	for i, a := range o.out {
		if err := s.write(a); err != nil {
			o.out = append(o.out[:0], o.out[i:]...)
			return false, err
		}
	}
	answered := len(o.out) > 0
	o.out = o.out[:0]
	if answered {
		if err := s.reportChange(); err != nil {
			return false, err
		}
	}
	for n := 0; s.d.backlog.pending() && len(s.flight) < s.window; n++ {
		if n == framesPerTurn {
			return true, nil
		}
		if err := s.sendPoints(); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (s *session) sendPoints() error {
	d := s.d
	c := composers.Get().(*composer)
	defer composers.Put(c)
	f, data, err := c.compose(d.backlog, &d.shape, s.seq+1, s.most)
	if err != nil {
		return fmt.Errorf("encode telemetry: %w", err)
	}
	if f.points == 0 {
		lost := d.backlog.settle(f.first, f.before)
		d.uplink.Counts.dropped.Add(uint64(lost))
		d.backlog.next = max(d.backlog.next, f.before)
		if lost > 0 {
			d.uplink.complain("point does not fit into a frame", keyDevice, d.id, "frame_bytes", s.most.bytes)
		}
		return nil
	}
	if f.cut {
		s.most.points = f.points // the next ones are as big
	}
	// It counts as sent before it is: a frame whose write broke may have arrived.
	s.seq = f.seq
	d.backlog.next, d.backlog.high = f.before, max(d.backlog.high, f.before)
	s.flight = append(s.flight, f)
	d.uplink.Counts.sent.Add(uint64(f.points - f.again))
	d.uplink.Counts.resent.Add(uint64(f.again))
	return s.send(data)
}

// write encodes and sends one frame that is not telemetry.
func (s *session) write(f any) (err error) {
	if s.writing, err = wire.Append(s.writing[:0], s.d.shape.codec, f); err != nil {
		return fmt.Errorf("encode %T: %w", f, err)
	}
	return s.send(s.writing)
}

func (s *session) send(data []byte) error {
	kind := websocket.TextMessage
	if s.d.shape.codec == wire.CBOR {
		kind = websocket.BinaryMessage
	}
	patience := welcomeTimeout
	if s.welcome != nil && s.welcome.HeartbeatS > 0 {
		patience = 2*time.Duration(s.welcome.HeartbeatS)*time.Second + heartbeatMargin
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := s.conn.WriteMessage(kind, data); err != nil {
		return s.lastWord(fmt.Errorf("write: %w", err))
	}
	return nil
}

// lastWord looks for what the hub said before it closed the socket that could not be written to.
func (s *session) lastWord(err error) error {
	deadline := time.NewTimer(goodbyeTimeout)
	defer deadline.Stop()
	for {
		select {
		case f := <-s.inbox:
			switch f := f.(type) {
			case *wire.Bye:
				s.bye = f
			case ackedSeq:
				s.acked(uint64(f))
			case over:
				return f.err
			}
		case <-deadline.C:
			return err
		}
	}
}

// acked settles every frame up to seq.
func (s *session) acked(seq uint64) {
	for len(s.flight) > 0 && s.flight[0].seq <= seq {
		f := s.flight[0]
		s.flight = s.flight[1:]
		if !f.done {
			s.d.uplink.Counts.acked.Add(uint64(s.d.backlog.settle(f.first, f.before)))
		}
	}
}

// rejected lets go of a frame that the hub will never take. It still counts as one under way until an ack passes it,
// unless it is the oldest.
func (s *session) rejected(r *wire.Reject) {
	d := s.d
	for i := range s.flight {
		if f := &s.flight[i]; f.seq == r.Seq && !f.done {
			f.done = true
			d.uplink.Counts.rejected.Add(uint64(d.backlog.settle(f.first, f.before)))
		}
	}
	for len(s.flight) > 0 && s.flight[0].done {
		s.flight = s.flight[1:]
	}
	if d.told != r.Code {
		d.told = r.Code
		d.uplink.Log.Warn("telemetry rejected", keyDevice, d.id, "seq", r.Seq, keyCode, r.Code, keyReason, r.Message)
	}
}

// desired makes the desired state real and reports what it is now.
func (s *session) desired(f *wire.State) error {
	if err := apply(s.d.panel, f.Desired); err != nil {
		s.d.uplink.complain("desired state not reached", keyDevice, s.d.id, keyVersion, f.Version, keyError, err)
	}
	s.d.version = f.Version
	return s.report(f.Version)
}

// renew asks the token source for a fresh token. The hub confirms it by the same kind of frame, which is not a question.
func (s *session) renew(ctx context.Context) {
	switch s.renewal {
	case renewalAsked:
		return // reminded
	case renewalOffered:
		s.renewal = renewalNone
		return
	}
	s.renewal = renewalAsked
	s.calls.Go(func() {
		token, err := s.d.uplink.token(ctx, s.d.id, true)
		s.fresh <- renewal{token, err} // there is room: one renewal at a time
	})
}

func (s *session) renewed(r renewal) error {
	if r.err != nil {
		// The session lives until the old token ends; then the device comes back as from anew.
		s.renewal = renewalNone
		s.d.uplink.complain("token not renewed", keyDevice, s.d.id, keyError, r.err)
		return nil
	}
	s.renewal = renewalOffered
	return s.write(&wire.TokenRenewal{Token: r.token})
}

// ackedSeq is the ack of telemetry, by far the most frequent frame.
type ackedSeq uint64

var (
	ackJSON = []byte(`{"type":"ack","seq":`)
	ackCBOR = []byte("\xa2\x64type\x63ack\x63seq\x1b")
)

// decodeHub reads the plainest form of an ack directly and leaves the rest to wire.
func decodeHub(c wire.Codec, data []byte) (any, error) {
	if c == wire.JSON && bytes.HasPrefix(data, ackJSON) && data[len(data)-1] == '}' {
		digits := data[len(ackJSON) : len(data)-1]
		if seq, err := strconv.ParseUint(string(digits), 10, 64); err == nil {
			return ackedSeq(seq), nil
		}
	}
	if c == wire.CBOR && len(data) == len(ackCBOR)+8 && bytes.HasPrefix(data, ackCBOR) {
		return ackedSeq(binary.BigEndian.Uint64(data[len(ackCBOR):])), nil
	}
	return wire.DecodeHub(c, data)
}
