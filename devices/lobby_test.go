package devices_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
)

// letIn plays a lobby to which a fleet comes at once, and then others at a rate a second, for so long. It returns when the
// fleet was in, and the longest that one of the last second waited.
func letIn(spread time.Duration, fleet, rate int, during time.Duration) (in, wait time.Duration) {
	start := time.Now()
	p := devices.NewPace(spread)
	came := func(n int) time.Duration { // since the start, of the one of a number
		if n < fleet {
			return 0
		}
		return time.Duration(n-fleet+1) * time.Second / time.Duration(rate)
	}
	all := fleet + rate*int(during/time.Second)
	arrived, now := 0, time.Duration(0)
	for n := range all {
		now = max(now, came(n))
		for arrived < all && came(arrived) <= now {
			arrived++
		}
		now += p.Next(start.Add(now), arrived-n-1)
		if n == fleet-1 {
			in = now
		}
		if came(n) > during-time.Second {
			wait = max(wait, now-came(n))
		}
	}
	return in, wait
}

// TestPace lets a fleet in over the time and few at once. A stream of others does not put that off, and is not held up by it
// for longer: with the end of the fleet's time put off by each that comes it would be.
func TestPace(t *testing.T) {
	const spread = 8 * time.Second
	for _, c := range []struct {
		name        string
		spread      time.Duration
		fleet, rate int
		least, most time.Duration // until the fleet is in
	}{
		{"one", spread, 1, 1, 0, 0},
		{"as many as are let in at once", spread, 50, 1, 0, 0},
		{"a few", spread, 450, 1, 140 * time.Millisecond, 180 * time.Millisecond},
		{"a small fleet", spread, 2_000, 1, 1100 * time.Millisecond, 1200 * time.Millisecond},
		{"a fleet", spread, 15_000, 1, 7900 * time.Millisecond, spread},
		{"a large fleet", spread, 200_000, 1, 7900 * time.Millisecond, spread + 10*time.Millisecond},
		{"a fleet and a stream", spread, 15_000, 2_000, 5 * time.Second, spread},
		{"a stream", spread, 1, 2_000, 0, 0},
		{"without a spread", 0, 15_000, 1, 0, 0},
	} {
		in, wait := letIn(c.spread, c.fleet, c.rate, 20*time.Second)
		if in < c.least || in > c.most {
			t.Errorf("%s: %d were in after %s, want %s to %s", c.name, c.fleet, in, c.least, c.most)
		}
		if wait > 10*time.Millisecond {
			t.Errorf("%s: one that came long after it waited %s", c.name, wait)
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

// TestLobbyOneOfAnotherAddressWaitsForFew lets in who comes alone before a crowd of one address that came before it, and
// the crowd too while others come.
func TestLobbyOneOfAnotherAddressWaitsForFew(t *testing.T) {
	lobby := lobbyOf(t, devices.NewTurnstile(1), 1<<20)
	from := func(address string) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		conn, err := d.DialContext(t.Context(), "tcp", lobby.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	const crowd = 20
	for range crowd {
		from("127.0.0.1")
	}
	from("127.0.0.2")
	from("127.0.0.3")
	from("127.0.0.2")
	eventually(t, "all wait", func() bool { return devices.Waiting(lobby) == crowd+3 })
	var got []string
	for range crowd + 3 {
		conn, err := lobby.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimPrefix(strings.Split(conn.RemoteAddr().String(), ":")[0], "127.0.0."))
		conn.Close()
	}
	// The first of each address in one line, all others in the other.
	if line := strings.Join(got, ""); line != "112131"+strings.Repeat("1", crowd-4)+"2" {
		t.Error("let in: ", line)
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
