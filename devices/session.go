package devices

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Session is one authenticated socket of a device. One goroutine reads and handles frames; what is to be written is
// queued, and written by a drainer that runs only while there is something to write. Liveness and the token's expiry
// are watched by the registry's clock, so that an idle session costs one goroutine and no timer.
type Session struct {
	// static after start
	host   *Handler
	ws     *websocket.Conn
	id     string
	device string
	epoch  uint64
	codec  wire.Codec

	trace atomic.Pointer[tracer]
	heard atomic.Int64 // when the device was last heard, on the registry's clock
	busy  atomic.Bool  // the reader is held up by the hub itself, not by the device
	over  atomic.Bool  // end is set
	quiet atomic.Bool  // presence calls the device silent, and waits to hear of its next telemetry
	point atomic.Int32 // when telemetry was last taken, by wholeSecond; 0: never

	// owned by read
	sock      socket
	scratch   *scratch
	dry       bool // nothing is left to handle before the next wait
	source    TelemetrySource
	lastSeq   uint64
	labels    map[string]string // that source was opened with
	checked   uint64            // the state of the records that labels were compared with
	malformed int32             // frames within a minute from badSince on
	badSince  int32             // by wholeSecond
	slowed    int32             // since when the device is held back, again and again, by wholeSecond; 0: it is not
	pings     pingBudget
	quota     quota
	hellos    int64 // when so many changed hellos would have come at their rate, on the registry's clock

	mu      sync.Mutex // guards all below
	out     outbox
	claims  *auth.Claims
	pending []uint64 // seqs appended and not yet stored
	awaited *awaited // nil: no traced frame waits for its fate
	answers int32    // handed over and not yet recorded
	room    chan struct{}
	end     *ending // set once the session is to end
	watch   watch
}

// maxAnswers is how many answers of one session may wait to be recorded.
const maxAnswers = 64

func (s *Session) attachment() Attachment {
	return Attachment{Device: s.device, Session: s.id, Epoch: s.epoch, Node: s.host.node}
}

// run reads until the session ends, and then winds it up. It is the session's one goroutine: at most one runs.
func (s *Session) run() {
	err := s.read()
	if errors.Is(err, errGrown) {
		go s.run() // in its place
		return
	}
	defer s.host.leave()
	if s.scratch != nil {
		s.rest()
	}
	s.finish(err)
}

// errGrown says that a session goes idle on a goroutine whose stack has grown. A stack of 4 KiB never shrinks, while
// waiting needs less than the 2 KiB that a new one begins with.
var errGrown = errors.New("stack has grown")

// idleFrom is how long a session must have waited for its device to count as idle: one that waits less saves more by
// keeping its stack.
const idleFrom = time.Second

// read reads frames for as long as the socket gives some.
func (s *Session) read() error {
	grown, slow := false, false
	for {
		more, err := s.more()
		if err != nil {
			return err
		}
		if !more {
			s.rest()
			s.dry = true
			if slow {
				return errGrown // it waited long before, so it will again
			}
			idle, err := s.sock.await(grown)
			if err != nil {
				return err
			}
			if idle {
				return errGrown
			}
			s.dry = false
			slow = !grown && s.host.clock.Load()-s.heard.Load() >= int64(idleFrom)
			grown = true
		}
		if s.scratch == nil {
			s.work()
		}
		if err := s.next(); err != nil {
			return err
		}
	}
}

// more reports whether there is something to handle. A socket that cannot be waited on is read at once.
func (s *Session) more() (bool, error) {
	if s.sock.raw == nil {
		return true, nil
	}
	if s.dry {
		return false, nil // found out on an earlier goroutine, whose stack was grown already
	}
	if s.scratch == nil && s.sock.below != nil {
		s.work()
	}
	return s.sock.more()
}

// work and rest borrow and return what only a busy session needs.
func (s *Session) work() {
	s.scratch = takeScratch()
	if s.sock.raw != nil {
		s.sock.attach(s.scratch)
	}
}

func (s *Session) rest() {
	if s.scratch == nil {
		return
	}
	if s.sock.raw != nil {
		s.sock.detach()
	}
	s.host.metrics.tally(s.scratch)
	s.scratch.release()
	s.scratch = nil
}

// next reads and handles one message, or one control frame outside a message. The usual ones stand whole in the buffer
// and are handled there; all others, and every fault, are the WebSocket reader's.
func (s *Session) next() error {
	if done, err := s.control(); done || err != nil {
		return err
	}
	if s.whole() {
		return nil
	}
	if s.sock.raw == nil {
		s.rest() // the next message may be long in coming
	}
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return err
	}
	if s.scratch == nil {
		s.work()
	}
	data, err := readAll(r, s.scratch.message[:0])
	s.scratch.message = data[:0]
	if err != nil {
		return err
	}
	s.message(byte(kind), data)
	return nil
}

