package twin_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/commands/twin"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests; nothing is measured by it.
const patience = 30 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// openBus opens a bus: embedded in dir, or on the NATS server at url.
func openBus(t testing.TB, dir, url string) *bus.Bus {
	t.Helper()
	o := bus.Options{
		Dir: dir, Node: "n1", Sync: true, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
	}
	if url != "" {
		o.NATS = configs.NATS{URLs: []string{url}}
	}
	b, err := bus.Open(within(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func natsServer(t testing.TB) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, SyncAlways: true,
		JetStreamMaxStore: 8 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("nats-server is not ready")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s.ClientURL()
}

// fleet is the device records: which ids are known.
type fleet struct {
	mu    sync.Mutex
	known map[string]bool
}

func newFleet(ids ...string) *fleet {
	f := &fleet{known: make(map[string]bool)}
	for _, id := range ids {
		f.known[id] = true
	}
	return f
}

func (f *fleet) Known(device string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known[device]
}

func (f *fleet) set(device string, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[device] = known
}

// sockets are the sessions of one node. A device that is stuck takes nothing until it is let go.
type sockets struct {
	mu    sync.Mutex
	taken map[string]chan wire.State
	stuck map[string]chan struct{}
	tried map[string]chan struct{}
}

func newSockets(devices ...string) *sockets {
	s := &sockets{taken: make(map[string]chan wire.State), stuck: make(map[string]chan struct{}), tried: make(map[string]chan struct{})}
	for _, d := range devices {
		s.connect(d)
	}
	return s
}

func (s *sockets) connect(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[device] = make(chan wire.State, 1000)
}

// jam makes a device stuck; tried tells of each write to it.
func (s *sockets) jam(device string) (tried <-chan struct{}, free func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate, heard := make(chan struct{}), make(chan struct{}, 1000)
	s.stuck[device], s.tried[device] = gate, heard
	return heard, sync.OnceFunc(func() { close(gate) })
}

var errNotHere = errors.New("no session on this node")

func (s *sockets) SendState(ctx context.Context, device string, st wire.State) error {
	s.mu.Lock()
	taken, gate, tried := s.taken[device], s.stuck[device], s.tried[device]
	s.mu.Unlock()
	if taken == nil {
		return errNotHere
	}
	if gate != nil {
		tried <- struct{}{}
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	taken <- st
	return nil
}

func (s *sockets) of(device string) chan wire.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[device]
}

// bucket is the real one behind a gate for what is written to reported documents.
type bucket struct {
	jetstream.KeyValue
	entered chan string // told of each write
	gate    chan error  // what each write waits for; an error is returned in its place
}

func gated(kv jetstream.KeyValue) *bucket {
	return &bucket{KeyValue: kv, entered: make(chan string, 100_000), gate: make(chan error)}
}

func (b *bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if key[:len("reported.")] == "reported." {
		b.entered <- key
		select {
		case err := <-b.gate:
			if err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return b.KeyValue.Update(ctx, key, value, revision)
}

// node is one twin at work.
type node struct {
	*twin.Twin
	t       testing.TB
	fleet   *fleet
	sockets *sockets
	metrics *prometheus.Registry
	kv      jetstream.KeyValue
	nc      *nats.Conn
	stop    func() error
}

// start runs a twin on a bus. wrap, if given, stands between it and the bucket.
func start(t testing.TB, b *bus.Bus, f *fleet, s *sockets, wrap func(jetstream.KeyValue) jetstream.KeyValue) *node {
	t.Helper()
	kv, err := b.Bucket(within(t), bus.BucketTwins)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, fleet: f, sockets: s, metrics: prometheus.NewRegistry(), kv: kv, nc: b.Conn()}
	if wrap != nil {
		kv = wrap(kv)
	}
	n.Twin = twin.New(twin.Options{
		Bucket: kv, Link: s, Devices: f, Events: b.Conn(), Log: slog.New(slog.DiscardHandler), Metrics: n.metrics,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = n.stop() })
	select {
	case <-n.Ready():
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	return n
}

// alone is a twin on an embedded bus of its own, with known devices that are all connected.
func alone(t testing.TB, devices ...string) *node {
	t.Helper()
	b := openBus(t, t.TempDir(), "")
	t.Cleanup(func() { _ = b.Close() })
	return start(t, b, newFleet(devices...), newSockets(devices...), nil)
}

func (n *node) patch(device, patch string, version ...uint64) (twin.State, error) {
	var at *uint64
	if len(version) > 0 {
		at = &version[0]
	}
	return n.PatchDesired(within(n.t), device, json.RawMessage(patch), at)
}

func (n *node) mustPatch(device, patch string, version ...uint64) twin.State {
	n.t.Helper()
	s, err := n.patch(device, patch, version...)
	if err != nil {
		n.t.Fatalf("patch %s: %v", patch, err)
	}
	return s
}

func (n *node) report(device, patch string) error {
	return n.Reported(device, &wire.StateReport{Reported: json.RawMessage(patch)})
}

func (n *node) mustReport(device, patch string) {
	n.t.Helper()
	if err := n.report(device, patch); err != nil {
		n.t.Fatalf("report %s: %v", patch, err)
	}
}

func (n *node) state(device string) twin.State {
	n.t.Helper()
	s, err := n.State(within(n.t), device)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// events hears the live events of all devices.
func (n *node) events() *nats.Subscription {
	n.t.Helper()
	all, err := bus.StateEvent("*")
	if err != nil {
		n.t.Fatal(err)
	}
	sub, err := n.nc.SubscribeSync(all)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.nc.Flush(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return sub
}

// until hears events until one fits.
func until(t testing.TB, sub *nats.Subscription, fits func(twin.State) bool) twin.State {
	t.Helper()
	for {
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("next event: %v", err)
		}
		var s twin.State
		if err := json.Unmarshal(m.Data, &s); err != nil {
			t.Fatal(err)
		}
		if fits(s) {
			return s
		}
	}
}

// wantSent waits for the next desired document that a device gets.
func (n *node) wantSent(device string, version uint64, body string) {
	n.t.Helper()
	select {
	case st := <-n.sockets.of(device):
		if st.Version != version || string(st.Desired) != body {
			n.t.Fatalf("%s was sent version %d %s, want %d %s", device, st.Version, st.Desired, version, body)
		}
	case <-time.After(patience):
		n.t.Fatalf("%s was sent nothing, want version %d", device, version)
	}
}

func (n *node) wantState(device string, want twin.State) {
	n.t.Helper()
	got := n.state(device)
	if got.DesiredVersion != want.DesiredVersion || got.ReportedVersion != want.ReportedVersion ||
		string(got.Desired) != string(want.Desired) || string(got.Reported) != string(want.Reported) ||
		string(got.Difference) != string(want.Difference) {
		n.t.Fatalf("state of %s:\n got %s\nwant %s", device, text(got), text(want))
	}
}

func text(s twin.State) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func docs(desired string, dv uint64, reported string, rv uint64, difference string) twin.State {
	return twin.State{
		Desired: json.RawMessage(desired), DesiredVersion: dv, Reported: json.RawMessage(reported), ReportedVersion: rv,
		Difference: json.RawMessage(difference),
	}
}

// counted is the value of a counter, summed over its labels that match.
func (n *node) counted(name string, labels ...string) (sum float64) {
	n.t.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetValue()] = true
			}
			fits := true
			for _, l := range labels {
				fits = fits && have[l]
			}
			if fits {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
