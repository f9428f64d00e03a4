package broker

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// The deadlines of a socket. After CONNECT the reading side lives by the client's keep-alive.
const (
	connectTimeout = 10 * time.Second
	writeTimeout   = 10 * time.Second
)

// listener accepts sockets for the server. Unlike mochi's own it bounds the sockets that have not yet said who they
// are, gives them a deadline for it, and waits for the goroutines it started.
type listener struct {
	socket net.Listener
	m      *metrics
	log    *slog.Logger
	slots  chan struct{}
	ended  atomic.Bool
	conns  sync.WaitGroup
}

func newListener(socket net.Listener, m *metrics) *listener {
	return &listener{socket: socket, m: m, slots: make(chan struct{}, MaxClients+maxUnauthed)}
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
		conn, err := l.socket.Accept()
		if errors.Is(err, net.ErrClosed) || err != nil && l.ended.Load() {
			return
		}
		if err != nil {
			l.log.Warn("accept mqtt client", "err", err)
			time.Sleep(acceptPause)
			continue
		}
		select {
		case l.slots <- struct{}{}:
			l.conns.Add(1)
			go l.serve(conn, establish)
		default:
			l.m.refused.WithLabelValues(refusedFull).Inc()
			_ = conn.Close()
		}
	}
}

// acceptPause keeps a lasting accept error, such as no more file descriptors, from spinning.
const acceptPause = 100 * time.Millisecond

func (l *listener) serve(conn net.Conn, establish listeners.EstablishFn) {
	defer l.conns.Done()
	defer func() { <-l.slots }()
	_ = conn.SetReadDeadline(time.Now().Add(connectTimeout))
	l.m.clients.Inc()
	defer l.m.clients.Dec()
	if err := establish(listenerID, &timedConn{Conn: conn}); err != nil {
		l.log.Debug("mqtt client ended", "err", err)
	}
	_ = conn.Close()
}

// Close stops accepting and closes every client.
func (l *listener) Close(closeClients listeners.CloseFn) {
	if l.ended.CompareAndSwap(false, true) {
		_ = l.socket.Close()
		closeClients(listenerID)
	}
}

func (l *listener) wait() { l.conns.Wait() }

// timedConn bounds each write. mochi holds a client's lock while it writes, and publishers to that client wait for the
// lock, so a client that does not read would otherwise stop others.
type timedConn struct{ net.Conn }

// SetDeadline is mochi's keep-alive, which concerns reading only.
func (c *timedConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Write fails after writeTimeout.
func (c *timedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
