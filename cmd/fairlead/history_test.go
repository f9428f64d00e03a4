package main_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The size of the history check beside historyCommands and historyKills.
const (
	historyDevices   = 20
	historyOperators = 12
)

// historyRun is a run of one or more hubs that die, of operators and of devices.
type historyRun struct {
	t        *testing.T
	seed     uint64
	rnd      *rand.Rand
	hubs     []*hub
	history  *history
	crew     *crew
	machines []*machine

	mu      sync.Mutex
	live    []bool   // guarded by mu
	listens []string // where each hub listened last; guarded by mu
}

// startHistory starts the hubs, several of them on one nats-server, and makes the devices.
func startHistory(t *testing.T, nodes, requests int) *historyRun {
	t.Helper()
	r := &historyRun{t: t, seed: uint64(time.Now().UnixNano()), history: newHistory(), live: make([]bool, nodes), listens: make([]string, nodes)}
	t.Logf("seed=%d", r.seed)
	r.rnd = rand.New(rand.NewPCG(r.seed, 3))
	nats, keys := "", filepath.Join(t.TempDir(), "keys")
	if nodes > 1 {
		nats = fmt.Sprintf("nats: {urls: [%q]}", natsServer(t))
	}
	for n := range nodes {
		h := &hub{t: t, dir: t.TempDir(), listen: "127.0.0.1:0"}
		h.configure(fmt.Sprintf(`
tls: {mode: "off"}
node: n%d
auth: {keys_dir: %q}
admin: {listen: ""}
influx: {url: %q}
bridge: {broker: {listen: ""}}
console: {enabled: false}
devices: {drain_for: 100ms, connects_per_minute: 0}
commands: {drain_per_second: 200}
log: {level: warn}
%s
`, n+1, keys, nowhere, nats))
		r.hubs = append(r.hubs, h)
		r.start(n)
	}
	var ids []string
	for n := range historyDevices {
		ids = append(ids, fmt.Sprintf("m%02d", n))
	}
	r.crew = newCrew(r.history, r.hubs[0].AdminToken, ids, r.addresses(""), requests)
	for n, id := range ids {
		r.machines = append(r.machines, newMachine(id, r.add(id), r.history, r.addresses("/v1/device"), r.seed+uint64(n)))
	}
	return r
}

func (r *historyRun) start(n int) {
	r.t.Helper()
	r.hubs[n].start()
	r.mu.Lock()
	r.live[n], r.listens[n] = true, r.hubs[n].listen
	r.mu.Unlock()
}

func (r *historyRun) kill(n int) {
	r.t.Helper()
	r.mu.Lock()
	r.live[n] = false
	r.mu.Unlock()
	r.hubs[n].kill()
}

// addresses are those of the hubs that live, for devices or, without a path, of the API; if none does, of all.
func (r *historyRun) addresses(path string) func() []string {
	return func() (out []string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		dead := !slices.Contains(r.live, true)
		for n, listen := range r.listens {
			if r.live[n] || dead {
				url := "http://" + listen
				if path != "" {
					url = "ws://" + listen + path
				}
				out = append(out, url)
			}
		}
		return out
	}
}

func (r *historyRun) add(id string) (token string) {
	r.t.Helper()
	raw, status, err := r.crew.read(r.t.Context(), r.crew.apis()[0], http.MethodPost, "/devices", "", map[string]any{"id": id})
	if err != nil || status != http.StatusCreated {
		r.t.Fatalf("POST /devices %s: %d %s %v", id, status, raw, err)
	}
	_, rest, _ := bytes.Cut(raw, []byte(`"token":"`))
	made, _, _ := bytes.Cut(rest, []byte{'"'})
	return string(made)
}

// play lets operators and devices loose, does meanwhile, and waits until all is asked and answered.
func (r *historyRun) play(meanwhile func(asking <-chan struct{})) {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var devices, operators sync.WaitGroup
	defer devices.Wait()
	defer stop()
	for _, m := range r.machines {
		devices.Go(func() { m.run(ctx) })
	}
	asking := make(chan struct{})
	for n := range historyOperators {
		operators.Go(func() { r.crew.run(ctx, r.seed+uint64(100+n)) })
	}
	go func() { // ends with the operators
		operators.Wait()
		close(asking)
	}()
	meanwhile(asking)
	<-asking
	calmDown(r.machines)
	r.collect(ctx) // once all have ended, nothing goes to a device any more
	settled(r.t, r.machines)
	for _, disagree := range r.collect(ctx) {
		r.t.Error(disagree)
	}
}

