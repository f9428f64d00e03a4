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

// lines are the operators' connections to the API. An operator writes its request and reads the answer itself: the
// library's client hands both to goroutines of its own, which would be measured as if the hub had taken that time.
type lines struct {
	addr, token string

	mu   sync.Mutex
	free []*line // guarded by mu
}

// line is one connection.
type line struct {
	conn net.Conn
	in   *bufio.Reader
}

// newLines takes a plain address: the hub of a benchmark is on loopback.
func newLines(spec OrderSpec) *lines {
	return &lines{addr: strings.TrimPrefix(spec.API, "http://"), token: spec.Operator}
}

// ask has the hub command a device and reads what became of it.
func (ls *lines) ask(ctx context.Context, device string, into *ordered) error {
	l, err := ls.take(ctx)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if err := l.ask(ls, device, into); err != nil {
		_ = l.conn.Close() // what is left of the answer belongs to nobody
		return fmt.Errorf("ask: %w", err)
	}
	ls.mu.Lock()
	ls.free = append(ls.free, l)
	ls.mu.Unlock()
	return nil
}

func (ls *lines) take(ctx context.Context) (*line, error) {
	ls.mu.Lock()
	if n := len(ls.free); n > 0 {
		l := ls.free[n-1]
		ls.free = ls.free[:n-1]
		ls.mu.Unlock()
		return l, nil
	}
	ls.mu.Unlock()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", ls.addr)
	if err != nil {
		return nil, err
	}
	return &line{conn, bufio.NewReader(conn)}, nil
}

func (l *line) ask(ls *lines, device string, into *ordered) error {
	if err := l.conn.SetDeadline(time.Now().Add(askTime)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(l.conn, "POST /api/v1/devices/%s/commands?wait=30s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", device, ls.addr, ls.token, len(orderBody), orderBody)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(l.in, nil)
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

func (ls *lines) hangUp() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.free {
		_ = l.conn.Close() // it is over
	}
}
