package devices

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
)

// Turnstile lets the connects of a storm through a few at a time. What a connect costs is processor time: a handshake, a
// signature. If thousands did that at once, whoever is connected already would wait behind all of them. So each takes a
// turn when its next bytes have come, and gives it back before it waits for more: nobody waits for the network with a
// turn in hand, and a slow client holds up nobody.
type Turnstile struct{ turns chan struct{} }

// NewTurnstile returns a turnstile.
func NewTurnstile() *Turnstile { return &Turnstile{turns: make(chan struct{}, turns())} }

// turns is how many connects, or ends, are worked at: one processor is left to who is connected.
func turns() int { return max(runtime.GOMAXPROCS(0)-1, 1) }

func (t *Turnstile) take() { t.turns <- struct{}{} }
func (t *Turnstile) give() { <-t.turns }

// Listen returns a listener whose connections pass the turnstile until their first request is served. TLS goes around it.
func (t *Turnstile) Listen(l net.Listener) net.Listener { return turnListener{l, t} }

// Context is the ConnContext of the server behind the turnstile.
func (t *Turnstile) Context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, turnKey{}, unturned(conn))
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

// State is the ConnState of the server behind the turnstile.
func (t *Turnstile) State(conn net.Conn, state http.ConnState) {
	if c := unturned(conn); c != nil && state == http.StateActive {
		c.open.Store(true) // the request is read; the server now reads ahead, without a turn
	}
}

type turnKey struct{}

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
	stile *Turnstile
	held  atomic.Bool // a turn
	open  atomic.Bool // through: reads need none any more
	dry   bool        // reads find nothing; owned by who reads
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
		c.stile.take()
		c.held.Store(true)
	}
	return n, err
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
	if c.held.Swap(false) {
		c.stile.give()
	}
}

// unturned finds the gated connection below TLS, or nil.
func unturned(conn net.Conn) *turnConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*turnConn)
	return c
}
