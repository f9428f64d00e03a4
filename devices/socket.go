package devices

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

const (
	// messageTime is the longest a message may take from its first to its last byte, not counting what the hub itself
	// holds it up.
	messageTime = 10 * time.Second
	readBuffer  = 4 << 10
	// ownReadBuffer is for sockets that cannot be waited on without a buffer.
	ownReadBuffer = 512
	keptMessage   = 64 << 10
)

var errDribble = errors.New("message took too long")

// socket stands between the WebSocket reader and the connection. It lends the reader a buffer only while there is
// something to read, bounds how long a message takes and in how many pieces it comes, and keeps the reader from writing:
// whatever the session writes goes through its outbox.
type socket struct {
	net.Conn
	raw   syscall.RawConn // nil: cannot be waited on
	ready func(fd uintptr) bool
	below *turnConn // under TLS, which hides what it has read already; nil: no TLS

	// owned by read
	br     bufio.Reader // the WebSocket reader's; without a buffer while idle
	walk   walker
	begun  bool // a message has begun that has no deadline yet
	armed  bool // a read deadline is set
	probed bool

	// owned by the handler until the session runs, then by read
	upgraded bool
	response []byte  // to the handshake, kept to be sent together with the welcome
	fault    *ending // why the WebSocket reader wanted to close
}

// scratch is what handling frames needs and an idle session does not.
type scratch struct {
	br      *bufio.Reader
	message []byte
	decoder wire.Decoder

	frames, bytes int // of telemetry, and of all messages; counted while busy, told when idle
}

var scratches = sync.Pool{New: func() any {
	return &scratch{br: bufio.NewReaderSize(nil, readBuffer), message: make([]byte, 0, 1<<10)}
}}

func takeScratch() *scratch { return scratches.Get().(*scratch) }

func (sc *scratch) release() {
	if cap(sc.message) > keptMessage {
		sc.message = nil
	}
	sc.br.Reset(nil)
	scratches.Put(sc)
}

// hijacker hands the WebSocket upgrader our socket instead of the bare connection.
type hijacker struct {
	http.ResponseWriter
	session *Session
}

// Hijack takes the connection from net/http. What net/http had allocated for it is not kept. After an error the
// connection is the handler's to close.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if c, ok := conn.(*turnConn); ok {
		conn = c.Conn // it is through the turnstile
	}
	s := &h.session.sock
	s.Conn = conn
	if rw.Reader.Buffered() > 0 {
		return nil, nil, errors.New("frames came before the handshake was answered")
	}
	tcp, ok := conn.(*net.TCPConn)
	if s.below = belowTLS(conn); s.below != nil {
		tcp, ok = s.below.Conn.(*net.TCPConn)
	}
	if ok {
		if s.raw, err = tcp.SyscallConn(); err != nil {
			return nil, nil, err
		}
		s.ready = s.probe
	} else {
		s.br = *bufio.NewReaderSize(s, ownReadBuffer)
	}
	h.session.work() // the upgrader looks at the buffer's size
	return s, bufio.NewReadWriter(&s.br, rw.Writer), nil
}

// attach lends the buffer of sc to the WebSocket reader.
func (s *socket) attach(sc *scratch) {
	sc.br.Reset(s)
	s.br = *sc.br
}

// detach takes the buffer back. It is empty.
func (s *socket) detach() { s.br = bufio.Reader{} }

// more reports whether there is something to read without waiting. A buffer is attached if there may be: below TLS.
func (s *socket) more() (bool, error) {
	if s.br.Buffered() > 0 || s.below == nil {
		return s.br.Buffered() > 0, nil
	}
	s.below.dry = true
	_, err := s.br.Peek(1)
	s.below.dry = false
	if errors.Is(err, errDry) {
		return false, nil
	}
	return true, err
}

