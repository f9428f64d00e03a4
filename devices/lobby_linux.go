package devices

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// leastCallers is for how many there is always room: operators, and devices that are told that there is none for them.
const leastCallers = 64

// callers accepts connections as they come and holds them until they are taken: in turns the oldest of those who came when
// nobody of their address waited, and the oldest of the others. So who comes alone does not wait behind a fleet, or a flood,
// that is behind one address.
type callers struct {
	// static
	listener net.Listener
	socket   *os.File   // the listener's
	room     func() int // how many more files may be open
	ended    chan struct{}

	mu     sync.Mutex
	change sync.Cond          // one of the following
	lines  [2][]caller        // first of their address, others
	turn   int                // the line that is next
	from   map[netip.Addr]int // who wait, by address
	err    error              // of accepting; it goes on when somebody was told
	closed bool
}

// caller is the socket of a connection.
type caller struct {
	fd   int
	from netip.Addr // key of the address
}

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
	c := &callers{listener: l, socket: f, room: room, ended: make(chan struct{}), from: make(map[netip.Addr]int)}
	c.change.L = &c.mu
	go c.run()
	return c, nil
}

// run accepts until the socket is closed.
func (c *callers) run() {
	defer close(c.ended)
	raw, err := c.socket.SyscallConn()
	if err != nil {
		c.fail(err)
		return
	}
	for c.hasRoom() {
		var fd int
		var from unix.Sockaddr
		var fault error
		err := raw.Read(func(socket uintptr) bool {
			fd, from, fault = unix.Accept4(int(socket), unix.SOCK_CLOEXEC)
			return !errors.Is(fault, unix.EAGAIN)
		})
		switch {
		case err != nil:
			c.fail(err) // the socket is closed
			return
		case errors.Is(fault, unix.ECONNABORTED), errors.Is(fault, unix.EINTR):
			// There is nobody to let in.
		case fault != nil:
			c.fail(&net.OpError{Op: "accept", Net: "tcp", Addr: c.listener.Addr(), Err: os.NewSyscallError("accept4", fault)})
		default:
			c.add(caller{fd, addressKey(addressOf(from))})
		}
	}
}

// hasRoom waits for room. It reports false at the end.
func (c *callers) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed && c.sizeLocked() >= max(leastCallers, c.room()) {
		c.change.Wait() // each that is taken looks again
	}
	return !c.closed
}

func (c *callers) add(n caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		n.close()
		return
	}
	line := &c.lines[min(c.from[n.from], 1)]
	*line = append(*line, n)
	c.from[n.from]++
	c.change.Broadcast()
}

func (c *callers) sizeLocked() int { return len(c.lines[0]) + len(c.lines[1]) }

// fail hands a fault to who accepts, who decides what it means, and goes on after that.
func (c *callers) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err = err; c.err != nil && !c.closed; {
		c.change.Broadcast()
		c.change.Wait()
	}
}

// take waits for a caller and takes it. It also tells how many are behind it.
func (c *callers) take() (next caller, behind int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sizeLocked() == 0 && c.err == nil && !c.closed {
		c.change.Wait()
	}
	defer c.change.Broadcast()
	switch {
	case c.closed:
		return next, 0, &net.OpError{Op: "accept", Net: "tcp", Addr: c.listener.Addr(), Err: net.ErrClosed}
	case c.sizeLocked() == 0:
		err, c.err = c.err, nil
		return next, 0, err
	}
	if len(c.lines[c.turn]) == 0 {
		c.turn = 1 - c.turn
	}
	line := &c.lines[c.turn]
	c.turn = 1 - c.turn
	next = (*line)[0]
	if *line = (*line)[1:]; len(*line) == 0 {
		*line = nil // a storm's room is given back
	}
	if c.from[next.from]--; c.from[next.from] == 0 {
		delete(c.from, next.from)
	}
	return next, c.sizeLocked(), nil
}

// waiting is how many wait to be taken.
func (c *callers) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sizeLocked()
}

func (c *callers) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// close ends accepting and closes whoever waits.
func (c *callers) close() error {
	c.mu.Lock()
	c.closed = true
	for i := range c.lines {
		for _, n := range c.lines[i] {
			n.close()
		}
		c.lines[i] = nil
	}
	c.change.Broadcast()
	c.mu.Unlock()
	_ = c.socket.Close() // a second time it says that it is closed
	<-c.ended
	return c.listener.Close()
}

func addressOf(peer unix.Sockaddr) netip.Addr {
	switch p := peer.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(p.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(p.Addr).Unmap()
	}
	return netip.Addr{}
}

// enter makes a connection of the socket. Its peer's address is nil if the peer has gone.
func (n caller) enter() (net.Conn, error) {
	f := os.NewFile(uintptr(n.fd), "")
	defer f.Close() // the connection has a file of its own
	return net.FileConn(f)
}

func (n caller) close() { _ = unix.Close(n.fd) } // nobody was promised anything
