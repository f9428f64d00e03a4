package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// askTime bounds one request: the hub answers earlier.
const askTime = 60 * time.Second

// apiPool holds the operators' connections to the API. An operator writes its request and reads the answer itself: the
// library's client hands both to goroutines of its own, which would be measured as if the hub had taken that time.
type apiPool struct {
	addr, token string

	mu   sync.Mutex
	free []*apiConn // guarded by mu
}

// apiConn is one connection: one request at a time.
type apiConn struct {
	conn net.Conn
	in   *bufio.Reader
}

// newAPIPool takes a plain address: the hub of a benchmark is on loopback.
func newAPIPool(spec OrderSpec) *apiPool {
	return &apiPool{addr: strings.TrimPrefix(spec.API, "http://"), token: spec.Operator}
}

// ask has the hub command a device and reads what became of it.
func (p *apiPool) ask(ctx context.Context, device string, into *ordered) error {
	c, err := p.take(ctx)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if err := c.ask(p, device, into); err != nil {
		_ = c.conn.Close() // what is left of the answer belongs to nobody
		return fmt.Errorf("ask: %w", err)
	}
	p.mu.Lock()
	p.free = append(p.free, c)
	p.mu.Unlock()
	return nil
}

func (p *apiPool) take(ctx context.Context) (*apiConn, error) {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	return &apiConn{conn, bufio.NewReader(conn)}, nil
}

func (c *apiConn) ask(p *apiPool, device string, into *ordered) error {
	if err := c.conn.SetDeadline(time.Now().Add(askTime)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.conn, "POST /api/v1/devices/%s/commands?wait=30s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", device, p.addr, p.token, len(orderBody), orderBody)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return json.Unmarshal(text, into)
}

func (p *apiPool) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.free {
		_ = c.conn.Close() // it is over
	}
}
