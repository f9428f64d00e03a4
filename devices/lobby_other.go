//go:build !linux

package devices

import (
	"net"
	"sync/atomic"
)

// callers leaves who waits in the kernel's queue.
type callers struct {
	listener net.Listener
	closed   atomic.Bool
}

// caller is a connection.
type caller struct{ conn net.Conn }

func newCallers(l net.Listener, _ func() int) (*callers, error) { return &callers{listener: l}, nil }

// take waits for a caller. How many are behind it is not known.
func (c *callers) take() (next caller, behind int, err error) {
	conn, err := c.listener.Accept()
	return caller{conn}, 0, err
}

// waiting is not known.
func (c *callers) waiting() int { return 0 }

func (c *callers) isClosed() bool { return c.closed.Load() }

func (c *callers) close() error {
	c.closed.Store(true)
	return c.listener.Close()
}

func (n caller) enter() (net.Conn, error) { return n.conn, nil }
