package devices

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Walked is what a walker knows after a stream: whether any message ended, and whether it stands inside one.
type Walked struct {
	Ended      int
	Incomplete bool
	Failed     bool
}

// Walk feeds a stream in pieces of n bytes to a walker.
func Walk(stream []byte, n int) Walked {
	var w walker
	var out Walked
	for len(stream) > 0 && !out.Failed {
		piece := stream[:min(n, len(stream))]
		stream = stream[len(piece):]
		ended, err := w.feed(piece)
		out.Failed = err != nil
		if ended && !out.Failed {
			out.Ended = 1
		}
	}
	out.Incomplete = !out.Failed && w.incomplete()
	if out.Failed {
		out.Ended = 0
	}
	return out
}

// Impatient is an uplink that waits no longer than d for the log.
func Impatient(h *Handler, d time.Duration) *Uplink {
	u := NewUplink(h)
	u.wait = d
	return u
}

// Hasty is an uplink that waits no longer than d for a body.
func Hasty(h *Handler, d time.Duration) *Uplink {
	u := NewUplink(h)
	u.bodyWait = d
	return u
}

// KeepAll stores when the devices were last seen, as is done of one part of them each second.
func (p *Presence) KeepAll(ctx context.Context) error { return p.keepAll(ctx) }

// Clocked reports whether the registry's clock has come to t: it is read a few times a second.
func (r *Registry) Clocked(t time.Time) bool { return r.clock.Load() >= int64(t.Sub(r.started)) }

// HellosAtOnce is how many changed hellos are taken until the device is held back.
const HellosAtOnce = int(helloBurst/helloEvery) + 1

// Traced is a session without a socket, for what tracing costs.
type Traced struct{ s *Session }

// NewTraced returns a session as it is after its handshake.
func NewTraced(r *Registry, device string) Traced {
	s := &Session{host: &Handler{Registry: r}, device: device, id: "x", codec: wire.JSON}
	r.follow(s)
	return Traced{s}
}

// Frame goes where a stored frame and its ack pass the tracer.
func (t Traced) Frame(data []byte) {
	t.s.traceTelemetry(data, 1)
	t.s.traceIn(data, fateTaken)
	t.s.traceOut(data, fateSent)
}

// LostNodes is of how many lost nodes the devices are remembered, and of how many at most.
func (p *Presence) LostNodes() (n, most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lost), lostNodes
}

// Lose takes a node for lost, as if it had not been heard for longer than its lease.
func (p *Presence) Lose(node string) {
	p.mu.Lock()
	p.nodes[node] = time.Time{}
	p.mu.Unlock()
	p.expireNodes(p.opts.Node)
}

// Unhurried is a turnstile of so many turns that last for as long as it takes.
func Unhurried(turns int) *Turnstile {
	t := NewTurnstile(turns)
	t.lapse = time.Hour
	return t
}

// AnswerStall is how long a client may leave a piece of an answer unread.
const AnswerStall = answerStall

// Stalling is a turnstile whose clients may leave a piece of an answer unread for so long.
func Stalling(stall time.Duration) *Turnstile {
	t := NewTurnstile(1)
	t.stall = stall
	return t
}

// Through is a connection that is through a turnstile.
func Through(conn net.Conn) net.Conn {
	c := &turnConn{Conn: conn, stile: NewTurnstile(1)}
	c.open.Store(true)
	return c
}

// Crowd is from how many on nobody more is let in.
const Crowd = crowd

// Crowded reports whether nobody more is let in.
func (t *Turnstile) Crowded() bool { return t.crowded() }

// Queue takes all turns, lets so many wait for one with a handshake to do, and returns what undoes that.
func (t *Turnstile) Queue(waiting int) (undo func()) {
	was, turns := t.waiting, t.free
	t.free = 0
	for i := range waiting {
		r := rankBegin
		if i%2 == 0 {
			r = rankBegun
		}
		t.waiting[r] = append(t.waiting[r], make(chan struct{}))
	}
	return func() { t.waiting, t.free = was, turns }
}

// Waiting is how many wait in the lobby of a listener.
func Waiting(l net.Listener) int { return l.(turnListener).stile.waitingOutside() }

// SetCrowded replaces what holds back who comes.
func SetCrowded(l net.Listener, crowded func() bool) {
	l.(turnListener).Listener.(*lobby).crowded = crowded
}

// Pace is the pace of a lobby.
type Pace struct{ p pace }

// NewPace returns the pace of a lobby that nobody came to, on two processors.
func NewPace(spread time.Duration) Pace { return Pace{pace{spread: spread, usual: usualPace / 2}} }

// Next says how long the next one waits.
func (p *Pace) Next(now time.Time, behind int) time.Duration { return p.p.next(now, behind) }

// MessageTime is the longest a message may take.
const MessageTime = messageTime

// NewSocket is what a session reads from conn through.
func NewSocket(conn net.Conn) io.Reader { return &socket{Conn: conn} }

// Dribbled reports whether reading ended because a message took too long.
func Dribbled(err error) bool { return errors.Is(err, errDribble) }

// MaxUnanswered is how many presence messages may wait for the bus's answer.
const MaxUnanswered = maxUnanswered
