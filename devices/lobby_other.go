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

// take waits for an caller. How many are behind it is not known.
func (a *callers) take() (next caller, behind int, err error) {
	conn, err := a.listener.Accept()
	return caller{conn}, 0, err
}

func (a *callers) isClosed() bool { return a.closed.Load() }

func (a *callers) close() error {
	a.closed.Store(true)
	return a.listener.Close()
}

func (n caller) enter() (net.Conn, error) { return n.conn, nil }
