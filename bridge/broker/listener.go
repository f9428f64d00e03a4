package broker

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// connectTimeout is how long a socket may take to say who it is. After that the reading side lives by the client's
// keep-alive.
const connectTimeout = 10 * time.Second

// listener accepts sockets for the server. Unlike mochi's own it bounds the sockets that have not yet said who they
// are, gives them a deadline for it, and closes and waits for all that it let in: the server knows only those that have
// said who they are. Those are bounded by the hook.
type listener struct {
	socket net.Listener
	m      *metrics
	log    *slog.Logger

	closeClients func() // says goodbye to those that have said who they are; static after New

	serving sync.WaitGroup
	unsent  atomic.Int64 // bytes that wait for all sockets

	mu      sync.Mutex
	conns   map[*timedConn]struct{} // guarded by mu: nil once closed
	unknown []*timedConn            // guarded by mu: those of conns that have not yet said who they are, oldest first
}

func newListener(socket net.Listener, m *metrics) *listener {
	return &listener{socket: socket, m: m, conns: make(map[*timedConn]struct{})}
}

// ID, Address and Protocol describe the listener to mochi.
func (l *listener) ID() string       { return listenerID }
func (l *listener) Address() string  { return l.socket.Addr().String() }
func (l *listener) Protocol() string { return "tcp" }

// Init keeps the server's logger.
func (l *listener) Init(log *slog.Logger) error {
	l.log = log
	return nil
}

// Serve accepts sockets until the listener is closed.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		socket, err := l.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("accept mqtt client", "err", err)
			time.Sleep(acceptPause)
			continue
		}
		conn := newTimedConn(socket, l)
		if l.admit(conn) {
			go l.serve(conn, establish)
			continue
		}
		_ = conn.Close()
	}
}

// acceptPause keeps a lasting accept error, such as no more file descriptors, from spinning.
const acceptPause = 100 * time.Millisecond

// admit lets conn in. Silent sockets keep nobody out: where they are too many the one that has been silent longest goes.
func (l *listener) admit(conn *timedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		return false
	}
	if len(l.unknown) >= maxUnauthed {
		l.m.refused.WithLabelValues(refusedFull).Inc()
		_ = l.unknown[0].Conn.Close()
		l.unknown = slices.Delete(l.unknown, 0, 1)
	}
	l.conns[conn] = struct{}{}
	l.unknown = append(l.unknown, conn)
	l.serving.Add(1)
	return true
}

// known is called when conn has said who it is, or is gone.
func (l *listener) known(conn *timedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.unknown, conn); i >= 0 {
		l.unknown = slices.Delete(l.unknown, i, i+1)
	}
}

func (l *listener) serve(conn *timedConn, establish listeners.EstablishFn) {
	defer l.serving.Done()
	_ = conn.SetReadDeadline(time.Now().Add(connectTimeout))
	l.m.clients.Inc()
	defer l.m.clients.Dec()
	if err := establish(listenerID, conn); err != nil {
		l.log.Debug("mqtt client ended", "err", err)
	}
	if conn.over != nil {
		conn.over()
	}
	close(conn.ended)
	if conn.leave != nil {
		conn.leave()
	}
	l.known(conn)
	l.mu.Lock()
	delete(l.conns, conn)
	l.mu.Unlock()
	_ = conn.Close()
	conn.out.drained.Wait()
}

// Close stops accepting, closes every client and waits for them. The server waits for its own too, but misses who is
// still on the way in.
func (l *listener) Close(listeners.CloseFn) {
	l.mu.Lock()
	left := l.conns
	l.conns = nil
	l.mu.Unlock()
	if left == nil {
		return
	}
	_ = l.socket.Close()
	l.closeClients()
	for conn := range left {
		_ = conn.Close()
	}
	l.serving.Wait()
}

// timedConn is a socket with an outbox. The hub's writes wait for the socket instead, so that what waits for the hub is
// bounded by mochi's queue and nothing of it is dropped before.
type timedConn struct {
	net.Conn
	// static after newTimedConn
	authenticated func() // to be called when the client has said who it is
	out           outbox
	ended         chan struct{} // closed when the server is done with the connection

	leave       func()  // owned by serve: to be called when an authenticated client is gone
	asked       uint16  // owned by serve: packet id of the SUBSCRIBE or UNSUBSCRIBE that is being answered
	denied      bool    // owned by serve: the PUBLISH that is being read is none that the device may make
	over        func()  // owned by serve: to be called when a device's client is gone, before its session may be taken over
	member      *member // static after the CONNECT; nil: not a device
	hub         atomic.Bool
	subscribing atomic.Bool
}

func newTimedConn(socket net.Conn, l *listener) *timedConn {
	c := &timedConn{Conn: socket, ended: make(chan struct{})}
	c.authenticated = func() { l.known(c) }
	c.out.socket, c.out.all = socket, &l.unsent
	c.out.room = sync.NewCond(&c.out.mu)
	return c
}

// SetDeadline is mochi's keep-alive, which concerns reading only.
func (c *timedConn) SetDeadline(t time.Time) error { return c.out.setReadDeadline(t) }

// Close ends reading at once, and writing when what waits is written, or soon.
func (c *timedConn) Close() error { return c.out.close() }

// Write puts p into the outbox; the hub's fails after writeTimeout.
func (c *timedConn) Write(p []byte) (int, error) {
	if !c.hub.Load() {
		return c.out.add(p)
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
