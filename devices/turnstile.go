package devices

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Turnstile lets those who come, and those who go, through a few at a time. What they cost is processor time: a handshake, a
// signature, the end of a session. If thousands did that at once, whoever is connected would wait behind all of them at
// each step of a frame's way. So each takes a turn when its next bytes have come, and gives it back before it waits for more:
// nobody waits for the network with a turn in hand, and a slow client holds up nobody.
type Turnstile struct {
	// static
	lapse time.Duration
	stall time.Duration // of answers
	turns int

	lobby atomic.Pointer[lobby]

	mu      sync.Mutex
	free    int                    // guarded by mu
	waiting [ranks][]chan struct{} // guarded by mu, oldest first; empty while a turn is free
}

// rank says who goes first.
type rank int

const (
	rankLeave rank = iota
	rankBegun      // who has begun a handshake
	rankBegin
	ranks
)

const (
	// turnLapse is how long a turn lasts at most. Nothing that is done in one takes so long, unless it waits for somebody.
	turnLapse = 100 * time.Millisecond
	// crowd is how many with a handshake to do may wait before nobody more is let in.
	crowd = 64
	// answerStall is how long a client may leave a piece of an answer unread. A whole answer may take longer: a page or an
	// export over a slow line, or one that waits for something to tell.
	answerStall = 30 * time.Second
	answerPiece = 64 << 10
)

// NewTurnstile returns a turnstile of so many turns, usually one for each processor of the machine. With fewer, processors
// stand idle while a turn is handed on; with more, who is connected waits longer.
func NewTurnstile(turns int) *Turnstile {
	return &Turnstile{lapse: turnLapse, stall: answerStall, turns: turns, free: turns}
}

// turn is one go through the turnstile.
type turn struct {
	of    *Turnstile
	over  atomic.Bool
	lapse *time.Timer
}

// take waits for a turn.
func (t *Turnstile) take(r rank) *turn {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
	} else {
		next := make(chan struct{})
		t.waiting[r] = append(t.waiting[r], next)
		t.mu.Unlock()
		<-next
	}
	mine := &turn{of: t}
	mine.lapse = time.AfterFunc(t.lapse, mine.end)
	return mine
}

// give hands the turn on.
func (u *turn) give() {
	u.lapse.Stop()
	u.end()
}

// end hands the turn on, once.
func (u *turn) end() {
	if !u.over.Swap(true) {
		u.of.pass()
	}
}

// pass lets the next one through.
func (t *Turnstile) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.waiting {
		if next := shift(&t.waiting[r]); next != nil {
			close(next)
			return
		}
	}
	t.free++
}

// shift takes who waits longest, or nil. Room of those served goes as the slice next grows, so that a storm without a pause
// holds room for who waits, not for all who came.
func shift(waiting *[]chan struct{}) chan struct{} {
	if len(*waiting) == 0 {
		return nil
	}
	next := (*waiting)[0]
	(*waiting)[0] = nil
	*waiting = (*waiting)[1:]
	if len(*waiting) == 0 {
		*waiting = nil
	}
	return next
}

// Listen takes over a listener and returns one whose connections pass the turnstile until their first request is served. TLS
// goes around it. Those who come at once are let in over the time spread, and wait in a lobby meanwhile; room says how many
// more files may be open.
func (t *Turnstile) Listen(l net.Listener, spread time.Duration, room func() int) (net.Listener, error) {
	c, err := newCallers(l, room)
	if err != nil {
		return nil, err
	}
	front := &lobby{Listener: l, callers: c, crowded: t.crowded, pace: newPace(spread, t.turns)}
	t.lobby.Store(front)
	return turnListener{front, t}, nil
}

// waitingOutside is how many wait to be let in.
func (t *Turnstile) waitingOutside() int {
	if front := t.lobby.Load(); front != nil {
		return front.callers.waiting()
	}
	return 0
}

// crowded reports whether many wait with a handshake to do.
func (t *Turnstile) crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting[rankBegin])+len(t.waiting[rankBegun]) >= crowd
}

type turnKey struct{}

// Context is the ConnContext of the server behind the turnstile.
func (t *Turnstile) Context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, turnKey{}, belowTLS(conn))
}