// collect reads every command once it has ended, at every hub, and returns where they do not show the same.
func (r *historyRun) collect(ctx context.Context) (disagree []string) {
	r.t.Helper()
	apis := r.addresses("")()
	ids, err := r.crew.all(ctx, apis[0])
	if err != nil {
		r.t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	work := make(chan string)
	for range historyOperators {
		wg.Go(func() {
			for id := range work {
				if d := r.collectOne(ctx, apis, id); d != "" {
					mu.Lock()
					disagree = append(disagree, d)
					mu.Unlock()
				}
			}
		})
	}
	for _, id := range ids {
		work <- id
	}
	close(work)
	wg.Wait()
	return disagree
}

func (r *historyRun) collectOne(ctx context.Context, apis []string, id string) (disagree string) {
	var first []byte
	for n, api := range apis {
		got, raw, err := r.crew.ended(ctx, api, id)
		if err != nil {
			return err.Error()
		}
		if n == 0 {
			first = raw
			r.history.mu.Lock()
			r.history.commands[id] = got
			r.history.mu.Unlock()
		} else if !bytes.Equal(first, raw) {
			return fmt.Sprintf("two hubs do not agree:\n%s%s", first, raw)
		}
	}
	return ""
}

// report prints what the run was, and returns what is wrong with it.
func (r *historyRun) report(kills int) *verdict {
	r.t.Helper()
	v := r.history.check()
	finals := 0
	for _, n := range v.finals {
		finals += n
	}
	r.t.Logf("hubs=%d kills=%d requests=%d commands=%d finals=%d acted=%d redelivered=%d late=%d lost=%d double=%d illegal=%d %v",
		len(r.hubs), kills, r.crew.done(), len(r.history.commands), finals, v.acted, v.redelivery, v.late,
		v.count(lost), v.count(double), v.count(illegal), v.finals)
	r.t.Logf("refusals=%v", r.history.refusals)
	for _, f := range v.faults[:min(10, len(v.faults))] {
		r.t.Log(f.kind+":", f.text)
	}
	return v
}

func (r *historyRun) wantLegal(v *verdict) {
	r.t.Helper()
	if len(v.faults) > 0 {
		r.t.Errorf("%d faults", len(v.faults))
	}
	for code := range r.history.refusals {
		if strings.Contains(code, "another request") {
			r.t.Error(code)
		}
	}
}

// killing kills one hub after the other, at any moment, until all is asked.
func (r *historyRun) killing(asking <-chan struct{}) (kills int) {
	r.t.Helper()
	for {
		select {
		case <-asking:
			return kills
		case <-time.After(time.Duration(100+r.rnd.IntN(historyUptime)) * time.Millisecond): // chance, and meant to be
		}
		n := r.rnd.IntN(len(r.hubs))
		r.kill(n)
		kills++
		r.start(n)
	}
}

// TestCommandHistory kills the hub with signal 9 while operators command and devices come and go, and holds everything
// that was seen against what must hold. Then it forges the history, to see that the check would have found it.
func TestCommandHistory(t *testing.T) {
	r := startHistory(t, 1, historyCommands)
	kills := 0
	r.play(func(asking <-chan struct{}) { kills = r.killing(asking) })
	r.wantLegal(r.report(kills))
	for name, forge := range forgeries {
		t.Run(name, func(t *testing.T) { r.history.wantFound(t, forge) })
	}
}

// TestCommandHistoryOfTwoHubs is the same with two hubs on one nats-server: devices go to the one that lives.
func TestCommandHistoryOfTwoHubs(t *testing.T) {
	r := startHistory(t, 2, historyCommands)
	kills := 0
	r.play(func(asking <-chan struct{}) { kills = r.killing(asking) })
	r.wantLegal(r.report(kills))
}

// TestForgetfulDeviceIsFound is a negative control: devices without the memory that the protocol asks for act twice.
func TestForgetfulDeviceIsFound(t *testing.T) {
	r := startHistory(t, 1, 60)
	for _, m := range r.machines {
		m.forgets = true
	}
	r.play(func(asking <-chan struct{}) { <-asking })
	if v := r.report(0); v.count(double) == 0 {
		t.Error("no command was found twice")
	}
}

// TestForgetfulHubIsFound is a negative control: a hub whose command log is gone has lost commands.
func TestForgetfulHubIsFound(t *testing.T) {
	r := startHistory(t, 1, 60)
	r.play(func(asking <-chan struct{}) {
		until(t, "some commands", func() bool { return r.crew.done() > 30 })
		r.kill(0)
		logs, err := filepath.Glob(r.hubs[0].file("data/nats/jetstream/*/streams/COMMANDS"))
		if err != nil || len(logs) != 1 {
			t.Fatal(logs, err)
		}
		if err := os.RemoveAll(logs[0]); err != nil {
			t.Fatal(err)
		}
		r.start(0)
	})
	if v := r.report(1); v.count(lost) == 0 {
		t.Error("no command was found lost")
	}
}

// forgeries are histories that must not be.
var forgeries = map[string]func(h *history, c lived) bool{
	"lost": func(h *history, c lived) bool {
		delete(h.commands, c.ID)
		return len(h.asked[c.Params.N].ids) > 0
	},
	"another end": func(h *history, c lived) bool {
		if c.State != "succeeded" || c.Late || !h.acked[c.ID] {
			return false
		}
		c.State = "failed"
		c.Events = slices.Clone(c.Events)
		c.Events[len(c.Events)-1].State = "failed"
		h.commands[c.ID] = c
		return true
	},
	"two ends": func(h *history, c lived) bool {
		c.Events = append(slices.Clone(c.Events), c.Events[len(c.Events)-1])
		h.commands[c.ID] = c
		return c.State != "timed_out"
	},
	"no end": func(h *history, c lived) bool {
		c.State, c.Events = "queued", c.Events[:1]
		h.commands[c.ID] = c
		return true
	},
	"backwards": func(h *history, c lived) bool {
		if len(c.Events) < 4 {
			return false
		}
		c.Events = slices.Clone(c.Events)
		c.Events[1], c.Events[2] = c.Events[2], c.Events[1]
		h.commands[c.ID] = c
		return c.Events[1].State == "delivered" && c.Events[2].State == "sent"
	},
	"told otherwise": func(h *history, c lived) bool {
		h.told[c.ID] = append(slices.Clone(h.told[c.ID]), "expired")
		return c.State != "expired"
	},
	"acted twice": func(h *history, c lived) bool {
		once := h.acted(c)
		h.deeds[c.Device] = append(slices.Clone(h.deeds[c.Device]), deed{c.ID, c.NotBefore})
		return once
	},
	"acted too early": func(h *history, c lived) bool {
		c.NotBefore = time.Now().Add(time.Hour).UnixMilli()
		h.commands[c.ID] = c
		return h.acted(c)
	},
	"out of order": func(h *history, c lived) bool {
		h.deeds[c.Device] = slices.Clone(h.deeds[c.Device])
		all := h.deeds[c.Device]
		for i := range len(all) - 1 {
			a, b := h.commands[all[i].id], h.commands[all[i+1].id]
			if a.ID == c.ID && all[i].id == a.ID && all[i+1].id == b.ID && placeOf(a.ID, b.ID) < 0 && a.Priority == b.Priority && a.NotBefore == 0 && b.NotBefore == 0 {
				all[i], all[i+1] = all[i+1], all[i]
				return true
			}
		}
		return false
	},
	"expired and received": func(h *history, c lived) bool {
		c.State, c.Late, c.Events = "expired", false, slices.Clone(c.Events[:1])
		c.Events = append(c.Events, c.Events[0])
		c.Events[1].State = "expired"
		h.commands[c.ID] = c
		h.told = nil
		return h.acted(c) && !h.acked[c.ID]
	},
	"not what was asked": func(h *history, c lived) bool {
		h.arrivals[c.Device] = append(slices.Clone(h.arrivals[c.Device]), arrival{c.ID, c.Params.N + 1})
		return true
	},
	"made twice": func(h *history, c lived) bool {
		c.ID = "1" + c.ID
		h.commands[c.ID] = c
		return h.asked[c.Params.N].keyed
	},
	"nobody's word": func(h *history, c lived) bool {
		for _, id := range c.tries() {
			delete(h.said, id)
		}
		return c.State == "succeeded"
	},
	"never confirmed": func(h *history, c lived) bool {
		delete(h.acked, c.ID)
		_, said := h.said[c.ID]
		return said
	},
}

func (h *history) acted(c lived) bool {
	return slices.ContainsFunc(h.deeds[c.Device], func(d deed) bool { return d.id == c.ID })
}

// wantFound forges one command of a copy of the history, and checks it.
func (h *history) wantFound(t *testing.T, forge func(*history, lived) bool) {
	t.Helper()
	for _, id := range slices.Sorted(maps.Keys(h.commands)) {
		forged := &history{
			asked: h.asked, told: maps.Clone(h.told), arrivals: maps.Clone(h.arrivals), deeds: maps.Clone(h.deeds),
			said: maps.Clone(h.said), acked: maps.Clone(h.acked), commands: maps.Clone(h.commands),
		}
		if !forge(forged, h.commands[id]) {
			continue
		}
		if v := forged.check(); len(v.faults) <= len(h.check().faults) {
			t.Errorf("the forged history of %s passes", id)
		}
		return
	}
	t.Error("no command is fit to be forged: the run shows too little")
}
