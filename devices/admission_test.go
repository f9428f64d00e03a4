package devices_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
)

// forwarded is the header of a request that came through proxies.
func forwarded(token string, hops ...string) http.Header {
	h := bearerOf(token)
	for _, hop := range hops {
		h.Add("X-Forwarded-For", hop)
	}
	return h
}

func (h *hub) from(token string, hops ...string) string {
	h.t.Helper()
	ws, _, err := (&websocket.Dialer{HandshakeTimeout: patience}).Dial(h.url, forwarded(token, hops...))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { ws.Close() })
	c := &client{t: h.t, ws: ws}
	c.read()
	return h.presence.State("pump-7").Address
}

func TestAddressIsTheDevices(t *testing.T) {
	direct := startHub(t)
	token := direct.device("pump-7")
	if got := direct.from(token, "203.0.113.9"); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("who is no trusted proxy said %q", got)
	}
	h := startHub(t, func(o *options) {
		o.cfg.Devices.TrustedProxies = []string{"127.0.0.0/8", "10.0.0.0/8"}
		o.cfg.Devices.FlapLimit = 0
	})
	token = h.device("pump-7")
	for want, hops := range map[string][]string{
		"203.0.113.9":        {"203.0.113.9"},
		"203.0.113.8:4711":   {"203.0.113.8:4711"},
		"203.0.113.10":       {"198.51.100.1, 203.0.113.10, 10.1.2.3"}, // the first was written by the device
		"203.0.113.11":       {"198.51.100.1", "203.0.113.11"},
		"2001:db8::1":        {"2001:db8::1"},
		"[2001:db8::2]:4711": {"[2001:db8::2]:4711"},
		"10.9.9.9":           {"10.9.9.9, 10.1.2.3"},
		"10.1.2.4":           {"nonsense, 10.1.2.4"},
		"203.0.113.12":       {"::ffff:203.0.113.12"},
	} {
		if got := h.from(token, hops...); got != want {
			t.Errorf("%q: %q, want %q", hops, got, want)
		}
	}
	if got := h.from(token); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("no header: %q", got)
	}
}

func TestAddressConnectsAreBounded(t *testing.T) {
	clock := newStopped()
	h := startHub(t, func(o *options) {
		o.now = clock.now
		o.cfg.Devices.TrustedProxies = []string{"127.0.0.0/8"}
		o.cfg.Devices.AddressConnectsPerMinute, o.cfg.Devices.FlapLimit = 2, 0
	})
	token := h.device("pump-7")
	for _, address := range []string{"203.0.113.9", "2001:db8:0:1::1"} {
		for range 2 {
			h.from(token, address)
		}
		same := strings.Replace(address, "::1", "::ffff", 1) // the rest of an IPv6 network is the same site
		r := h.refused(h.url, forwarded("nonsense", same))
		if r.status != 429 || r.body.Code != "address_connects_too_often" || r.header.Get("Retry-After") == "" {
			t.Fatalf("%s: %d %+v %v", address, r.status, r.body, r.header)
		}
	}
	h.from(token, "203.0.113.10")
	h.from(token, "2001:db8:0:2::1")
	for range 5 {
		h.from(token) // the proxy itself has no limit
	}
	clock.advance(time.Minute)
	h.from(token, "203.0.113.9")
}

func TestConnectsOfTheNodeAreBounded(t *testing.T) {
	clock := newStopped()
	h := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.ConnectsPerSecond = 3 })
	token := h.device("pump-7")
	for range 3 {
		h.connect(token)
	}
	// A token that is not even one is not looked at any more.
	r := h.refused(h.url, bearerOf("nonsense"))
	if r.status != 503 || r.body.Code != "too_many_connects" || r.header.Get("Retry-After") == "" {
		t.Fatalf("%d %+v %v", r.status, r.body, r.header)
	}
	clock.advance(time.Second)
	if r := h.refused(h.url, bearerOf("nonsense")); r.status != 401 {
		t.Fatalf("a second later: %d %+v", r.status, r.body)
	}
	h.connect(token)
}

// gated is a server behind a gate.
func gated(t *testing.T, change func(*configs.Devices)) (addr string, metric func(string) float64) {
	t.Helper()
	addr, _, metric = roomFor(t, change, nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return addr, metric
}

// roomFor is a server behind a gate with room for so many connections.
func roomFor(t *testing.T, change func(*configs.Devices), room func() int, serve http.HandlerFunc) (addr string, g *devices.Gate, metric func(string) float64) {
	t.Helper()
	cfg := configs.Default().Devices
	change(&cfg)
	reg := prometheus.NewRegistry()
	g, err := devices.NewGate(cfg, reg, room)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler: serve, ReadHeaderTimeout: patience, ConnState: g.ConnState,
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		wg.Wait()
	})
	h := &hub{t: t, metrics: reg}
	return l.Addr().String(), g, func(name string) float64 { return h.metric(name) }
}

