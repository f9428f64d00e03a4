package devices_test

import (
	"context"
	"errors"
	"sync"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// telemetryLog is a log that stores at once, or when the test says so.
type telemetryLog struct {
	mu     sync.Mutex
	cond   *sync.Cond
	held   bool // nothing is stored until release
	full   bool // Append blocks
	reject *wire.Reject
	fail   error
	frames []string // device/seq
	points int
	opened []map[string]string
	closed int
	wait   []func()
}

func newTelemetryLog() *telemetryLog {
	l := &telemetryLog{}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *telemetryLog) set(fn func(*telemetryLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(l)
	l.cond.Broadcast()
}

// release stores what was held back, and holds nothing any more.
func (l *telemetryLog) release() {
	l.mu.Lock()
	l.held, l.full = false, false
	wait := l.wait
	l.wait = nil
	l.cond.Broadcast()
	l.mu.Unlock()
	for _, fn := range wait {
		fn()
	}
}

func (l *telemetryLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.frames)
}

func (l *telemetryLog) Open(device string, labels map[string]string, w devices.Waiter) devices.TelemetrySource {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = append(l.opened, labels)
	return &source{log: l, device: device, w: w}
}

type source struct {
	log    *telemetryLog
	device string
	w      devices.Waiter
	closed bool
}

func (s *source) Append(t *wire.Telemetry) error {
	l := s.log
	l.mu.Lock()
	for l.full {
		l.cond.Wait()
	}
	if l.fail != nil || l.reject != nil {
		defer l.mu.Unlock()
		if l.fail != nil {
			return l.fail
		}
		return l.reject
	}
	l.frames = append(l.frames, s.device)
	l.points += len(t.Points)
	seq := t.Seq
	if l.held {
		l.wait = append(l.wait, func() {
			if !s.closed {
				s.w.Stored(seq)
			}
		})
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	if seq != 0 {
		s.w.Stored(seq)
	}
	return nil
}

func (s *source) Close() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.closed = true
	s.log.closed++
}

// commandLog records what devices answer.
type commandLog struct {
	mu       sync.Mutex
	attached []devices.Attachment
	answers  []wire.Answer
	from     []devices.Attachment
	err      error
	hellos   int
}

func newCommandLog() *commandLog { return &commandLog{} }

func (l *commandLog) Announced(specs []wire.CommandSpec) error {
	l.mu.Lock()
	l.hellos++
	l.mu.Unlock()
	for _, c := range specs {
		if string(c.Params) == `{"type":"banana"}` {
			return errors.New(c.Name + ": banana is no type")
		}
	}
	return nil
}

func (l *commandLog) Attached(a devices.Attachment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attached = append(l.attached, a)
}

func (l *commandLog) Answered(a devices.Attachment, ans *wire.Answer, recorded func(error)) {
	l.mu.Lock()
	l.answers = append(l.answers, *ans)
	l.from = append(l.from, a)
	err := l.err
	l.mu.Unlock()
	recorded(err)
}

func (l *commandLog) announcements() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hellos
}

func (l *commandLog) all() []wire.Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]wire.Answer(nil), l.answers...)
}

// conflictLog records identity conflicts.
type conflictLog struct {
	mu  sync.Mutex
	all []devices.Conflict
}

func (l *conflictLog) Conflict(_ context.Context, c devices.Conflict) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, c)
	return nil
}

func (l *conflictLog) told() []devices.Conflict {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]devices.Conflict(nil), l.all...)
}
