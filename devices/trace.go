package devices

import "time"

// TracedFrame is one frame of a traced device and what became of it. Data is the tracer's to keep.
type TracedFrame struct {
	Time    time.Time
	Device  string
	Session string
	Out     bool // from the hub to the device
	Data    []byte
	Fate    string // taken, sent, or the code by which it was refused
}

// tracer is who looks at a device's frames. A session without one pays a look at a nil pointer.
type tracer struct{ see func(TracedFrame) }

// traceIn and traceOut make the frame that a tracer would see; nil if nobody looks.
func (s *Session) traceIn(data []byte, fate string) *TracedFrame {
	if s.trace.Load() == nil {
		return nil
	}
	return s.traceFrame(data, fate, false)
}

func (s *Session) traceOut(data []byte, fate string) *TracedFrame {
	if s.trace.Load() == nil {
		return nil
	}
	if fate == "" {
		fate = "sent"
	}
	return s.traceFrame(data, fate, true)
}

func (s *Session) traceFrame(data []byte, fate string, out bool) *TracedFrame {
	return &TracedFrame{
		Time: s.host.now(), Device: s.device, Session: s.id, Out: out, Data: append([]byte(nil), data...), Fate: fate,
	}
}

func (s *Session) traced(f *TracedFrame) {
	if f == nil {
		return
	}
	if t := s.trace.Load(); t != nil {
		t.see(*f)
	}
}

// Trace shows see every frame of a device, of this session and later ones on this node, until stop is called. see is
// called by the session's goroutines and must not block; one tracer at a time sees a device, the newest.
func (r *Registry) Trace(device string, see func(TracedFrame)) (stop func()) {
	t := &tracer{see: see}
	r.traceMu.Lock()
	r.tracers[device] = t
	r.traceMu.Unlock()
	if s := r.session(device); s != nil {
		s.trace.Store(t)
	}
	return func() {
		r.traceMu.Lock()
		if r.tracers[device] == t {
			delete(r.tracers, device)
		}
		r.traceMu.Unlock()
		if s := r.session(device); s != nil {
			s.trace.CompareAndSwap(t, nil)
		}
	}
}

func (r *Registry) tracer(device string) *tracer {
	r.traceMu.Lock()
	defer r.traceMu.Unlock()
	return r.tracers[device]
}
