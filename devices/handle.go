package devices

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// helloTime bounds how long storing a changed hello may hold up its session.
const helloTime = 10 * time.Second

// handle decodes one message and does what it asks.
func (s *Session) handle(data []byte) {
	d := &s.scratch.decoder
	d.Device, d.MaxPoints, d.Number = s.device, s.host.cfg.PointsPerFrame, s.lastSeq+1
	frame, err := d.Decode(s.codec, data)
	if err != nil {
		s.refuse(data, err)
		return
	}
	m := s.host.metrics
	switch f := frame.(type) {
	case *wire.Telemetry:
		s.scratch.frames++
		s.quota.measured(s.heard.Load(), &s.host.rates, len(f.Points))
		s.telemetry(data, f)
		return
	case *wire.Answer:
		m.framesIn[frameAnswer].Inc()
		s.answer(f)
	case *wire.Hello:
		m.framesIn[frameHello].Inc()
		s.traceIn(data, s.hello(f))
		s.meterHellos()
		return
	case *wire.StateReport:
		m.framesIn[frameState].Inc()
		s.traceIn(data, s.report(f))
		return
	case *wire.TokenRenewal:
		m.framesIn[frameToken].Inc()
		s.traceIn([]byte(`{"type":"token","token":"***"}`), s.renew(f.Token))
		return
	}
	s.traceIn(data, fateTaken)
}

// refuse answers a frame that cannot be decoded.
func (s *Session) refuse(data []byte, err error) {
	var unknown *wire.UnknownType
	if errors.As(err, &unknown) {
		s.host.metrics.framesIn[frameUnknown].Inc()
		s.traceIn(data, s.note(unknownType, unknown.Error()))
		return
	}
	var rej *wire.Reject
	if !errors.As(err, &rej) {
		rej = &wire.Reject{Code: wire.InvalidFrame, Message: err.Error()}
	}
	if rej.Seq != 0 && !s.advance(rej.Seq) {
		return
	}
	s.reject(data, rej)
	if rej.Code != wire.InvalidJSON && rej.Code != wire.InvalidFrame {
		return
	}
	if s.bad(wholeSecond(s.host.clock.Load())) > s.host.cfg.MalformedLimit {
		s.stop(endMalformed)
	}
}

// bad counts a malformed frame and returns how many there were within a minute: a new one begins with the first after the
// last has passed.
func (s *Session) bad(second int32) int {
	const minute = 60
	if s.malformed == 0 || second-s.badSince >= minute {
		s.malformed, s.badSince = 0, second
	}
	s.malformed++
	return int(s.malformed)
}

func (s *Session) reject(data []byte, rej *wire.Reject) {
	s.host.metrics.reject(rej.Code)
	s.traceIn(data, string(rej.Code))
	r := *rej
	r.Message, r.Path = clip(r.Message), clip(r.Path)
	_ = s.send(&r, nil) // the session ends if it cannot be sent
}

// The codes of error frames.
const (
	unknownType   = "unknown_type"
	invalidHello  = "invalid_hello"
	invalidSchema = "invalid_schema"
	stateRefused  = "state_refused"
	unsupported   = "unsupported"
)

var errorCodes = []string{unknownType, invalidHello, invalidSchema, stateRefused, unsupported}

// note sends an error frame about a frame of the device, and returns the code, which is the fate of that.
func (s *Session) note(code, message string) (fate string) {
	s.host.metrics.errors.WithLabelValues(code).Inc()
	_ = s.send(&wire.Error{Code: code, Message: clip(message)}, nil) // the session ends if it cannot be sent
	return code
}

// clip keeps what a device sent from coming back to it in full.
func clip(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// advance takes the next sequence number, or ends the session if it does not increase.
func (s *Session) advance(seq uint64) bool {
	if seq <= s.lastSeq {
		s.stop(endSeq)
		return false
	}
	s.lastSeq = seq
	return true
}

// telemetry hands a frame to the log. The reader waits here while the log is slower than the device.
func (s *Session) telemetry(data []byte, t *wire.Telemetry) {
	if t.Seq != 0 && !s.advance(t.Seq) {
		s.traceIn(data, endSeq.cause)
		return
	}
	if most := s.host.cfg.PointsPerFrame; len(t.Points) > most {
		s.reject(data, t.NewReject(wire.TooManyPoints, most, "", "more points than a frame may hold"))
		return
	}
	if !s.open() || !s.expect(t.Seq) {
		return
	}
	s.traceTelemetry(data, t.Seq)
	s.busy.Store(true)
	err := s.source.Append(t)
	s.busy.Store(false)
	if err == nil {
		s.point.Store(wholeSecond(s.host.clock.Load()))
		if s.quiet.Load() {
			s.spoke()
		}
		if t.Seq == 0 {
			s.traceIn(data, fateTaken)
		}
		return
	}
	s.forget(t.Seq)
	s.untrace(t.Seq)
	var rej *wire.Reject
	if !errors.As(err, &rej) {
		s.host.log.Warn("telemetry not taken", keyDevice, s.device, keyErr, err)
		s.stop(endShutdown)
		return
	}
	r := *rej
	r.Seq = t.Seq
	s.reject(data, &r)
}

// open opens the way into the log, anew if the record's labels have changed: then what is under way goes first, since
// the old way tells nobody once it is closed.
func (s *Session) open() bool {
	state := s.host.records.changes.Load()
	if s.source != nil && state == s.checked {
		return true // nothing has changed since the last frame
	}
	rec, ok := s.host.records.Record(s.device)
	if !ok {
		return false // the record went; the session is about to
	}
	s.checked = state
	if s.source != nil {
		if sameMap(s.labels, rec.Labels) {
			return true
		}
		if !s.wait(func() bool { return len(s.pending) == 0 }) {
			return false
		}
		s.source.Close()
	}
	s.labels = rec.Labels
	s.source = s.host.telemetry.Open(s.device, rec.Labels, s)
	return true
}

func sameMap(a, b map[string]string) bool { return len(a) == 0 && len(b) == 0 || maps.Equal(a, b) }

// expect waits for room among the unacknowledged frames and takes it; false if the session is to end. Only the reader
// takes room, so what was free stays free.
func (s *Session) expect(seq uint64) bool {
	room := func() bool { return len(s.pending) < s.host.cfg.UnackedFrames }
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waitLocked(room) {
		return false
	}
	if seq != 0 {
		s.pending = append(s.pending, seq)
	}
	return true
}

// forget takes back the newest expectation: its frame was not taken.
func (s *Session) forget(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.pending); seq != 0 && n > 0 && s.pending[n-1] == seq {
		s.pending = s.pending[:n-1]
	}
}

