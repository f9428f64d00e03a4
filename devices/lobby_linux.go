package devices

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// leastCallers is for how many there is always room: operators, and devices that are told that there is none for them.
const leastCallers = 64

// callers accepts connections as they come and holds them until they are taken, oldest first.
type callers struct {
	// static
	listener net.Listener
	socket   *os.File   // the listener's
	room     func() int // how many more files may be open
	ended    chan struct{}

	mu     sync.Mutex
	change sync.Cond // one of the following
	queue  []caller
	err    error // of accepting; it goes on when somebody was told
	closed bool
}

// caller is the socket of a connection.
type caller int

// newCallers takes over a listener.
func newCallers(l net.Listener, room func() int) (*callers, error) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listen on %s: not TCP", l.Addr().Network())
	}
	f, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	a := &callers{listener: l, socket: f, room: room, ended: make(chan struct{})}
	a.change.L = &a.mu
	go a.run()
	return a, nil
}

// run accepts until the socket is closed.
func (a *callers) run() {
	defer close(a.ended)
	raw, err := a.socket.SyscallConn()
	if err != nil {
		a.fail(err)
		return
	}
	for a.hasRoom() {
		var fd int
		var fault error
		err := raw.Read(func(socket uintptr) bool {
			fd, _, fault = unix.Accept4(int(socket), unix.SOCK_CLOEXEC)
			return !errors.Is(fault, unix.EAGAIN)
		})
		switch {
		case err != nil:
			a.fail(err) // the socket is closed
			return
		case fault != nil:
			a.fail(&net.OpError{Op: "accept", Net: "tcp", Addr: a.listener.Addr(), Err: os.NewSyscallError("accept4", fault)})
		default:
			a.add(caller(fd))
		}
	}
}

// hasRoom waits for room. It reports false at the end.
func (a *callers) hasRoom() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.closed && len(a.queue) >= max(leastCallers, a.room()) {
		a.change.Wait() // each that is taken looks again
	}
	return !a.closed
}

func (a *callers) add(n caller) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		n.close()
		return
	}
	a.queue = append(a.queue, n)
	a.change.Broadcast()
}

// fail hands a fault to who accepts, who decides what it means, and goes on after that.
func (a *callers) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.err = err; a.err != nil && !a.closed; {
		a.change.Broadcast()
		a.change.Wait()
	}
}

// take waits for an caller and takes it. It also tells how many are behind it.
func (a *callers) take() (next caller, behind int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue) == 0 && a.err == nil && !a.closed {
		a.change.Wait()
	}
	defer a.change.Broadcast()
	switch {
	case a.closed:
		return 0, 0, &net.OpError{Op: "accept", Net: "tcp", Addr: a.listener.Addr(), Err: net.ErrClosed}
	case len(a.queue) == 0:
		err, a.err = a.err, nil
		return 0, 0, err
	}
	next = a.queue[0]
	if a.queue = a.queue[1:]; len(a.queue) == 0 {
		a.queue = nil // a storm's room is given back
	}
	return next, len(a.queue), nil
}

func (a *callers) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

// close ends accepting and closes whoever waits.
func (a *callers) close() error {
	a.mu.Lock()
	a.closed = true
	for _, n := range a.queue {
		n.close()
	}
	a.queue = nil
	a.change.Broadcast()
	a.mu.Unlock()
	_ = a.socket.Close() // a second time it says that it is closed
	<-a.ended
	return a.listener.Close()
}

// enter makes a connection of the socket. Its peer's address is nil if the peer has gone.
func (n caller) enter() (net.Conn, error) {
	f := os.NewFile(uintptr(n), "")
	defer f.Close() // the connection has a file of its own
	return net.FileConn(f)
}

func (n caller) close() { _ = unix.Close(int(n)) } // nobody was promised anything
