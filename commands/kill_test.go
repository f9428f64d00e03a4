package commands_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/killtest"
)

// The hub is killed with signal 9 while operators command and devices come and go. It runs as a child of the test;
// what operators were told and what devices did is kept outside of it, in a ledger that outlives it.

const (
	childEnv     = "FAIRLEAD_COMMANDS_CHILD"
	killDevices  = 8
	killPatience = 2 * time.Minute
)

// ledger is an append-only file of lines that no kill tears or takes back.
type ledger struct {
	mu sync.Mutex
	f  *os.File
}

func openLedger(dir string) (*ledger, error) {
	f, err := os.OpenFile(filepath.Join(dir, "ledger"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return &ledger{f: f}, err
}

func (l *ledger) note(words ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.f.WriteString(strings.Join(words, " ") + "\n"); err != nil {
		panic(err)
	}
}

// readLedger returns the history and, per device, the results that the hub has not yet confirmed.
func readLedger(dir string) (*history, map[string][]string, error) {
	h := &history{
		commands: make(map[string]commands.Command), told: make(map[string][]commands.State),
		acted: make(map[string][]string), answered: make(map[string]map[string]bool),
	}
	unacked := make(map[string][]string)
	f, err := os.Open(filepath.Join(dir, "ledger"))
	if errors.Is(err, os.ErrNotExist) {
		return h, unacked, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	acked := make(map[string]bool)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		switch w[0] {
		case "made":
			h.made = append(h.made, w[1])
		case "told":
			h.told[w[1]] = append(h.told[w[1]], commands.State(w[2]))
		case "acted":
			device, id := w[1], w[2]
			h.acted[device] = append(h.acted[device], id)
			if h.answered[device] == nil {
				h.answered[device] = make(map[string]bool)
			}
			h.answered[device][id] = succeeds(id)
		case "acked":
			acked[w[1]] = true
		}
	}
	for device, ids := range h.acted {
		for _, id := range ids {
			if !acked[id] {
				unacked[device] = append(unacked[device], id)
			}
		}
	}
	return h, unacked, lines.Err()
}

// succeeds is how a device decides: by the id, so that it says the same each time.
func succeeds(id string) bool { return id[len(id)-1]%4 != 0 }

// recorder makes devices that keep what they do in the ledger.
type recorder struct {
	ledger  *ledger
	history *history

	mu      sync.Mutex
	unacked map[string][]string // guarded by mu
}

func (k *recorder) add(f *fleet, id string) *device {
	d := f.add(id, func(d *device, c wire.Command) {
		if time.Now().UnixMilli() >= c.Expires {
			return
		}
		k.ledger.note("acted", d.id, c.ID)
		d.accept(c.ID)
		k.answer(d, c.ID)
	})
	d.acted = append(d.acted, k.history.acted[id]...)
	for _, id := range d.acted {
		d.last[id] = k.result(id)
	}
	return d
}

func (k *recorder) result(id string) *wire.Answer {
	if succeeds(id) {
		return &wire.Answer{Kind: wire.Result, ID: id, OK: true}
	}
	return &wire.Answer{Kind: wire.Result, ID: id, Error: &wire.Fault{Code: "jammed"}}
}

// answer gives the result, again and again at each chance until it is recorded.
func (k *recorder) answer(d *device, id string) {
	d.mu.Lock()
	d.last[id] = k.result(id)
	d.mu.Unlock()
	d.fleet.mu.Lock()
	at, ok := d.fleet.at[d.id]
	r := d.fleet.routers[at.Node]
	d.fleet.mu.Unlock()
	if ok && r != nil {
		r.Answered(at, k.result(id), func(err error) {
			if err == nil {
				k.ledger.note("acked", id)
			}
		})
	}
}

// reconnect brings a device back, which first repeats what was not acked.
func (k *recorder) reconnect(f *fleet, id string) {
	f.connect(id, "n1")
	k.mu.Lock()
	again := k.unacked[id]
	delete(k.unacked, id)
	k.mu.Unlock()
	for _, c := range again {
		f.devices[id].later(func() { k.answer(f.devices[id], c) })
	}
}

func killConfig() configs.Commands {
	cfg := configs.Default().Commands
	cfg.DrainPerSecond = 200
	return cfg
}

func openKillBus(dir string) (*bus.Bus, error) {
	return bus.Open(context.Background(), bus.Options{
		Dir: filepath.Join(dir, "bus"), Node: "n1", Sync: true, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 16 << 20, DeadletterKeep: time.Hour, CommandsKeep: configs.Default().Commands.Keep},
	})
}

// child is the hub that gets killed.
func child(dir string) error {
	h, unacked, err := readLedger(dir)
	if err != nil {
		return err
	}
	l, err := openLedger(dir)
	if err != nil {
		return err
	}
	b, err := openKillBus(dir)
	if err != nil {
		return err
	}
	f := &fleet{
		routers: make(map[string]*commands.Router), devices: make(map[string]*device),
		at: make(map[string]commands.Attachment), specs: make(map[string]wire.CommandSpec),
		epoch: uint64(time.Now().UnixMilli()),
	}
	r, err := commands.New(commands.Options{
		Config: killConfig(), Bus: b, Node: "n1", Link: sockets{f, "n1"}, Presence: f, Devices: f,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	f.routers["n1"] = r
	k := &recorder{ledger: l, history: h, unacked: unacked}
	for i := range killDevices {
		k.add(f, "d"+strconv.Itoa(i))
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	<-r.Ready()
	fmt.Println("ready")
	for i := range killDevices {
		go operate(r, f, k, "d"+strconv.Itoa(i))
	}
	return <-ended
}

// operate commands one device for ever, and plays its wifi.
func operate(r *commands.Router, f *fleet, k *recorder, id string) {
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(len(id))))
	ctx := context.Background()
	for {
		switch rnd.IntN(10) {
		case 0:
			f.disconnect(id)
		case 1, 2:
			k.reconnect(f, id)
		default:
			q := commands.Request{Device: id, Name: "set", Actor: "ann", TTL: time.Duration(1+rnd.IntN(300)) * time.Millisecond, Timeout: time.Duration(100+rnd.IntN(2000)) * time.Millisecond}
			c, err := r.Create(ctx, q)
			if err != nil {
				time.Sleep(time.Millisecond) // the queue is full
				continue
			}
			k.ledger.note("made", c.ID)
			if rnd.IntN(8) == 0 {
				_, _ = r.Cancel(ctx, c.ID, "bob")
			}
			go func() {
				if c, err := r.Wait(ctx, c.ID); err == nil {
					k.ledger.note("told", c.ID, string(c.State))
				}
			}()
		}
	}
}

func TestKilledHub(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(5, uint64(time.Now().UnixNano())))
	for range killRounds {
		killtest.Once(t, childEnv, dir, time.Duration(50+rnd.IntN(500))*time.Millisecond)
	}
	h := afterwards(t, dir)
	count := make(map[commands.State]int)
	for _, c := range h.commands {
		count[c.State]++
	}
	t.Logf("%d kills, %d commands: %v", killRounds, len(h.commands), count)
	if len(h.commands) == 0 || count[commands.Succeeded] == 0 || count[commands.Expired] == 0 {
		t.Error("the run shows too little")
	}
	for i, f := range h.check() {
		if t.Error(f); i > 20 {
			break
		}
	}
}

// afterwards starts the hub a last time, lets every command end, and returns what everybody saw.
func afterwards(t *testing.T, dir string) *history {
	t.Helper()
	h, unacked, err := readLedger(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := openLedger(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.f.Close()
	b, err := openKillBus(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f := newFleet(t)
	k := &recorder{ledger: l, history: h, unacked: unacked}
	for i := range killDevices {
		k.add(f, "d"+strconv.Itoa(i))
	}
	r, stop := start(t, b, f, "n1", func(c *configs.Commands) { *c = killConfig() })
	defer stop()
	for i := range killDevices {
		k.reconnect(f, "d"+strconv.Itoa(i))
	}
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	var ids []string
	for cursor := ""; ; {
		p, err := r.List(ctx, commands.Filter{Limit: 1000, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Commands {
			ids = append(ids, c.ID)
		}
		if cursor = p.Cursor; cursor == "" {
			break
		}
	}
	all := make(map[string]commands.Command, len(ids))
	for _, id := range ids {
		c, err := r.Wait(ctx, id)
		if err != nil {
			t.Fatalf("%s does not end: %v\n%s", id, err, show(c))
		}
		all[id] = c
	}
	r.ForgetRecent() // from the log, not from memory
	for id := range all {
		c, err := r.Command(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		all[id] = c
	}
	if h, _, err = readLedger(dir); err != nil {
		t.Fatal(err)
	}
	h.commands = all
	return h
}
