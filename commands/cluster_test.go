package commands_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// openRemote opens a bus of its own on a NATS server that several hubs share.
func openRemote(t testing.TB, url, node string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(within(t), bus.Options{
		NATS: configs.NATS{URLs: []string{url}}, Node: node, Sync: true, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: configs.Default().Commands.Keep},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
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

// two are two hubs on one NATS with the same fleet.
func two(t testing.TB, f *fleet, change ...func(*configs.Commands)) (a, b *commands.Router) {
	t.Helper()
	url := natsServer(t)
	var routers []*commands.Router
	for _, node := range []string{"n1", "n2"} {
		bus := openRemote(t, url, node)
		r, stop := start(t, bus, f, node, change...)
		t.Cleanup(stop)
		routers = append(routers, r)
	}
	return routers[0], routers[1]
}

func TestTwoNodes(t *testing.T) {
	f := newFleet(t)
	a, b := two(t, f)
	d := f.add("d", obey)

	// The operator is at one node, the device at the other.
	f.connect("d", "n2")
	c := create(t, a, commands.Request{Device: "d"})
	c = wantFinal(t, a, c.ID, commands.Succeeded)
	if c.Events[0].Node != "n1" || c.Events[1].Node != "n2" {
		t.Errorf("nodes: %s", show(c))
	}
	wantFinal(t, b, c.ID, commands.Succeeded)

	// It waits at one and is delivered by the other.
	f.disconnect("d")
	c = create(t, a, commands.Request{Device: "d"})
	f.connect("d", "n2")
	wantFinal(t, a, c.ID, commands.Succeeded)

	// The device moves with a command in its hands.
	d.do = silent
	c = create(t, b, commands.Request{Device: "d"})
	wantState(t, b, c.ID, commands.Sent)
	wantState(t, a, c.ID, commands.Sent)
	f.connect("d", "n1")
	c = eventually(t, a, c.ID, func(c commands.Command) bool { return c.Attempt == 2 })
	d.later(func() { d.succeed(c.ID) })
	wantFinal(t, b, c.ID, commands.Succeeded)

	// Cancel at the node that does not hold the socket.
	d.do = func(d *device, c wireCommand) { d.accept(c.ID) }
	c = wantState(t, a, create(t, a, commands.Request{Device: "d"}).ID, commands.Delivered)
	wantState(t, b, c.ID, commands.Delivered)
	if _, err := b.Cancel(within(t), c.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	wantFinal(t, a, c.ID, commands.Cancelled)
}

func TestTwoNodesAgreeOnKeys(t *testing.T) {
	f := newFleet(t)
	a, b := two(t, f)
	f.add("d", obey)
	for i := range 20 {
		q := commands.Request{Device: "d", Name: "set", Actor: "ann", IdempotencyKey: fmt.Sprint(i)}
		var ids [2]string
		var wg sync.WaitGroup
		for n, r := range []*commands.Router{a, b} {
			wg.Go(func() {
				c, err := r.Create(within(t), q)
				if err != nil {
					t.Error(err)
				}
				ids[n] = c.ID
			})
		}
		wg.Wait()
		if ids[0] != ids[1] {
			t.Fatalf("key %d made %s and %s", i, ids[0], ids[1])
		}
	}
	if n, _ := a.Open(); n != 20 {
		t.Errorf("%d commands of 20 keys", n)
	}
}

func TestTwoNodesAgreeOnEnds(t *testing.T) {
	t.Parallel()
	// Both nodes cancel, expire, time out and deliver the same commands at the same time.
	f := newFleet(t)
	a, b := two(t, f, func(c *configs.Commands) { c.DrainPerSecond = 200 })
	const devices, each = 10, 20
	var mu sync.Mutex
	var ids []string
	var wg sync.WaitGroup
	for i := range devices {
		id := fmt.Sprintf("d%d", i)
		f.add(id, func(d *device, c wireCommand) {
			if len(d.seen)%3 != 0 {
				obey(d, c)
			}
		})
		wg.Go(func() {
			for n := range each {
				r := []*commands.Router{a, b}[n%2]
				f.connect(id, []string{"n1", "n2"}[n/3%2])
				c, err := r.Create(within(t), commands.Request{Device: id, Name: "set", TTL: time.Duration(1+n*3) * time.Millisecond, Timeout: time.Duration(10+n) * time.Millisecond})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids = append(ids, c.ID)
				mu.Unlock()
				if n%4 == 0 {
					if _, err := []*commands.Router{b, a}[n%2].Cancel(within(t), c.ID, "x"); err != nil && !errors.Is(err, commands.ErrFinal) && !errors.Is(err, commands.ErrNotFound) {
						t.Error(err)
					}
				}
				if n%5 == 0 {
					f.disconnect(id)
				}
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		x, errA := a.Wait(within(t), id)
		y, errB := b.Wait(within(t), id)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if x.State == commands.TimedOut || y.State == commands.TimedOut {
			continue // a late answer may lie between the two looks
		}
		if x.State != y.State || !slices.EqualFunc(x.Events, y.Events, func(p, q commands.Event) bool { return p == q }) {
			t.Errorf("two histories of one command:\n%s\n%s", show(x), show(y))
		}
		checkCommand(t, f, x)
	}
}

// checkCommand holds a command's end against what its device saw.
func checkCommand(t *testing.T, f *fleet, c commands.Command) {
	t.Helper()
	f.mu.Lock()
	d := f.devices[c.Device]
	f.mu.Unlock()
	received := slices.ContainsFunc(d.received(), func(w wireCommand) bool { return w.ID == c.ID })
	switch {
	case c.State == commands.Expired && received:
		t.Errorf("expired, and the device has it: %s", show(c))
	case c.State == commands.Succeeded && !received:
		t.Errorf("succeeded, and the device never had it: %s", show(c))
	case c.State == commands.Cancelled && c.Error == nil && received:
		t.Errorf("taken back before it was sent, and the device has it: %s", show(c))
	}
}
