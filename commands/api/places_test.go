package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// door is a plain listener of a hub, for callers who do on their connections what no client library does. They may say where
// they come from, as behind a proxy.
type door struct {
	h    *hub
	addr string
}

func startDoor(t *testing.T) *door {
	t.Helper()
	h := start(t, func(o *api.Options) {
		o.Remote = func(r *http.Request) string { return r.Header.Get("X-Forwarded-For") }
	})
	srv := httptest.NewServer(h.api.Handler())
	t.Cleanup(srv.Close)
	return &door{h, strings.TrimPrefix(srv.URL, "http://")}
}

// caller is one connection with one request under way.
type caller struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	what string
}

const (
	signInPath  = "/api/v1/session"
	commandPath = "/api/v1/devices/pump-7/commands"
	lateBody    = `{"name":"start"}` // of a command; a sign-in knows no such key
)

// send sends the header of a request; of a POST, lateBody is to come.
func (d *door) send(method, path, token, from string) *caller {
	d.h.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.h.t.Fatal(err)
	}
	d.h.t.Cleanup(func() { conn.Close() })
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nX-Forwarded-For: %s\r\n", method, path, d.addr, from)
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	if method == http.MethodPost {
		head += fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n", len(lateBody))
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		d.h.t.Fatal(err)
	}
	return &caller{d.h.t, conn, bufio.NewReader(conn), method + " " + path}
}

// hold makes a request whose body the hub waits for: it says so by 100 Continue.
func (d *door) hold(path, token, from string) *caller {
	d.h.t.Helper()
	c := d.send(http.MethodPost, path, token, from)
	c.answer().want(http.StatusContinue)
	return c
}

// post makes a request with its body, if the hub asks for that, and reads the answer.
func (d *door) post(path, token, from string) *answer {
	d.h.t.Helper()
	c := d.send(http.MethodPost, path, token, from)
	if a := c.answer(); a.status != http.StatusContinue {
		return a
	}
	return c.finish()
}

func (d *door) get(path, token string) *answer {
	d.h.t.Helper()
	return d.send(http.MethodGet, path, token, "192.0.2.9").answer()
}

// answer reads the next answer. After the last one it reads to the end of the connection: the hub closes it when it holds
// nothing for the request any more.
func (c *caller) answer() *answer {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatalf("%s: %v", c.what, err)
	}
	a := &answer{t: c.t, what: c.what, status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode == http.StatusContinue {
		return a
	}
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		c.t.Fatalf("%s: %v", c.what, err)
	}
	if _, err := io.Copy(io.Discard, c.in); err != nil {
		c.t.Fatalf("%s: %v", c.what, err)
	}
	return a
}

// finish sends the body and reads the answer.
func (c *caller) finish() *answer {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, lateBody); err != nil {
		c.t.Fatal(err)
	}
	return c.answer()
}

// busy wants a refusal that says when to come back, and is counted.
func (h *hub) busy(a *answer, status int, code string, times float64) {
	h.t.Helper()
	a.refused(status, code)
	if a.header.Get("Retry-After") == "" || a.field("hint") == "" {
		h.t.Errorf("%s: without Retry-After or hint: %v %s", a.what, a.header, a.raw)
	}
	if got := h.refusedFor(code); got != times {
		h.t.Errorf("%s: fairlead_api_refused_total{reason=%q} is %v, want %v", a.what, code, got, times)
	}
}

func (h *hub) refusedFor(reason string) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "fairlead_api_refused_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	h.t.Fatalf("no reason %s", reason)
	return 0
}

