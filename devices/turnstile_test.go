package devices_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/fairlead-hub/fairlead/devices"
)

// behindTurnstile serves handler behind a turnstile and returns its address.
func behindTurnstile(t *testing.T, handler http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stile := devices.NewTurnstile()
	srv := &http.Server{
		Handler:     stile.Handler(handler, func(r *http.Request) bool { return r.URL.Path == "/device" }),
		ConnContext: stile.Context, ConnState: stile.State,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(stile.Listen(ln)) // says that it was closed
	}()
	t.Cleanup(func() {
		srv.Close()
		<-ended
	})
	return ln.Addr().String()
}

func asking(t *testing.T, addr, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	return conn
}

func wantAnswer(t *testing.T, conn net.Conn) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestTurnstileLetsConnectsThroughAFewAtATime(t *testing.T) {
	turns := max(runtime.GOMAXPROCS(0)-1, 1)
	var inside, most atomic.Int64
	entered, leave := make(chan struct{}), make(chan struct{})
	addr := behindTurnstile(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		entered <- struct{}{}
		<-leave
		inside.Add(-1)
	}))
	var all []net.Conn
	for range 4 * turns {
		all = append(all, asking(t, addr, "/device"))
	}
	for range turns {
		<-entered
	}
	for range 3 * turns { // each that leaves lets one in
		leave <- struct{}{}
		<-entered
	}
	for range turns {
		leave <- struct{}{}
	}
	for _, conn := range all {
		wantAnswer(t, conn)
	}
	if n := most.Load(); n > int64(turns) {
		t.Errorf("%d at once, %d have a turn", n, turns)
	}
}

func TestTurnstileIsNotHeldByWhoWaits(t *testing.T) {
	hold := make(chan struct{})
	addr := behindTurnstile(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			<-hold
		}
	}))
	var long []net.Conn
	for range 2 * runtime.GOMAXPROCS(0) {
		// One that says nothing, one that says half of it, one that is served for long: each would keep a turn.
		for _, text := range []string{"", "GET /device HTTP/1.1\r\nHost: "} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if _, err := conn.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		long = append(long, asking(t, addr, "/long"))
	}
	wantAnswer(t, asking(t, addr, "/device"))
	close(hold)
	for _, conn := range long {
		wantAnswer(t, conn)
	}
}
