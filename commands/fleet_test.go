package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/killtest"
)

func TestMain(m *testing.M) {
	if killtest.Child(childEnv, child) {
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come. No test asserts how long it took.
const patience = 30 * time.Second

// behaviour is what a device does with a command; it runs on the device's own goroutine.
type wireCommand = wire.Command

type behaviour func(d *device, c wire.Command)

// device is a device that follows the protocol: it acts once per id and repeats earlier answers.
type device struct {
	id    string
	born  int64 // when its record was made
	fleet *fleet
	do    behaviour
	inbox chan func()

	mu    sync.Mutex
	seen  []wire.Command // as they came, repeated ones included
	acted []string       // ids, each once
	last  map[string]*wire.Answer
	asked []string // cancels
}

// fleet holds the sockets of one or more nodes. It is the Link, Presence and Devices of their routers.
type fleet struct {
	mu      sync.Mutex
	routers map[string]*commands.Router
	devices map[string]*device
	at      map[string]commands.Attachment // live sessions
	specs   map[string]wire.CommandSpec
	epoch   uint64
	births  int64
	running sync.WaitGroup
	fail    error  // of every delivery
	linger  func() // before a delivery returns

	approve []configs.Approval
	labels  map[string]map[string]string
	notes   commands.Annotator
}

func newFleet(t testing.TB) *fleet {
	f := &fleet{
		routers: make(map[string]*commands.Router), devices: make(map[string]*device),
		at: make(map[string]commands.Attachment), specs: make(map[string]wire.CommandSpec),
	}
	t.Cleanup(f.stop)
	return f
}

func (f *fleet) stop() {
	f.mu.Lock()
	for _, d := range f.devices {
		close(d.inbox)
	}
	f.devices = nil
	f.mu.Unlock()
	f.running.Wait()
}

func (f *fleet) add(id string, do behaviour) *device {
	d := &device{id: id, fleet: f, do: do, inbox: make(chan func(), 4096), last: make(map[string]*wire.Answer)}
	f.mu.Lock()
	f.births++
	d.born = f.births
	f.devices[id] = d
	f.mu.Unlock()
	f.running.Go(func() {
		for job := range d.inbox {
			job()
		}
	})
	return d
}

// connect puts a device on line at a node.
func (f *fleet) connect(id, node string) {
	f.mu.Lock()
	f.epoch++
	a := commands.Attachment{Device: id, Session: "s" + strconv.FormatUint(f.epoch, 10), Epoch: f.epoch, Node: node}
	f.at[id] = a
	r := f.routers[node]
	f.mu.Unlock()
	if r != nil {
		r.Attached(a)
	}
}

func (f *fleet) disconnect(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.at, id)
}

func (f *fleet) Node(id string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.at[id]
	return a.Node, ok
}

func (f *fleet) Born(id string) (int64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.devices[id]
	if d == nil {
		return 0, false
	}
	return d.born, true
}

func (f *fleet) Spec(_, name string) (wire.CommandSpec, bool, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.specs[name]
	return s, len(f.specs) > 0, ok
}

// sockets is the Link of one node.
type sockets struct {
	fleet *fleet
	node  string
}

func (s sockets) Deliver(_ context.Context, id string, c wire.Command) (commands.Delivery, error) {
	f := s.fleet
	if f.linger != nil {
		defer f.linger()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.at[id]
	if !ok || a.Node != s.node || f.devices[id] == nil {
		return commands.Delivery{}, commands.ErrNotConnected
	}
	if f.fail != nil {
		return commands.Delivery{}, f.fail
	}
	d := f.devices[id]
	select {
	case d.inbox <- func() { d.receive(c) }:
	default:
		return commands.Delivery{}, errors.New("device's queue is full")
	}
	return commands.Delivery{Session: a.Session, Epoch: a.Epoch}, nil
}

func (s sockets) Cancel(_ context.Context, id, command string) error {
	f := s.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.at[id]; !ok || a.Node != s.node {
		return commands.ErrNotConnected
	}
	d := f.devices[id]
	d.inbox <- func() {
		d.mu.Lock()
		d.asked = append(d.asked, command)
		d.mu.Unlock()
		if d.last[command] == nil {
			d.fail(command, "cancelled", "stopped")
		}
	}
	return nil
}

func (d *device) receive(c wire.Command) {
	d.mu.Lock()
	d.seen = append(d.seen, c)
	last := d.last[c.ID]
	acted := false
	for _, id := range d.acted {
		acted = acted || id == c.ID
	}
	if !acted {
		d.acted = append(d.acted, c.ID)
	}
	d.mu.Unlock()
	switch {
	case last != nil:
		d.say(last)
	case !acted:
		d.do(d, c)
	}
}

// say sends an answer through whatever session the device has now.
func (d *device) say(a *wire.Answer) {
	if a.Kind == wire.Result {
		d.mu.Lock()
		d.last[a.ID] = a
		d.mu.Unlock()
	}
	d.fleet.mu.Lock()
	at, ok := d.fleet.at[d.id]
	r := d.fleet.routers[at.Node]
	d.fleet.mu.Unlock()
	if ok && r != nil {
		r.Answered(at, a, func(error) {})
	}
}

func (d *device) accept(id string) { d.say(&wire.Answer{Kind: wire.Accept, ID: id}) }
func (d *device) succeed(id string) {
	d.say(&wire.Answer{Kind: wire.Result, ID: id, OK: true, Result: json.RawMessage(`{"done":true}`)})
}

func (d *device) fail(id, code, text string) {
	d.say(&wire.Answer{Kind: wire.Result, ID: id, Error: &wire.Fault{Code: code, Message: text}})
}

// later runs job on the device's goroutine, after what it does now.
func (d *device) later(job func()) { d.inbox <- job }

func (d *device) received() []wire.Command {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]wire.Command(nil), d.seen...)
}