// await blocks, without a buffer, until there is something to read or the socket ends. If it is not to be long and
// becomes so, it reports that the socket is idle.
func (s *socket) await(brief bool) (idle bool, err error) {
	s.probed = false
	if !brief {
		return false, s.raw.Read(s.ready)
	}
	if err := s.Conn.SetReadDeadline(time.Now().Add(idleFrom)); err != nil {
		return false, err
	}
	err = s.raw.Read(s.ready)
	idle = errors.Is(err, os.ErrDeadlineExceeded)
	if idle {
		err = nil
	}
	return idle, errors.Join(err, s.Conn.SetReadDeadline(time.Time{}))
}

// probe looks once whether something waits to be read; the runtime calls it again when something does.
func (s *socket) probe(fd uintptr) bool {
	if s.probed {
		return true
	}
	s.probed = true
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return !errors.Is(err, syscall.EAGAIN)
}

// Read reads from the connection for the WebSocket reader. A deadline is only set while a message is incomplete, so
// that the usual frame, read in one piece, costs none.
func (s *socket) Read(p []byte) (int, error) {
	s.arm()
	n, err := s.Conn.Read(p)
	if n > 0 {
		if errors.Is(err, errDry) {
			err = nil // found after what was read
		}
		ended, werr := s.walk.feed(p[:n])
		if werr != nil {
			return 0, werr
		}
		s.bound(ended)
	}
	if err != nil && s.armed && errors.Is(err, os.ErrDeadlineExceeded) {
		err = errDribble
	}
	return n, err
}

// bound notes that a message has begun, or takes the deadline back once none is incomplete.
func (s *socket) bound(ended bool) {
	switch incomplete := s.walk.incomplete(); {
	case incomplete && (ended || !s.armed):
		s.begun = true
	case !incomplete && s.armed:
		s.armed = false
		_ = s.SetReadDeadline(time.Time{}) // fails only on a closed socket, and then reading fails too
	}
}

// arm sets the deadline of a message that has begun. Its time counts from when the rest is wanted: between two reads the
// hub handles the messages before it, and is held up by its log, or holds the device back. A deadline that passed
// meanwhile would end the session of a device whose bytes have long been there.
func (s *socket) arm() {
	if !s.begun {
		return
	}
	s.begun, s.armed = false, true
	_ = s.SetReadDeadline(time.Now().Add(messageTime)) // fails only on a closed socket, and then reading fails too
}

// abort closes the connection without blocking.
func (s *socket) abort() { hangUp(s.Conn) }

// hangUp closes a connection without blocking: TLS would first try to say goodbye to a peer that may not read.
func hangUp(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.Close()
}

// Write takes what the WebSocket library wants to write: first the answer to the handshake, which waits for the
// welcome, later only the close frame of a fault it found, which the session sends after its bye.
func (s *socket) Write(p []byte) (int, error) {
	if !s.upgraded {
		s.response = append(s.response, p...)
		return len(p), nil
	}
	if len(p) >= 4 && p[0]&opcodeMask == websocket.CloseMessage && s.fault == nil {
		code := CloseCode(binary.BigEndian.Uint16(p[2:]))
		s.fault = &ending{code: code, cause: causeFault, reason: string(p[4:])}
		if code == CloseTooBig {
			s.fault = &endTooBig
		}
	}
	return len(p), nil
}

// SetWriteDeadline keeps the WebSocket library from the deadline that the outbox sets.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline only clears the deadlines of the handshake; the library calls it for nothing else.
func (s *socket) SetDeadline(t time.Time) error { return s.Conn.SetDeadline(t) }

// cause says how the session ends after the WebSocket reader failed with err.
func (s *socket) cause(err error) (e ending, peer bool) {
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, errFragments):
		return endFragments, false
	case errors.Is(err, errFraming):
		return endFraming, false
	case errors.Is(err, errDribble):
		return endDribble, false
	case errors.Is(err, websocket.ErrReadLimit):
		return endTooBig, false
	case s.fault != nil:
		return *s.fault, false
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		reason := closed.Text
		if !utf8.ValidString(reason) {
			reason = ""
		}
		return ending{code: CloseCode(closed.Code), cause: causeClosed, reason: reason}, true
	}
	return endBroken, false
}
