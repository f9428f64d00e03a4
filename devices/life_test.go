package devices_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// wall is a clock that a test sets.
type wall struct{ ahead atomic.Int64 }

func (w *wall) now() time.Time          { return time.Now().Add(time.Duration(w.ahead.Load())) }
func (w *wall) advance(d time.Duration) { w.ahead.Add(int64(d)) }

func TestTokenExpiresWhileConnected(t *testing.T) {
	var clock wall
	h := startHub(t, func(o *options) {
		o.now = clock.now
		o.cfg.Devices.Heartbeat = 100 * time.Hour // the clock jumps; liveness is another test's
	})
	h.device("pump-7")
	token, expires, err := h.minter.Mint("pump-7", 10*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := h.connect(token)
	clock.advance(9*time.Hour + 59*time.Minute + 30*time.Second)
	if ask, ok := c.read().(*wire.Token); !ok || ask.Expires != expires.UnixMilli() {
		t.Fatalf("got %+v, want to be asked for a token", ask)
	}
	clock.advance(31 * time.Second)
	c.wantClose(devices.CloseToken)
}

func TestTokenWarningThenRenewal(t *testing.T) {
	var clock wall
	h := startHub(t, func(o *options) {
		o.now = clock.now
		o.cfg.Devices.Heartbeat = 100 * time.Hour
	})
	h.device("pump-7")
	token, expires, err := h.minter.Mint("pump-7", 10*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := h.connect(token)
	clock.advance(10*time.Hour - 30*time.Second)
	if ask, ok := c.read().(*wire.Token); !ok || ask.Expires != expires.UnixMilli() {
		t.Fatalf("got %+v, want to be asked for a token", ask)
	}
	fresh, until, err := h.minter.Mint("pump-7", 10*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.send(`{"type":"token","token":"` + fresh + `"}`)
	if ok, is := c.read().(*wire.Token); !is || ok.Expires != until.UnixMilli() {
		t.Fatalf("got %+v, want the new expiry", ok)
	}
	clock.advance(time.Hour) // past the first token
	c.send(`{"type":"telemetry","seq":1,"fields":{"a":1}}`)
	c.wantAck(1)
	clock.advance(11 * time.Hour)
	c.wantClose(devices.CloseToken)
	eventually(t, "presence tells why", func() bool { return h.presence.State("pump-7").Cause == "token_expired" })
}

func TestRenewalWithAnothersTokenCloses(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	c.send(`{"type":"token","token":"` + h.device("pump-8") + `"}`)
	c.wantClose(devices.CloseToken)
}

// freezer is a proxy that can stop moving bytes without closing anything, as a radio link does that is gone.
type freezer struct {
	addr   string
	frozen atomic.Bool
}

func newFreezer(t *testing.T, target string) *freezer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{addr: l.Addr().String()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, c, up)
			mu.Unlock()
			wg.Go(func() { f.move(up, c) })
			wg.Go(func() { f.move(c, up) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return f
}

func (f *freezer) move(dst, src net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if f.frozen.Load() {
			continue // swallowed; nobody is told
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestHalfOpenSocketIsFound(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(o *options) { o.cfg.Devices.Heartbeat = time.Second })
	f := newFreezer(t, strings.TrimSuffix(strings.TrimPrefix(h.url, "ws://"), "/v1/device"))
	ws, _, err := dial("ws://"+f.addr+"/v1/device", h.device("pump-7"))
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer ws.Close()
	wg.Go(func() { // answers pings
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				return
			}
		}
	})
	// While it answers it stays, for many heartbeats: the negative control.
	eventually(t, "four heartbeats", func() bool { return h.metric("fairlead_devices_pings_total") >= 4 })
	if got := h.presence.Status("pump-7"); got != devices.Online {
		t.Fatalf("a device that answers its pings is %s", got)
	}
	f.frozen.Store(true)
	frozen := h.metric("fairlead_devices_pings_total")
	eventually(t, "the session times out", func() bool { return h.presence.State("pump-7").Cause == "timeout" })
	// One ping may have been due at once, and their spacing is jittered.
	if n := h.metric("fairlead_devices_pings_total") - frozen; n > 3 {
		t.Errorf("found only after %v heartbeats", n)
	}
	// Presence knows before the session is wound up.
	eventually(t, "a session closed with 4408", func() bool { return h.metric("fairlead_devices_closes_total", "code", "4408") == 1 })
}

func TestUnaskedPongsAreNoSignOfLife(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.Heartbeat = 100 * time.Millisecond })
	ws, _, err := dial(h.url, h.device("pump-7"))
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ws.SetPingHandler(func(string) error { return nil }) // never answers
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if ws.WriteControl(websocket.PongMessage, []byte("12345678"), time.Now().Add(time.Second)) != nil {
					return
				}
			}
		}
	})
	c := &client{t: t, ws: ws}
	c.read() // welcome
	c.wantClose(devices.CloseTimeout)
}

