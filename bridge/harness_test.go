package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come; it is never measured.
const patience = 20 * time.Second

// hub stands for the rest of the hub: it keeps what the bridge gives it, and stores it when the test lets it.
type hub struct {
	tb         testing.TB
	maxDevices int // 0: the default

	mu      sync.Mutex
	changed chan struct{}           // guarded by mu: closed and renewed on every change
	held    bool                    // guarded by mu: stored is not told
	waiting []func()                // guarded by mu
	points  map[string][]wire.Point // guarded by mu
	labels  map[string]map[string]string
	hellos  map[string]wire.Hello
	online  map[string]string // id -> "online cause link"
	answers []answer
	states  map[string][]string // reported, as merge patches
	taken   map[string]bool     // ids that belong to others
	added   map[string]bool     // records that the bridge did not make
	opened  map[string]int      // sources
	ensured map[string]int      // how often a record was asked for
}

type answer struct {
	device, evidence string
	wire.Answer
}

func newHub(tb testing.TB) *hub {
	return &hub{
		tb: tb, changed: make(chan struct{}), points: map[string][]wire.Point{}, labels: map[string]map[string]string{},
		hellos: map[string]wire.Hello{}, online: map[string]string{}, states: map[string][]string{}, taken: map[string]bool{}, added: map[string]bool{},
		opened: map[string]int{}, ensured: map[string]int{},
	}
}

func (h *hub) notifyLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

type source struct {
	h      *hub
	device string
	w      bridge.Waiter
	closed bool // guarded by h.mu
}

func (h *hub) Open(device string, _ map[string]string, w bridge.Waiter) bridge.TelemetrySource {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened[device]++
	h.notifyLocked()
	return &source{h: h, device: device, w: w}
}

func (s *source) Append(t *wire.Telemetry) error {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	for _, p := range t.Points {
		for _, f := range p.Fields {
			if string(f.Key) == "closed" {
				return errors.New("log is closed")
			}
			if string(f.Key) == "conflict" {
				return &wire.Reject{Seq: t.Seq, Code: wire.TypeConflict, Message: "points[0].fields.conflict: is a number"}
			}
		}
	}
	s.h.points[s.device] = append(s.h.points[s.device], t.Points...)
	seq := t.Seq
	s.h.waiting = append(s.h.waiting, func() {
		if !s.closed { // as the log: nobody is told any more
			s.w.Stored(seq)
		}
	})
	if !s.h.held {
		s.h.storeLocked()
	}
	s.h.notifyLocked()
	return nil
}

func (s *source) Close() {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.closed = true
}

func (h *hub) storeLocked() {
	for _, f := range h.waiting {
		f()
	}
	h.waiting = nil
}

// hold keeps the log from being synced; release syncs it.
func (h *hub) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = true
}

func (h *hub) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = false
	h.storeLocked()
}

func (h *hub) Ensure(id string, labels map[string]string, hello wire.Hello) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken[id] || h.added[id] || h.labels[id] != nil && h.labels[id]["name"] != labels["name"] {
		return bridge.ErrDeviceTaken
	}
	for k, v := range labels { // as records are kept: what they do not take they never will
		if v == "" || len(v) > 256 || strings.HasSuffix(v, `\`) || strings.ContainsFunc(v, unicode.IsControl) {
			return fmt.Errorf("label %s: %q", k, v)
		}
	}
	if len(hello.Model) > 128 || len(hello.Firmware) > 128 || len(hello.Commands) > 64 {
		return errors.New("hello")
	}
	h.labels[id], h.hellos[id] = maps.Clone(labels), hello
	h.ensured[id]++
	h.notifyLocked()
	return nil
}

func (h *hub) Adopt(id string, _ map[string]string, hello wire.Hello) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.nameLocked(id, "site"); !known {
		return bridge.ErrDeviceRefused
	}
	h.hellos[id] = hello
	h.ensured[id]++
	h.notifyLocked()
	return nil
}

func (h *hub) Name(id, connection string) (name string, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.nameLocked(id, connection)
}

func (h *hub) nameLocked(id, connection string) (name string, known bool) {
	if labels := h.labels[id]; labels != nil && labels["mqtt"] == connection {
		return labels["name"], true
	}
	return "", h.added[id]
}

func (h *hub) Set(device string, online bool, cause, link string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.online[device] = fmt.Sprint(map[bool]string{true: "online", false: "offline"}[online], " ", cause, " ", link)
	h.notifyLocked()
}

func (h *hub) Answered(device string, ans *wire.Answer, evidence string, recorded func(error)) {
	h.mu.Lock()
	h.answers = append(h.answers, answer{device, evidence, *ans})
	h.notifyLocked()
	h.mu.Unlock()
	recorded(nil)
}

func (h *hub) Reported(device string, r *wire.StateReport) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[device] = append(h.states[device], string(r.Reported))
	h.notifyLocked()
	return nil
}

// stored returns what is stored of a device.
func (h *hub) stored(device string) []wire.Point {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.points[device])
}

// answered returns the answer of that number.
func (h *hub) answered(i int) answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answers[i]
}

// seen returns a copy of what the hub has noted per device.
func seen[T any](h *hub, notes map[string]T) map[string]T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(notes)
}

// until waits for cond, which is called with the lock held.
func (h *hub) until(what string, cond func() bool) {
	h.tb.Helper()
	deadline := time.After(patience)
	for {
		h.mu.Lock()
		ok, changed := cond(), h.changed
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			h.mu.Lock()
			defer h.mu.Unlock()
			h.tb.Fatalf("%s did not come about; points %d, online %v, answers %v", what, len(h.points), h.online, h.answers)
		}
	}
}

// running is a bridge that runs.
type running struct {
	*bridge.Bridge
	tb   testing.TB
	stop func()
}

// start runs a bridge of one connection until the test ends.
func start(tb testing.TB, h *hub, c configs.Connection, change ...func(*bridge.Parts)) *running {
	tb.Helper()
	if c.Name == "" {
		c.Name = "site"
	}
	return startAll(tb, h, []configs.Connection{c}, change...)
}

// startAll runs a bridge of several connections; wantState and wantStatus are about the first.
func startAll(tb testing.TB, h *hub, list []configs.Connection, change ...func(*bridge.Parts)) *running {
	tb.Helper()
	parts := bridge.Parts{
		Node: "n1", Sink: h, Answers: h, States: h, Devices: h, Presence: h,
		MaxAge: 3650 * 24 * time.Hour, MaxAhead: 10 * time.Minute,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&parts)
	}
	b, err := bridge.New(configs.Bridge{Connections: list, MaxDevices: h.maxDevices}, parts)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	r := &running{Bridge: b, tb: tb}
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Errorf("bridge: %v", err)
			}
		case <-time.After(patience):
			tb.Error("bridge does not stop")
		}
	})
	tb.Cleanup(r.stop)
	return r
}

// wantState waits for the connection to be so.
func (r *running) wantState(want bridge.State) bridge.Status {
	r.tb.Helper()
	return r.wantStatus(string(want), func(s bridge.Status) bool { return s.State == want })
}

func (r *running) wantStatus(what string, ok func(bridge.Status) bool) bridge.Status {
	r.tb.Helper()
	deadline := time.Now().Add(patience)
	for {
		s := r.Status()[0]
		if ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			r.tb.Fatalf("connection is not %s: %+v", what, s)
		}
		time.Sleep(10 * time.Millisecond) // there is no event for it; a status is polled
	}
}

func field(p wire.Point, key string) string {
	for _, f := range p.Fields {
		if string(f.Key) == key {
			return string(f.Value)
		}
	}
	return ""
}
