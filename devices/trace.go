package devices

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The fates of frames that were not refused. A refused one's is the code that its device was told.
const (
	fateStored      = "stored"  // on disk
	fateTaken       = "taken"   // handed on; of telemetry without seq, or whose session ended first, no more is known
	fateRenewed     = "renewed" // a token
	fateSent        = "sent"    // queued for the socket, in this order
	fateOtherDevice = "token_of_another_device"
	fateDropped     = "dropped" // the session had ended, or its device does not read
)

// TracedFrame is one frame of a traced device and what became of it. Text is what came, JSON for CBOR, with tokens
// blanked and cut to a bound; hexadecimal if it is neither text nor CBOR. A frame of type "end" is the session's end, its
// fate the cause.
type TracedFrame struct {
	Time    time.Time
	Device  string
	Session string
	Out     bool // from the hub to the device
	Type    string
	Bytes   int
	Text    string
	Fate    string
}

// tracer is who looks at a device's frames; it never changes. A session without one pays a look at a nil pointer.
type tracer struct{ looking []*func(TracedFrame) }

func (t *tracer) show(f TracedFrame) {
	for _, see := range t.looking {
		(*see)(f)
	}
}

// Trace shows see every frame of a device, of this session and later ones on this node, until stop is called. see is
// called by the session's goroutines, some of them under its lock: it must only take the frame. Any number may look.
func (r *Registry) Trace(device string, see func(TracedFrame)) (stop func()) {
	r.retrace(device, func(looking []*func(TracedFrame)) []*func(TracedFrame) { return append(looking, &see) })
	return func() {
		r.retrace(device, func(looking []*func(TracedFrame)) []*func(TracedFrame) {
			return slices.DeleteFunc(looking, func(f *func(TracedFrame)) bool { return f == &see })
		})
	}
}

// retrace changes who looks at a device, also for a session that is there.
func (r *Registry) retrace(device string, change func([]*func(TracedFrame)) []*func(TracedFrame)) {
	r.traceMu.Lock()
	defer r.traceMu.Unlock()
	var looking []*func(TracedFrame)
	if t := r.tracers[device]; t != nil {
		looking = slices.Clone(t.looking)
	}
	if looking = change(looking); len(looking) > 0 {
		r.tracers[device] = &tracer{looking}
	} else {
		delete(r.tracers, device)
	}
	r.tracing.Store(int64(len(r.tracers)))
	if s := r.session(device); s != nil {
		s.trace.Store(r.tracers[device])
	}
}

// follow gives a session the tracer of its device.
func (r *Registry) follow(s *Session) {
	if r.tracing.Load() == 0 && s.trace.Load() == nil {
		return
	}
	r.traceMu.Lock()
	defer r.traceMu.Unlock()
	s.trace.Store(r.tracers[s.device])
}

// tracer is who looks at a device that has no session, or nil.
func (r *Registry) tracer(device string) *tracer {
	if r.tracing.Load() == 0 {
		return nil
	}
	r.traceMu.Lock()
	defer r.traceMu.Unlock()
	return r.tracers[device]
}

// traceIn and traceOut show a frame to who looks; usually nobody does.
func (s *Session) traceIn(data []byte, fate string) {
	if t := s.trace.Load(); t != nil {
		t.show(s.frame(data, false, fate))
	}
}

func (s *Session) traceOut(data []byte, fate string) {
	if t := s.trace.Load(); t != nil {
		t.show(s.frame(data, true, fate))
	}
}

func (s *Session) frame(data []byte, out bool, fate string) TracedFrame {
	codec := s.codec
	if out && !codec.Binary() {
		codec = wire.JSON
	}
	f := traced(codec, data)
	f.Time, f.Device, f.Session, f.Out, f.Fate = s.host.now(), s.device, s.id, out, fate
	return f
}

// awaited are traced frames whose fate the log has not told yet.
type awaited struct {
	seqs   []uint64
	frames []TracedFrame
}

// traceTelemetry shows a frame once the log has told its fate.
func (s *Session) traceTelemetry(data []byte, seq uint64) {
	if seq == 0 || s.trace.Load() == nil {
		return
	}
	f := s.frame(data, false, fateStored)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited == nil {
		s.awaited = &awaited{}
	}
	s.awaited.seqs, s.awaited.frames = append(s.awaited.seqs, seq), append(s.awaited.frames, f)
}

// traceStoredLocked shows what is stored up to seq.
func (s *Session) traceStoredLocked(seq uint64, fate string) {
	a := s.awaited
	t := s.trace.Load()
	n := 0
	for ; n < len(a.seqs) && a.seqs[n] <= seq; n++ {
		if t != nil {
			a.frames[n].Fate = fate
			t.show(a.frames[n])
		}
	}
	a.seqs, a.frames = a.seqs[n:], a.frames[n:]
	if len(a.seqs) == 0 {
		s.awaited = nil
	}
}

// untrace forgets a frame that the log did not take: it is shown with the reason.
func (s *Session) untrace(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.awaited; a != nil && len(a.seqs) > 0 && a.seqs[len(a.seqs)-1] == seq {
		a.seqs, a.frames = a.seqs[:len(a.seqs)-1], a.frames[:len(a.frames)-1]
		if len(a.seqs) == 0 {
			s.awaited = nil
		}
	}
}

// traceEnd shows that the session has ended, after what nobody tells the fate of any more.
func (s *Session) traceEnd(e *ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited != nil {
		s.traceStoredLocked(^uint64(0), fateTaken)
	}
	if t := s.trace.Load(); t != nil {
		f := TracedFrame{Time: s.host.now(), Device: s.device, Session: s.id, Out: true, Type: "end", Fate: e.cause}
		f.Text = e.reason
		if e.code != 0 {
			f.Text = strings.TrimSpace(strconv.Itoa(int(e.code)) + " " + e.reason)
		}
		t.show(f)
	}
}

// traced makes what a tracer sees of a message.
func traced(c wire.Codec, data []byte) TracedFrame {
	data = wire.Blank(data)
	f := TracedFrame{Bytes: len(data), Text: wire.Excerpt(c, data)}
	text, ok := wire.Readable(c, data)
	switch {
	case !ok:
	case c.Numbered(data):
		f.Type = "telemetry"
	default:
		var envelope struct {
			Type string `json:"type"`
		}
		if json.Unmarshal([]byte(text), &envelope) == nil && utf8.ValidString(envelope.Type) {
			f.Type = clip(envelope.Type)
		}
	}
	return f
}