// Bodies that do not come take places from nobody but who signs in, and of one address only so many.
func TestStrangersTakeNoPlaceOfOperators(t *testing.T) {
	d := startDoor(t)
	admin := d.h.admin()
	var held []*caller
	for i := range api.MaxStrangers / api.AddressStrangers {
		// Half of them have a whole network of IPv6 for themselves.
		from := func(n int) string { return fmt.Sprintf("192.0.2.%d", i) }
		if i%2 == 1 {
			from = func(n int) string { return fmt.Sprintf("2001:db8:0:%x::%x", i, n) }
		}
		for n := range api.AddressStrangers {
			held = append(held, d.hold(signInPath, "", from(n)))
		}
		if i < 2 {
			d.h.busy(d.post(signInPath, "", from(99)), 429, "too_many_of_address", float64(i+1))
		}
	}
	d.h.busy(d.post(signInPath, "", "198.51.100.1"), 503, "too_many_strangers", 1)
	// Who is known is served, and so is who only shows a token that is not good.
	d.get("/api/v1/devices", admin).want(200)
	d.post(commandPath, admin, "192.0.2.0").want(202)
	d.get("/api/v1/devices", "no-token").refused(401, "unauthenticated")
	// A session that this node does not know would be asked for on the bus, and anybody can make one up.
	d.h.busy(d.h.send("GET", "/api/v1/devices", nil, func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: "__Host-fairlead", Value: strings.Repeat("a", 43)})
	}), 503, "too_many_strangers", 2)

	// Each that ends makes room for one.
	held[0].finish().refused(400, "unknown_field")
	d.hold(signInPath, "", "192.0.2.0")
	d.h.busy(d.post(signInPath, "", "198.51.100.1"), 503, "too_many_strangers", 3)
}

// One operator's requests leave room for the others'; its live view is none of them.
func TestOneOperatorTakesNotAllPlaces(t *testing.T) {
	d := startDoor(t)
	olga, admin := d.h.operator("olga", api.User, ""), d.h.admin()
	d.h.view(olga).subscribe(`["*"]`, `["presence"]`)
	var held []*caller
	for range api.OperatorInFlight {
		held = append(held, d.hold(commandPath, olga, "192.0.2.1"))
	}
	d.h.busy(d.get("/api/v1/devices", olga), 429, "too_many_requests", 1)
	d.get("/api/v1/devices", admin).want(200)
	held[0].finish().want(202)
	d.get("/api/v1/devices", olga).want(200)
}

// Who waits for a command holds up no request, of its own operator neither; how many wait is bounded for each operator. A
// command whose caller may not wait for it is not made, so that asking again makes no second one.
func TestWhoWaitsHoldsNoPlaceOfRequests(t *testing.T) {
	t.Parallel()
	d := startDoor(t)
	olga, admin := d.h.operator("olga", api.User, ""), d.h.admin()
	d.post(commandPath, olga, "192.0.2.1").want(202)
	var held []*caller
	for range api.OperatorWaits {
		held = append(held, d.send("GET", "/api/v1/commands/c1?wait=300s", olga, "192.0.2.1"))
	}
	wantSoon(t, "all wait", func() bool { return d.h.orders.waiting() == api.OperatorWaits })
	d.h.busy(d.get("/api/v1/commands/c1?wait=1s", olga), 429, "too_many_waits", 1)
	d.h.busy(d.post(commandPath+"?wait=1s", olga, "192.0.2.1"), 429, "too_many_waits", 2)
	if n := d.h.orders.made(); n != 1 {
		t.Errorf("%d commands made, want the first only", n)
	}
	d.get("/api/v1/commands/c1", olga).want(200)
	d.post(commandPath, olga, "192.0.2.1").want(202)
	d.post(commandPath+"?wait=1ms", admin, "192.0.2.1").want(202)
	d.h.orders.end("c1")
	for _, c := range held {
		c.answer().want(200)
	}
	d.get("/api/v1/commands/c2?wait=1ms", olga).want(200)
}

func TestLiveViewsOfOneOperatorAreBounded(t *testing.T) {
	h := start(t)
	vera, admin := h.operator("vera", api.Viewer, ""), h.admin()
	var views []*view
	for range api.OperatorViewers {
		views = append(views, h.view(vera))
	}
	_, resp, err := h.dial(withToken(vera), api.LiveProtocol)
	if err == nil {
		t.Fatal("one more was let in")
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	h.busy(&answer{t: t, what: "live", status: resp.StatusCode, header: resp.Header, raw: raw}, 429, "too_many_live_views", 1)
	h.view(admin).subscribe(`["*"]`, `["presence"]`)
	views[0].conn.Close()
	wantSoon(t, "the view is gone", func() bool { return h.counter("fairlead_api_live_viewers") == api.OperatorViewers })
	h.view(vera).subscribe(`["*"]`, `["presence"]`)
}
