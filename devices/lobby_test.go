package devices_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
)

// TestPace lets a fleet in over the time, few at once, and all as they come if no time is set.
func TestPace(t *testing.T) {
	const spread = 8 * time.Second
	for _, c := range []struct {
		name        string
		spread      time.Duration
		fleet       int
		least, most time.Duration // until the last is in
	}{
		{"one", spread, 1, 0, 0},
		{"as many as are let in at once", spread, 33, 0, 0},
		{"a few", spread, 1_000, 500 * time.Millisecond, 600 * time.Millisecond},
		{"a fleet", spread, 15_000, 7900 * time.Millisecond, spread},
		{"a large fleet", spread, 200_000, 7900 * time.Millisecond, spread},
		{"without a spread", 0, 15_000, 0, 0},
	} {
		// Whether the fleet comes one by one or all at once, the last is let in no later.
		start := time.Now()
		now := start
		p := devices.NewPace(c.spread)
		for behind := c.fleet - 1; behind >= 0; behind-- {
			now = now.Add(p.Next(now, behind))
		}
		if took := now.Sub(start); took < c.least || took > c.most {
			t.Errorf("%s: %d took %s, want %s to %s", c.name, c.fleet, took, c.least, c.most)
		}
		if wait := p.Next(now.Add(time.Second), 0); wait != 0 {
			t.Errorf("%s: one that comes later waits %s", c.name, wait)
		}
	}
}

// lobbyOf listens behind a turnstile with room for so many files, and takes nobody in by itself.
func lobbyOf(t *testing.T, stile *devices.Turnstile, room int) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lobby, err := stile.Listen(ln, 0, func() int { return room })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lobby.Close() })
	return lobby
}

// TestLobbyClosesWhoWaits lets go of who was not let in when the listener is closed, and of who accepts.
func TestLobbyClosesWhoWaits(t *testing.T) {
	lobby := lobbyOf(t, devices.NewTurnstile(1), 1<<20)
	var waiting []net.Conn
	for range 20 {
		waiting = append(waiting, say(t, lobby.Addr().String(), ""))
	}
	eventually(t, "all wait", func() bool { return devices.Waiting(lobby) == len(waiting) })
	if err := lobby.Close(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range waiting {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("one that waits is still there:", err)
		}
	}
	if _, err := lobby.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatal("accept after the end:", err)
	}
}

// TestLobbyHoldsNoMoreThanItMay leaves who has no room there to the kernel, and has room for a few in any case.
func TestLobbyHoldsNoMoreThanItMay(t *testing.T) {
	const all = 200
	for room, want := range map[int]int{-5: 64, 100: 100, all: all} {
		lobby := lobbyOf(t, devices.NewTurnstile(1), room)
		for range all {
			say(t, lobby.Addr().String(), "x")
		}
		eventually(t, "they wait", func() bool { return devices.Waiting(lobby) == want })
		for range all {
			conn, err := lobby.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if n := devices.Waiting(lobby); n > want {
				t.Fatalf("%d wait, %d may", n, want)
			}
			conn.Close()
		}
	}
}

// TestLobbySkipsWhoHasGone lets in nobody who broke off while it waited: such a connection has no address to judge it by.
func TestLobbySkipsWhoHasGone(t *testing.T) {
	lobby := lobbyOf(t, devices.NewTurnstile(1), 1<<20)
	for range 3 {
		gone := say(t, lobby.Addr().String(), "x")
		eventually(t, "it waits", func() bool { return devices.Waiting(lobby) > 0 })
		if err := gone.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		gone.Close()
	}
	stays := say(t, lobby.Addr().String(), "y")
	conn, err := lobby.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr() == nil || conn.RemoteAddr().String() != stays.LocalAddr().String() {
		t.Fatalf("%v was let in, want %v", conn.RemoteAddr(), stays.LocalAddr())
	}
}

// TestLobbyHoldsACrowdBack lets nobody in while many wait for their turn.
func TestLobbyHoldsACrowdBack(t *testing.T) {
	stile := devices.NewTurnstile(1)
	for _, c := range []struct {
		waiting int
		crowd   bool
	}{{0, false}, {devices.Crowd - 1, false}, {devices.Crowd, true}, {devices.Crowd + 1, true}} {
		free := stile.Queue(c.waiting)
		if stile.Crowded() != c.crowd {
			t.Errorf("%d wait with a handshake to do; a crowd: %v, want %v", c.waiting, !c.crowd, c.crowd)
		}
		free()
	}

	lobby := lobbyOf(t, stile, 1<<20)
	looks := 0
	devices.SetCrowded(lobby, func() bool { looks++; return looks < 4 })
	say(t, lobby.Addr().String(), "")
	conn, err := lobby.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if looks != 4 {
		t.Errorf("let in after %d looks, the crowd was gone at the 4th", looks)
	}
}