func TestBackPressureIsNotTheDevicesSilence(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.Heartbeat = 100 * time.Millisecond })
	c := h.connect(h.device("pump-7"))
	h.log.set(func(l *telemetryLog) { l.full = true })
	c.send(`{"type":"telemetry","seq":1,"fields":{"a":1}}`)
	before := h.metric("fairlead_devices_pings_total")
	eventually(t, "several heartbeats pass", func() bool { return h.metric("fairlead_devices_pings_total") >= before+6 })
	h.log.release()
	c.wantAck(1)
}

func TestSlowReaderIsDisconnected(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.WriteTimeout = 300 * time.Millisecond })
	h.connect(h.device("slow"))
	fast := h.connect(h.device("fast"))
	params := json.RawMessage(`"` + strings.Repeat("x", 60<<10) + `"`)
	eventually(t, "the slow one is gone", func() bool {
		// Nobody reads; the kernel's buffers fill first, then the session's.
		_, err := h.registry.Deliver(t.Context(), "slow", wire.Command{ID: "c", Params: params})
		return err != nil
	})
	eventually(t, "presence tells why", func() bool { return h.presence.State("slow").Cause == "slow" })
	fast.send(`{"type":"telemetry","seq":1,"fields":{"a":1}}`)
	fast.wantAck(1)
}

func TestQueueOverflowSaysWhy(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.FrameBytes, o.cfg.Devices.QueueBytes = 1024, 2048 })
	c := h.connect(h.device("slow"))
	params := json.RawMessage(`"` + strings.Repeat("x", 4096) + `"`)
	if _, err := h.registry.Deliver(t.Context(), "slow", wire.Command{ID: "c", Params: params}); err == nil {
		t.Fatal("a frame over the queue's bound was taken")
	}
	if bye := c.wantClose(devices.CloseOverloaded); bye.RetryAfterMS == 0 {
		t.Fatal("no retry_after_ms")
	}
}

func TestDrainSpreadsTheDevices(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.DrainFor = 300 * time.Millisecond })
	var clients []*client
	for i := range 40 {
		clients = append(clients, h.connect(h.device(fmt.Sprintf("d%d", i))))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	})
	retries := map[int64]bool{}
	for _, c := range clients {
		bye := c.wantClose(devices.CloseDraining)
		if bye.RetryAfterMS <= 0 {
			t.Fatalf("bye %+v", bye)
		}
		retries[bye.RetryAfterMS] = true
	}
	wg.Wait()
	if len(retries) < 20 {
		t.Fatalf("40 devices were given %d different times to come back", len(retries))
	}
	if n := h.registry.Len(); n != 0 {
		t.Fatalf("%d sessions after the drain", n)
	}
}

// held is a response whose connection is taken over only when let is closed.
type held struct {
	http.ResponseWriter
	come, let chan struct{}
}

func (w held) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	close(w.come)
	<-w.let
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// A device whose handshake is under way when the drain begins is told to go like the others.
func TestDrainSeesHandshakesUnderWay(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.DrainFor = time.Millisecond })
	come, let := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.handler.ServeHTTP(held{w, come, let}, r)
	}))
	defer srv.Close()
	late, stays := h.device("late"), h.connect(h.device("stays"))
	var wg sync.WaitGroup
	wg.Go(func() {
		ws, _, err := dial("ws"+strings.TrimPrefix(srv.URL, "http"), late)
		if err != nil {
			t.Error(err)
			return
		}
		c := &client{t: t, ws: ws}
		c.wantClose(devices.CloseDraining)
	})
	<-come
	wg.Go(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	})
	stays.wantClose(devices.CloseDraining)
	eventually(t, "the drain has looked at all", func() bool { return h.registry.Len() == 0 })
	close(let)
	wg.Wait()
}

func TestFragments(t *testing.T) {
	const frame = `{"type":"telemetry","seq":1,"fields":{"a":1}}`
	for _, c := range []struct {
		name      string
		fragments int
		want      devices.CloseCode
	}{
		{"as many as allowed", 64, 0},
		{"one too many", 65, devices.CloseViolation},
		{"a flood", 5000, devices.CloseViolation},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := startHub(t)
			raw := rawDial(t, h, h.device("pump-7"))
			var out []byte
			out = append(out, maskedFrame(0x01, []byte(frame))...)
			for i := 1; i < c.fragments; i++ {
				op := byte(0x00)
				if i == c.fragments-1 {
					op = 0x80
				}
				out = append(out, maskedFrame(op, nil)...)
			}
			raw.write(out)
			if c.want != 0 {
				if got := raw.closeCode(); got != int(c.want) {
					t.Fatalf("closed with %d, want %d", got, c.want)
				}
				return
			}
			if got := raw.text(); got != `{"type":"ack","seq":1}` {
				t.Fatalf("got %s", got)
			}
		})
	}
}

func TestPingsAreBounded(t *testing.T) {
	h := startHub(t)
	raw := rawDial(t, h, h.device("pump-7"))
	raw.write(maskedFrame(0x89, []byte("hi")))
	if op, payload := raw.frame(); op != 0x8a || string(payload) != "hi" {
		t.Fatalf("got %x %q, want the pong", op, payload)
	}
	for range 100 {
		raw.write(maskedFrame(0x89, []byte("hi")))
	}
	if got := raw.closeCode(); got != int(devices.CloseQuota) {
		t.Fatalf("closed with %d", got)
	}
}
