package devices_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// patience bounds every wait of these tests; nothing is measured by it.
const patience = 20 * time.Second

// options change a test hub before it starts.
type options struct {
	cfg    configs.Config
	node   string
	bus    *bus.Bus // nil: an embedded one of its own
	now    func() time.Time
	states devices.StateSink
	shared bool

	issuers *auth.Issuers

	telemetry devices.TelemetrySink // nil: the hub's log

	stream func(jetstream.JetStream) jetstream.JetStream // what presence publishes with; nil: the bus as it is

	accounts func(auth.Accounts) auth.Accounts // nil: as the records say
}

// hub is a node with everything of this room, real, and sinks that the test holds in its hands.
type hub struct {
	t        testing.TB
	cfg      configs.Config
	bus      *bus.Bus
	records  *devices.Records
	presence *devices.Presence
	registry *devices.Registry
	minter   *auth.Minter
	keys     *auth.HubKeys
	metrics  *prometheus.Registry
	log      *telemetryLog
	commands *commandLog
	url      string // ws://
	handler  http.Handler
	stop     func() error
	now      func() time.Time // nil: the system's clock

	conflicts *conflictLog
}

func discard() *slog.Logger {
	if os.Getenv("FAIRLEAD_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func openBus(t testing.TB, dir string) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := bus.Open(ctx, bus.Options{
		Dir: dir, Node: "n1", Log: discard(),
		Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bucket(t testing.TB, b *bus.Bus, name string) jetstream.KeyValue {
	t.Helper()
	got, err := b.Bucket(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func startHub(t testing.TB, change ...func(*options)) *hub {
	t.Helper()
	o := options{cfg: configs.Default(), node: "n1"}
	for _, fn := range change {
		fn(&o)
	}
	h := &hub{t: t, cfg: o.cfg, now: o.now, bus: o.bus, metrics: prometheus.NewRegistry(), log: newTelemetryLog(), commands: newCommandLog(), conflicts: &conflictLog{}}
	own := h.bus == nil
	if own {
		h.bus = openBus(t, t.TempDir())
	}
	var err error
	if h.keys, err = auth.OpenHubKeys(t.TempDir(), discard()); err != nil {
		t.Fatal(err)
	}
	h.records = devices.NewRecords(bucket(t, h.bus, bus.BucketDevices), discard())
	stream := h.bus.JetStream()
	if o.stream != nil {
		stream = o.stream(stream)
	}
	h.presence = devices.NewPresence(devices.PresenceOptions{
		Node: o.node, Shared: o.shared, Records: h.records, Bucket: bucket(t, h.bus, bus.BucketPresence), Stream: stream,
		Hub: bucket(t, h.bus, bus.BucketHub), Events: h.bus.Conn(), Log: discard(), Now: o.now,
		FlapLimit: o.cfg.Devices.FlapLimit, FlapWindow: o.cfg.Devices.FlapWindow, Conflicts: h.conflicts,
	})
	h.minter = auth.NewMinter(h.keys, o.cfg.Auth, o.now)
	accounts := auth.Accounts(h.records)
	if o.accounts != nil {
		accounts = o.accounts(accounts)
	}
	verifier, err := auth.NewVerifier(auth.VerifierOptions{
		Config: o.cfg.Auth, Hub: h.keys, Issuers: o.issuers, Accounts: accounts, Now: o.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.registry, err = devices.NewRegistry(devices.RegistryOptions{
		Config: o.cfg.Devices, Node: o.node, Records: h.records, Presence: h.presence, Verifier: verifier,
		Log: discard(), Metrics: h.metrics, Now: o.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.telemetry == nil {
		o.telemetry = h.log
	}
	h.handler = devices.NewHandler(h.registry, devices.HandlerOptions{
		Telemetry: o.telemetry, Commands: h.commands, States: o.states, Origins: o.cfg.Auth.Origins,
	})
	h.serve(h.handler, own)
	return h
}

// serve runs the parts and the listener, and ends them in the hub's order when the test ends.
func (h *hub) serve(handler http.Handler, ownBus bool) {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/device", handler)
	if endpoint, ok := handler.(*devices.Handler); ok {
		mux.Handle("/v1/device/telemetry", devices.NewUplink(endpoint))
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	h.url = "ws://" + l.Addr().String() + "/v1/device"
	parts, endParts := context.WithCancel(context.Background())
	sessions, endSessions := context.WithCancel(context.Background())
	var wg, live sync.WaitGroup
	var drained error
	wg.Go(func() { _ = server.Serve(l) })
	wg.Go(func() { _ = h.records.Run(parts) })
	wg.Go(func() { _ = h.presence.Run(parts) })
	live.Go(func() { drained = h.registry.Run(sessions) })
	<-h.records.Ready()
	<-h.presence.Ready()
	var once sync.Once
	h.stop = func() error {
		once.Do(func() {
			endSessions()
			live.Wait()
			server.Close()
			endParts()
			wg.Wait()
			if ownBus {
				h.bus.Close()
			}
		})
		return drained
	}
	h.t.Cleanup(func() {
		h.log.release()
		_ = h.stop()
	})
}

// device makes a record and a token.
func (h *hub) device(id string) (token string) {
	h.t.Helper()
	return h.made(&devices.Record{ID: id})
}

// made makes a record, on the test's clock if there is one, and a token of its device.
func (h *hub) made(rec *devices.Record) (token string) {
	h.t.Helper()
	if h.now != nil {
		rec.Created = h.now()
	}
	if _, err := h.records.Create(context.Background(), rec); err != nil {
		h.t.Fatal(err)
	}
	return h.token(rec.ID)
}

func (h *hub) token(id string) string {
	h.t.Helper()
	token, _, err := h.minter.Mint(id, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// metric sums a counter or gauge over the labels given as name, value pairs.
func (h *hub) metric(name string, labels ...string) float64 {
	h.t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				if !found {
					continue metrics
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// eventually waits until what is asked holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// client is a device made of gorilla's dialer.
type client struct {
	t       testing.TB
	ws      *websocket.Conn
	codec   wire.Codec
	welcome *wire.Welcome
}

func dial(url, token string, protocols ...string) (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{HandshakeTimeout: patience, Subprotocols: protocols}
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return d.Dial(url, header)
}

// connect connects a device and reads its welcome.
func (h *hub) connect(token string, protocols ...string) *client {
	h.t.Helper()
	ws, resp, err := dial(h.url, token, protocols...)
	if err != nil {
		status := 0
		if resp != nil {
			status = resp.StatusCode
		}
		h.t.Fatalf("connect: %v (status %d)", err, status)
	}
	h.t.Cleanup(func() { ws.Close() })
	c := &client{t: h.t, ws: ws}
	if ws.Subprotocol() == wire.SubprotocolCBOR {
		c.codec = wire.CBOR
	}
	w, ok := c.read().(*wire.Welcome)
	if !ok {
		h.t.Fatal("the first frame is not a welcome")
	}
	c.welcome = w
	return c
}

// read returns the next frame of the hub.
func (c *client) read() any {
	c.t.Helper()
	f, err := c.tryRead()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return f
}

func (c *client) tryRead() (any, error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(patience))
	_, data, err := c.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	return wire.DecodeHub(c.codec, data)
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// wantAck reads until the ack of seq has come; frames that are not acks fail the test.
func (c *client) wantAck(seq uint64) {
	c.t.Helper()
	for {
		a, ok := c.read().(*wire.Ack)
		if !ok || a.Seq > seq {
			c.t.Fatalf("got %+v, want ack %d", a, seq)
		}
		if a.Seq == seq {
			return
		}
	}
}

// wantClose reads to the end and checks the close code and that a bye came before it.
func (c *client) wantClose(code devices.CloseCode) *wire.Bye {
	c.t.Helper()
	var bye *wire.Bye
	for {
		f, err := c.tryRead()
		if err == nil {
			if b, ok := f.(*wire.Bye); ok {
				bye = b
			}
			continue
		}
		if !websocket.IsCloseError(err, int(code)) {
			c.t.Fatalf("ended with %v, want close %d", err, code)
		}
		if bye == nil || bye.Code != int(code) {
			c.t.Fatalf("bye is %+v, want code %d", bye, code)
		}
		return bye
	}
}