// obey accepts and succeeds.
func obey(d *device, c wire.Command) {
	d.accept(c.ID)
	d.succeed(c.ID)
}

// silent takes commands and never answers.
func silent(*device, wire.Command) {}

func openBus(t testing.TB, dir string) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := bus.Open(ctx, bus.Options{
		Dir: dir, Node: "n1", Sync: true, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: configs.Default().Commands.Keep},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// start runs a router until the returned stop is called, or the test ends.
func start(t testing.TB, b *bus.Bus, f *fleet, node string, change ...func(*configs.Commands)) (*commands.Router, func()) {
	t.Helper()
	return startWith(t, b, f, node, f, change...)
}

func startWith(t testing.TB, b *bus.Bus, f *fleet, node string, p commands.Presence, change ...func(*configs.Commands)) (*commands.Router, func()) {
	t.Helper()
	cfg := configs.Default().Commands
	for _, c := range change {
		c(&cfg)
	}
	policy, err := commands.NewPolicy(f.approve, func(id string) map[string]string { return f.labels[id] })
	if err != nil {
		t.Fatal(err)
	}
	r, err := commands.New(commands.Options{
		Config: cfg, Bus: b, Node: node, Link: sockets{f, node}, Presence: p, Devices: f, Policy: policy, Notes: f.notes,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.routers[node] = r
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	select {
	case <-r.Ready():
	case err := <-ended:
		cancel()
		t.Fatal("router ended:", err)
	case <-time.After(patience):
		cancel()
		t.Fatal("router is not ready")
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error("router:", err)
			}
		})
	}
	return r, stop
}

// hub is one node with its bus.
func hub(t testing.TB, f *fleet, change ...func(*configs.Commands)) *commands.Router {
	t.Helper()
	b := openBus(t, t.TempDir())
	r, stop := start(t, b, f, "n1", change...)
	t.Cleanup(func() {
		stop()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func create(t testing.TB, r *commands.Router, q commands.Request) commands.Command {
	t.Helper()
	if q.Name == "" {
		q.Name = "set"
	}
	c, err := r.Create(within(t), q)
	if err != nil {
		t.Fatalf("create %+v: %v", q, err)
	}
	return c
}

func wantFinal(t testing.TB, r *commands.Router, id string, want commands.State) commands.Command {
	t.Helper()
	c, err := r.Wait(within(t), id)
	if err != nil {
		t.Fatalf("wait for %s: %v", id, err)
	}
	if c.State != want {
		t.Fatalf("%s is %s, want %s\n%s", id, c.State, want, show(c))
	}
	return c
}

// wantState waits until a command is in a state, final or not.
func wantState(t testing.TB, r *commands.Router, id string, want commands.State) commands.Command {
	t.Helper()
	return eventually(t, r, id, func(c commands.Command) bool { return c.State == want })
}

func eventually(t testing.TB, r *commands.Router, id string, ok func(commands.Command) bool) commands.Command {
	t.Helper()
	changed := make(chan struct{}, 1)
	stop, err := r.Watch("*", func(commands.Command) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx := within(t)
	for {
		c, err := r.Command(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(c) {
			return c
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s stays %s\n%s", id, c.State, show(c))
		}
	}
}

func show(c commands.Command) string {
	text, _ := json.MarshalIndent(c, "", "  ")
	return string(text)
}

// gonePresence says that every device is on line at n1.
type gonePresence struct{ *fleet }

func (gonePresence) Node(string) (string, bool) { return "n1", true }