func open(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func ask(t *testing.T, c net.Conn) error {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: hub\r\n\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.Contains(line, "204") {
		t.Errorf("answered %q", line)
	}
	return err
}

func TestAddressHoldsFewPlaces(t *testing.T) {
	addr, metric := gated(t, func(c *configs.Devices) { c.AddressPending = 3 })
	var held []net.Conn
	for range 3 {
		held = append(held, open(t, addr))
	}
	if _, err := open(t, addr).Read(make([]byte, 1)); err == nil {
		t.Fatal("a fourth connection of the address was not closed")
	}
	if n := metric("fairlead_devices_pending_refused_total"); n != 1 {
		t.Fatalf("%v refused", n)
	}
	if err := ask(t, held[0]); err != nil { // who has asked holds no place
		t.Fatal(err)
	}
	held[1].Close()
	eventually(t, "there is room again", func() bool { return ask(t, open(t, addr)) == nil })
	// Without the limit, or behind a trusted proxy, nobody is closed: the negative controls.
	for _, change := range []func(*configs.Devices){
		func(c *configs.Devices) { c.AddressPending = 0 },
		func(c *configs.Devices) { c.AddressPending, c.TrustedProxies = 3, []string{"127.0.0.1/32"} },
	} {
		addr, _ := gated(t, change)
		for range 10 {
			open(t, addr)
		}
		if err := ask(t, open(t, addr)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTooManyPendingWait(t *testing.T) {
	addr, metric := gated(t, func(c *configs.Devices) { c.MaxPending = 2 })
	first, second := open(t, addr), open(t, addr)
	third := open(t, addr)
	answered := make(chan error, 1)
	go func() { answered <- ask(t, third) }()
	eventually(t, "the third waits", func() bool { return metric("fairlead_devices_pending_waits_total") == 1 })
	select {
	case err := <-answered:
		t.Fatalf("answered beside two who hold all places: %v", err)
	default:
	}
	first.Close()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if err := ask(t, second); err != nil {
		t.Fatal(err)
	}
}

// TestIdleConnectionsGiveWay answers who comes although others hold all the room between two requests.
func TestIdleConnectionsGiveWay(t *testing.T) {
	const room, comers = 4, 20
	answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	same := func(*configs.Devices) {}
	addr, g, metric := roomFor(t, same, func() int { return room }, answer)
	for range comers {
		if err := ask(t, open(t, addr)); err != nil {
			t.Fatal(err)
		}
		if n := g.Open(); n > room {
			t.Fatalf("%d are open, %d may", n, room)
		}
	}
	eventually(t, "no more are closed than have to be", func() bool {
		return metric("fairlead_devices_idle_closed_total") == comers-room && g.Open() == room
	})
	// With room for all, nobody is closed: the negative control.
	addr, g, _ = roomFor(t, same, func() int { return comers }, answer)
	var all []net.Conn
	for range comers {
		all = append(all, open(t, addr))
		if err := ask(t, all[len(all)-1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range all {
		if err := ask(t, c); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.Open(); n != comers {
		t.Fatalf("%d are open, want %d", n, comers)
	}
}

// TestWorkIsNotCutOffForRoom leaves who comes outside while all room is of requests under way, and of sessions.
func TestWorkIsNotCutOffForRoom(t *testing.T) {
	finish := make(chan struct{})
	began := make(chan struct{}, 2) // requests
	var taken atomic.Int64          // by a session
	addr, g, metric := roomFor(t, func(*configs.Devices) {}, func() int { return 2 - int(taken.Load()) }, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/session" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			taken.Add(1)
			t.Cleanup(func() { conn.Close() })
			return
		}
		began <- struct{}{}
		<-finish
		w.WriteHeader(http.StatusNoContent)
	})
	if _, err := io.WriteString(open(t, addr), get("/session")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a session is none of the others", func() bool { return taken.Load() == 1 && g.Open() == 0 })
	answered := make(chan error, 2)
	first, second := open(t, addr), open(t, addr)
	go func() { answered <- ask(t, first) }()
	<-began
	go func() { answered <- ask(t, second) }()
	eventually(t, "the other waits", func() bool { return metric("fairlead_devices_crowded_total") == 1 })
	select {
	case err := <-answered:
		t.Fatalf("answered while there was no room: %v", err)
	default:
	}
	close(finish)
	for range 2 {
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
}
