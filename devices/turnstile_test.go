package devices_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
)

// behind serves handler behind a turnstile and returns its address. Requests of /device keep their turn.
func behind(t *testing.T, stile *devices.Turnstile, handler http.HandlerFunc, useTLS bool) string {
	t.Helper()
	return hurrying(t, stile, handler, useTLS, patience)
}

// hurrying is behind for clients that have only so long for the header of a request.
func hurrying(t *testing.T, stile *devices.Turnstile, handler http.HandlerFunc, useTLS bool, within time.Duration) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if ln, err = stile.Listen(ln, 0, func() int { return 1 << 20 }); err != nil {
		t.Fatal(err)
	}
	if useTLS {
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MinVersion: tls.VersionTLS12})
	}
	srv := &http.Server{
		Handler:           stile.Handler(handler, func(r *http.Request) bool { return r.URL.Path == "/device" }),
		ReadHeaderTimeout: within, ConnContext: stile.Context, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ConnState: stile.ConnState,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(ln) // says that it was closed
	}()
	t.Cleanup(func() {
		srv.Close()
		<-ended
	})
	return addr
}

// say connects and says text.
func say(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n" }

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

// most lets many connect to a turnstile of so many turns and returns how many were served at once, if nobody is let go
// before as many as expected are there.
func most(t *testing.T, turns, expect, all int) int64 {
	t.Helper()
	var inside, top atomic.Int64
	entered, leave := make(chan struct{}), make(chan struct{})
	addr := behind(t, devices.Unhurried(turns), func(http.ResponseWriter, *http.Request) {
		if n := inside.Add(1); n > top.Load() {
			top.Store(n)
		}
		entered <- struct{}{}
		<-leave
		inside.Add(-1)
	}, false)
	var conns []net.Conn
	for range all {
		conns = append(conns, say(t, addr, get("/device")))
	}
	for range expect {
		<-entered
	}
	for range all - expect { // each that leaves lets one in
		leave <- struct{}{}
		<-entered
	}
	for range expect {
		leave <- struct{}{}
	}
	for _, conn := range conns {
		wantAnswer(t, conn)
	}
	return top.Load()
}

func TestTurnstileLetsAFewThroughAtATime(t *testing.T) {
	const turns, all = 2, 24 // more than are let in between two turns
	if n := most(t, turns, turns, all); n != turns {
		t.Errorf("%d at once, %d have a turn", n, turns)
	}
	if n := most(t, all, all, all); n != all { // the negative control
		t.Errorf("%d at once, though each has a turn", n)
	}
}

// TestTurnstileIsNotHeldByWhoWaits leaves no turn to whom does not use it: each of these would keep the only one for good.
func TestTurnstileIsNotHeldByWhoWaits(t *testing.T) {
	for _, useTLS := range []bool{false, true} {
		hold := make(chan struct{})
		addr := behind(t, devices.Unhurried(1), func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				<-hold
			}
		}, useTLS)
		ask := func(path string) net.Conn {
			if !useTLS {
				return say(t, addr, get(path))
			}
			conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a loopback test peer
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if _, err := conn.Write([]byte(get(path))); err != nil {
				t.Fatal(err)
			}
			return conn
		}
		half := "GET /device HTTP/1.1\r\nHost: "
		if useTLS {
			half = "\x16\x03\x01\x02\x00\x01\x00" // the begin of a hello
		}
		var long []net.Conn
		for range 24 {
			say(t, addr, "")
			say(t, addr, half)
			long = append(long, ask("/long"))
		}
		wantAnswer(t, ask("/device"))
		close(hold)
		for _, conn := range long {
			wantAnswer(t, conn)
		}
	}
}

// TestTurnstileTakesATurnBack serves others while the one with the only turn waits for somebody.
func TestTurnstileTakesATurnBack(t *testing.T) {
	hold, holding := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	addr := behind(t, devices.NewTurnstile(1), func(http.ResponseWriter, *http.Request) {
		if !first.Swap(true) {
			close(holding)
			<-hold
		}
	}, false)
	stuck := say(t, addr, get("/device"))
	<-holding
	wantAnswer(t, say(t, addr, get("/device")))
	close(hold)
	wantAnswer(t, stuck)
}

// TestTurnstileWaitIsNotTheClients serves one that had to wait for its turn for longer than a client may take for its header.
func TestTurnstileWaitIsNotTheClients(t *testing.T) {
	const within = 500 * time.Millisecond
	hold, holding := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	addr := hurrying(t, devices.Unhurried(1), func(http.ResponseWriter, *http.Request) {
		if !first.Swap(true) {
			close(holding)
			<-hold
		}
	}, true, within)
	trust := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a loopback test peer
	ask := func() (net.Conn, error) {
		conn, err := tls.Dial("tcp", addr, trust)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { conn.Close() })
		_, err = conn.Write([]byte(get("/device")))
		return conn, err
	}
	stuck, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	<-holding
	time.AfterFunc(2*within, func() { close(hold) })
	waited, err := ask()
	if err != nil {
		t.Fatal("who waited for its turn was taken for slow:", err)
	}
	wantAnswer(t, waited)
	wantAnswer(t, stuck)

	slow, err := tls.Dial("tcp", addr, trust) // the negative control
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	_ = slow.SetReadDeadline(time.Now().Add(patience))
	if _, err := slow.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("one that says nothing is still there:", err)
	}
}