// message handles one message.
func (s *Session) message(kind byte, data []byte) {
	now := s.host.clock.Load()
	s.heard.Store(now)
	if s.ending() {
		return // what still comes is not handled
	}
	if !s.codec.Takes(kind == websocket.BinaryMessage) {
		s.stop(endText)
		return
	}
	if kind == websocket.TextMessage && !utf8.Valid(data) {
		s.stop(endNotUTF8)
		return
	}
	s.scratch.bytes += len(data)
	s.quota.frame(now, &s.host.rates, len(data))
	s.handle(data)
	s.meter(now)
}

// readAll reads a message whose size the WebSocket reader bounds.
func readAll(r io.Reader, buf []byte) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

func (s *Session) ending() bool { return s.over.Load() }

// concludeLocked decides how the session ends.
func (s *Session) concludeLocked(e *ending) {
	s.end = e
	s.over.Store(true)
}

// stop ends the session by the hub's decision: bye, the close frame, and then the socket, at the latest after
// closeGrace. Only the first decision counts. It does not block.
func (s *Session) stop(e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(e)
}

func (s *Session) endLocked(e ending) {
	if s.end != nil || s.out.ended {
		return
	}
	s.concludeLocked(&e)
	s.roomLocked()
	if e.code != 0 {
		s.byeLocked(&e)
		s.drainLocked()
	}
	s.host.expire(s, closeGrace)
}

// byeLocked queues the last frames. What the device did not read before, it will not read now.
func (s *Session) byeLocked(e *ending) {
	if e.cause == causeSlow {
		s.out.discard()
	}
	bye := &wire.Bye{Code: int(e.code), Reason: e.reason, RetryAfterMS: e.retryAfter().Milliseconds()}
	if payload, err := wire.Append(nil, s.codec, bye); err == nil {
		s.out.append(s.opcode(), payload)
		s.traceOut(payload, fateSent)
	}
	s.closeFrameLocked(e)
}

func (s *Session) closeFrameLocked(e *ending) {
	const maxReason = 123
	reason := e.reason
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	s.out.append(websocket.CloseMessage, websocket.FormatCloseMessage(int(e.code), reason))
	s.out.last = true
}

// lost ends the session after a failed write. A write that runs into its deadline is a device that does not read.
func (s *Session) lost(err error) {
	s.mu.Lock()
	if s.end == nil {
		e := endBroken
		if errors.Is(err, os.ErrDeadlineExceeded) {
			e = endSlow
		}
		s.concludeLocked(&e)
	}
	s.out.ended = true
	s.roomLocked()
	s.mu.Unlock()
	s.sock.abort()
}

// closeSent is told that the close frame was written. The device answers it, or the clock ends the wait.
func (s *Session) closeSent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.ended = true
}

// finish winds the session up after the reader ended with err.
func (s *Session) finish(err error) {
	s.settle(err)
	s.join()
	defer s.host.stile.take(rankLeave).give() // when all end at once, who stays does not wait behind them
	s.sock.Close()
	if s.source != nil {
		s.source.Close()
	}
	s.host.remove(s)
}

// settle decides how the session ends if nobody has yet, and answers a close frame.
func (s *Session) settle(err error) {
	e, peer := s.sock.cause(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.end != nil:
	case peer:
		s.concludeLocked(&e)
		if validEcho(e.code) {
			s.closeFrameLocked(&ending{code: e.code})
		} else {
			s.closeFrameLocked(&ending{code: CloseNormal})
		}
		s.drainLocked()
	case e.code != 0:
		s.concludeLocked(&e)
		s.byeLocked(&e)
		s.drainLocked()
	default:
		s.concludeLocked(&e)
		s.out.ended = true
	}
}

func validEcho(c CloseCode) bool {
	return c != websocket.CloseNoStatusReceived && c != websocket.CloseAbnormalClosure
}

// join waits for the drainer, which its write deadline bounds.
func (s *Session) join() {
	s.mu.Lock()
	if !s.out.draining {
		s.out.ended = true
		s.out.discard()
		s.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	s.out.idle = idle
	if s.out.ended || !s.out.last {
		s.sock.abort()
	}
	s.mu.Unlock()
	<-idle
	s.mu.Lock()
	s.out.ended = true
	s.out.discard()
	s.mu.Unlock()
}

// wait blocks the reader until ready holds, which is asked under the lock, or the session is to end. It is how a device
// that sends faster than the hub stores is slowed down.
func (s *Session) wait(ready func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waitLocked(ready)
}

// waitLocked is wait; it lets go of the lock while it blocks.
func (s *Session) waitLocked(ready func() bool) bool {
	for !ready() {
		if s.end != nil {
			return false
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		s.busy.Store(true)
		<-room
		s.heard.Store(s.host.clock.Load())
		s.busy.Store(false)
		s.mu.Lock()
	}
	return s.end == nil
}

// roomLocked wakes a reader that waits.
func (s *Session) roomLocked() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// closeGrace is how long a device has to answer a close frame before its socket is closed on it.
const closeGrace = 800 * time.Millisecond