// Handler serves behind the turnstile: the first request of a connection by device keeps its turn until it is answered, all
// others give theirs back at once, since they may take long.
func (t *Turnstile) Handler(next http.Handler, keeps func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(turnKey{}).(*turnConn); ok && c != nil {
			if keeps(r) {
				defer c.done()
			} else {
				c.done()
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ConnState is for the server behind the turnstile.
func (t *Turnstile) ConnState(conn net.Conn, state http.ConnState) {
	c := belowTLS(conn)
	if c == nil {
		return
	}
	switch state {
	case http.StateNew: // it has said nothing yet
	case http.StateActive:
		c.open.Store(true) // the request is read; the server now reads ahead, without a turn
	default:
		c.done()
	}
}

type turnListener struct {
	net.Listener
	stile *Turnstile
}

// Accept waits for the next connection.
func (l turnListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &turnConn{Conn: conn, stile: l.stile}, nil
}

// turnConn is a connection on its way through the turnstile.
type turnConn struct {
	net.Conn
	stile           *Turnstile
	held            atomic.Pointer[turn]
	open            atomic.Bool  // through: reads need no turn any more
	begun           bool         // owned by who reads
	dry             bool         // reads find nothing; owned by who reads
	readBy, writeBy atomic.Int64 // deadlines that were asked for, Unix nanoseconds; 0: none
}

// errDry answers a read that is not to wait. TLS takes it as temporary, and goes on at the next read where it was.
var errDry net.Error = dryError{}

type dryError struct{}

func (dryError) Error() string   { return "nothing is read now" }
func (dryError) Timeout() bool   { return true }
func (dryError) Temporary() bool { return true }

// Read reads, and takes a turn for what follows from it.
func (c *turnConn) Read(p []byte) (int, error) {
	if c.dry {
		return 0, errDry
	}
	if c.open.Load() {
		return c.Conn.Read(p)
	}
	c.release()
	n, err := c.Conn.Read(p)
	if err == nil && !c.open.Load() {
		r := rankBegin
		if c.begun {
			r = rankBegun
		}
		c.begun = true
		came := time.Now()
		c.held.Store(c.stile.take(r))
		c.extend(time.Since(came))
	}
	return n, err
}

// Write writes, and never without a deadline: the server sets none for its answers, and who asks again and again and reads
// nothing would hold the connection and its goroutine for good. A deadline that somebody has set stays.
func (c *turnConn) Write(p []byte) (n int, err error) {
	for c.writeBy.Load() == 0 {
		piece := p[n:min(len(p), n+answerPiece)]
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.stile.stall)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(piece)
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
	m, err := c.Conn.Write(p[n:])
	return n + m, err
}

// extend leaves a client the time that it waited for its turn: deadlines are against slow clients, and it was not slow.
func (c *turnConn) extend(waited time.Duration) {
	if by := c.readBy.Load(); by != 0 {
		_ = c.SetReadDeadline(time.Unix(0, by).Add(waited)) // a closed connection says so at the next read
	}
	if by := c.writeBy.Load(); by != 0 {
		_ = c.SetWriteDeadline(time.Unix(0, by).Add(waited))
	}
}

// SetDeadline bounds reads and writes.
func (c *turnConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds reads.
func (c *turnConn) SetReadDeadline(t time.Time) error {
	c.readBy.Store(unixNano(t))
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline bounds writes.
func (c *turnConn) SetWriteDeadline(t time.Time) error {
	c.writeBy.Store(unixNano(t))
	return c.Conn.SetWriteDeadline(t)
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Close gives the turn back too.
func (c *turnConn) Close() error {
	c.done()
	return c.Conn.Close()
}

// NetConn is the connection itself.
func (c *turnConn) NetConn() net.Conn { return c.Conn }

func (c *turnConn) done() {
	c.open.Store(true)
	c.release()
}

func (c *turnConn) release() {
	if u := c.held.Swap(nil); u != nil {
		u.give()
	}
}

// belowTLS finds the connection that passed the turnstile, below TLS or not, or nil.
func belowTLS(conn net.Conn) *turnConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*turnConn)
	return c
}