// answer hands an answer on. What it holds is copied: the frame's memory is used again.
func (s *Session) answer(f *wire.Answer) {
	if !s.wait(func() bool { return s.answers < maxAnswers }) {
		return
	}
	s.mu.Lock()
	s.answers++
	s.mu.Unlock()
	ans := *f
	ans.Result = slices.Clone(f.Result)
	s.host.commands.Answered(s.attachment(), &ans, func(err error) { s.recorded(&ans, err) })
}

// recorded hears that an answer is durable. The device may then forget a result; accept and progress are no answers that it
// keeps. A device whose answer could not be recorded comes back later and says it again.
func (s *Session) recorded(ans *wire.Answer, err error) {
	s.mu.Lock()
	s.answers--
	s.roomLocked()
	s.mu.Unlock()
	if err != nil {
		s.host.log.Warn("answer not recorded", keyDevice, s.device, "command", ans.ID, keyErr, err)
		s.stop(endUnrecorded)
		return
	}
	if ans.Kind != wire.Result {
		return
	}
	_ = s.send(&wire.Ack{ID: ans.ID}, nil) // a session that has ended gets the answer again
}

// hello puts what the device says of itself into its record, if that is news, and returns the fate of the frame.
func (s *Session) hello(h *wire.Hello) (fate string) {
	if err := checkHello(h); err != nil {
		return s.note(invalidHello, err.Error())
	}
	rec, ok := s.host.records.Record(s.device)
	news := ok && rec.Clone().apply(h)
	if news {
		s.hellos = max(s.hellos, s.host.clock.Load()) + int64(helloEvery)
	}
	fate = fateTaken
	// A device that says the same again is told the same again; its schemas are compiled already.
	if err := s.host.commands.Announced(h.Commands); err != nil {
		fate = s.note(invalidSchema, err.Error())
	}
	if !news {
		return fate
	}
	for i := range h.Commands {
		h.Commands[i].Params = slices.Clone(h.Commands[i].Params)
	}
	ctx, cancel := context.WithTimeout(context.Background(), helloTime)
	defer cancel()
	s.busy.Store(true)
	_, err := s.host.records.Update(ctx, s.device, 0, func(r *Record) (bool, error) { return r.apply(h), nil })
	s.busy.Store(false)
	if err != nil && !errors.Is(err, ErrUnknown) {
		s.host.log.Warn("hello not recorded", keyDevice, s.device, keyErr, err)
	}
	return fate
}

// report hands a reported state over and returns the fate of the frame.
func (s *Session) report(f *wire.StateReport) (fate string) {
	if s.host.states == nil {
		return s.note(unsupported, "this hub keeps no state of devices")
	}
	r := *f
	r.Reported = slices.Clone(f.Reported)
	if err := s.host.states.Reported(s.attachment(), &r); err != nil {
		return s.note(stateRefused, err.Error())
	}
	return fateTaken
}

// renew takes a fresh token, verified like the one at connect, and returns its fate.
func (s *Session) renew(token string) (fate string) {
	claims, err := s.host.verifier.Verify(token)
	var rej *auth.Refusal
	switch {
	case errors.As(err, &rej):
		code, detail := rej.Public()
		s.host.metrics.refuse(code)
		e := ending{code: CloseToken, cause: causeExpired, reason: "token refused: " + detail}
		if rej.Status() == http.StatusForbidden {
			e = ending{code: CloseRevoked, cause: causeRevoked, reason: detail}
		}
		s.stop(e)
		return code
	case err != nil || claims.Device != s.device:
		s.stop(ending{code: CloseToken, cause: causeExpired, reason: "token refused: it is another device's"})
		return fateOtherDevice
	}
	s.mu.Lock()
	s.claims = claims
	s.honour(s.host.now())
	s.host.reschedule(s)
	s.mu.Unlock()
	// The record may have changed since the token was verified.
	s.recheck()
	_ = s.send(&wire.Token{Expires: claims.Expires.UnixMilli()}, nil) // the session ends if it cannot be sent
	return fateRenewed
}
