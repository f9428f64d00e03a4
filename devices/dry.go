package devices

import (
	"crypto/tls"
	"net"
)

// BelowTLS returns a listener that stands below TLS: only there can a session ask whether TLS still holds something that
// has come, without waiting for more. Without it an idle session over TLS keeps its read buffer.
func BelowTLS(l net.Listener) net.Listener { return dryListener{l} }

type dryListener struct{ net.Listener }

// Accept waits for the next connection.
func (l dryListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &dryConn{Conn: conn}, nil
}

// dryConn is a connection that can be told to give nothing.
type dryConn struct {
	net.Conn
	dry bool // reads find nothing; owned by who reads
}

// errDry answers a read that is not to wait. TLS takes it as temporary, and goes on at the next read where it was.
var errDry net.Error = dryError{}

type dryError struct{}

func (dryError) Error() string   { return "nothing is read now" }
func (dryError) Timeout() bool   { return true }
func (dryError) Temporary() bool { return true }

// Read reads from the connection, unless it is dry.
func (c *dryConn) Read(p []byte) (int, error) {
	if c.dry {
		return 0, errDry
	}
	return c.Conn.Read(p)
}

// NetConn is the connection itself.
func (c *dryConn) NetConn() net.Conn { return c.Conn }

// belowTLS finds the connection below TLS that can be dry, or nil.
func belowTLS(conn net.Conn) *dryConn {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	c, _ := secure.NetConn().(*dryConn)
	return c
}
