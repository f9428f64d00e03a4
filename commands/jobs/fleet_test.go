package jobs_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/commands/jobs"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/killtest"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

func TestMain(m *testing.M) {
	if killtest.Child(childEnv, child) {
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come. No test asserts how long it took.
const patience = 60 * time.Second

// fleet is devices d00000 to their number, of which each answers its commands as answer says. They follow the protocol:
// they act once per id, and keep in a file what they did, which outlives the hub.
type fleet struct {
	count   int
	answer  func(device int) string // ok, fail or silent
	work    chan func()
	workers sync.WaitGroup

	mu      sync.Mutex
	router  *commands.Router
	session string
	offline map[string]bool
	acted   map[string][]string // command ids by device
	ledger  *os.File
	specs   map[string]wire.CommandSpec

	makers     map[string]jobs.Maker
	stopped    []jobs.Job // as the audit log has it
	unrecorded int        // records that the audit log will not take
	births     map[string]int64
	moved      map[string]string // devices whose label third is another by now
}

func name(i int) string { return fmt.Sprintf("d%05d", i) }

func number(device string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(device, "d"))
	if err != nil {
		return -1
	}
	return n
}

func newFleet(t testing.TB, count int, answer func(int) string) *fleet {
	f := fleetIn(count, answer)
	t.Cleanup(f.stop)
	return f
}

func fleetIn(count int, answer func(int) string) *fleet {
	f := &fleet{
		count: count, answer: answer, work: make(chan func(), 2*count+100), offline: make(map[string]bool),
		acted: make(map[string][]string), specs: make(map[string]wire.CommandSpec),
		makers: make(map[string]jobs.Maker), births: make(map[string]int64), moved: make(map[string]string),
	}
	for range 4 {
		f.workers.Go(func() {
			for job := range f.work {
				job()
			}
		})
	}
	return f
}

func (f *fleet) stop() {
	close(f.work)
	f.workers.Wait()
	if f.ledger != nil {
		_ = f.ledger.Close()
	}
}

// keep makes the devices remember in a file.
func (f *fleet) keep(dir string) error {
	file := filepath.Join(dir, "acted")
	if old, err := os.Open(file); err == nil {
		lines := bufio.NewScanner(old)
		for lines.Scan() {
			if device, id, ok := strings.Cut(lines.Text(), " "); ok {
				f.acted[device] = append(f.acted[device], id)
			}
		}
		_ = old.Close()
	}
	var err error
	f.ledger, err = os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return err
}

// attach brings all devices back on line, as after a restart of the hub.
func (f *fleet) attach(r *commands.Router) {
	f.mu.Lock()
	session := f.session
	f.mu.Unlock()
	for i := range f.count {
		r.Attached(commands.Attachment{Device: name(i), Session: session, Epoch: 1, Node: "n1"})
	}
}

func (f *fleet) Select(s selector.Selector) (ids []string) {
	for i := range f.count {
		if labels, _ := f.Labels(name(i)); s.Match(labels) {
			ids = append(ids, name(i))
		}
	}
	return ids
}

func (f *fleet) Labels(device string) (map[string]string, bool) {
	i := number(device)
	f.mu.Lock()
	defer f.mu.Unlock()
	third := strconv.Itoa(i % 3)
	if now, ok := f.moved[device]; ok {
		third = now
	}
	return map[string]string{"all": "yes", "third": third}, i >= 0 && i < f.count
}

func (f *fleet) Online(device string) bool {
	_, online := f.Node(device)
	return online
}

func (f *fleet) Node(device string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return "n1", !f.offline[device]
}

func (f *fleet) Born(device string) (int64, bool) {
	i := number(device)
	f.mu.Lock()
	defer f.mu.Unlock()
	return 1 + f.births[device], i >= 0 && i < f.count
}

func (f *fleet) Spec(_, name string) (wire.CommandSpec, bool, bool) {
	s, ok := f.specs[name]
	return s, len(f.specs) > 0, ok
}

func (f *fleet) Deliver(_ context.Context, device string, c wire.Command) (commands.Delivery, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.offline[device] {
		return commands.Delivery{}, commands.ErrNotConnected
	}
	seen := false
	for _, id := range f.acted[device] {
		seen = seen || id == c.ID
	}
	if !seen {
		f.acted[device] = append(f.acted[device], c.ID)
		if f.ledger != nil {
			if _, err := f.ledger.WriteString(device + " " + c.ID + "\n"); err != nil {
				return commands.Delivery{}, err
			}
		}
	}
	f.work <- func() { f.say(device, c.ID) }
	return commands.Delivery{Session: f.session, Epoch: 1}, nil
}

func (f *fleet) say(device, id string) {
	a := &wire.Answer{Kind: wire.Result, ID: id, OK: true}
	switch f.answer(number(device)) {
	case "silent":
		return
	case "fail":
		a.OK, a.Error = false, &wire.Fault{Code: "jammed", Message: "no"}
	}
	f.mu.Lock()
	r, session := f.router, f.session
	f.mu.Unlock()
	r.Answered(commands.Attachment{Device: device, Session: session, Epoch: 1, Node: "n1"}, a, func(error) {})
}

func (f *fleet) Cancel(context.Context, string, string) error { return nil }

// actions is how often devices acted.
func (f *fleet) actions() (total, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ids := range f.acted {
		total, most = total+len(ids), max(most, len(ids))
	}
	return total, most
}

func openBus(dir string) (*bus.Bus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return bus.Open(ctx, bus.Options{
		Dir: dir, Node: "n1", Sync: true, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 16 << 20, DeadletterKeep: time.Hour, CommandsKeep: configs.Default().Commands.Keep},
	})
}

// hub is a router and jobs on a bus.
type hub struct {
	*jobs.Jobs
	router *commands.Router
	fleet  *fleet
	stop   func() error
}

// startHub runs on a bus until stop.
func startHub(b *bus.Bus, f *fleet, approve ...configs.Approval) (*hub, error) {
	policy, err := commands.NewPolicy(approve, func(id string) map[string]string { l, _ := f.Labels(id); return l })
	if err != nil {
		return nil, err
	}
	r, err := commands.New(commands.Options{
		Config: configs.Default().Commands, Bus: b, Node: "n1", Link: f, Presence: f, Devices: f, Policy: policy,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.router, f.session = r, "s"+rand.Text()
	f.mu.Unlock()
	routing, stopRouter := context.WithCancel(context.Background())
	routed := make(chan error, 1)
	go func() { routed <- r.Run(routing) }()
	stopRouting := func() error { stopRouter(); return <-routed }
	<-r.Ready()
	f.attach(r)
	j, stopJobs, err := startJobs(b, r, f)
	if err != nil {
		_ = stopRouting()
		return nil, err
	}
	return &hub{Jobs: j, router: r, fleet: f, stop: sync.OnceValue(func() error { return errors.Join(stopJobs(), stopRouting()) })}, nil
}

func startJobs(b *bus.Bus, r *commands.Router, f *fleet) (*jobs.Jobs, func() error, error) {
	j, err := jobs.New(context.Background(), jobs.Options{
		Bus: b, Router: r, Fleet: f, Makers: f, Audit: f, Keep: configs.Default().Commands.Keep, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, nil, err
	}
	driving, stop := context.WithCancel(context.Background())
	driven := make(chan error, 1)
	go func() { driven <- j.Run(driving) }()
	<-j.Ready()
	return j, sync.OnceValue(func() error { stop(); return <-driven }), nil
}

// start is a hub for one test.
func start(t testing.TB, f *fleet, approve ...configs.Approval) *hub {
	t.Helper()
	b, err := openBus(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h, err := startHub(b, f, approve...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (h *hub) create(t testing.TB, q jobs.Request) jobs.Job {
	t.Helper()
	if q.Selector == "" && q.Devices == nil {
		q.Selector = "all"
	}
	if q.Order.Name == "" {
		q.Order.Name = "set"
	}
	if q.Actor == "" {
		q.Actor = "ann"
	}
	job, err := h.Create(within(t), q)
	if err != nil {
		t.Fatalf("create %+v: %v", q, err)
	}
	return job
}

// until waits until a job is as ok wants.
func (h *hub) until(t testing.TB, id string, ok func(jobs.Job) bool) jobs.Job {
	t.Helper()
	ctx := within(t)
	for {
		job, err := h.Find(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(job) {
			return job
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("job stays %+v", job)
		}
	}
}

func over(job jobs.Job) bool { return job.Finished > 0 }

// results reads the result of every device, page by page.
func (h *hub) results(t testing.TB, id string) map[string]jobs.Result {
	t.Helper()
	all := make(map[string]jobs.Result)
	for cursor := ""; ; {
		page, next, err := h.Results(within(t), id, "", cursor, 700)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			if _, twice := all[r.Device]; twice {
				t.Errorf("%s is listed twice", r.Device)
			}
			all[r.Device] = r
		}
		if cursor = next; cursor == "" {
			return all
		}
	}
}

// agree holds a job that is over against its results, its commands and its devices.
func (h *hub) agree(t testing.TB, job jobs.Job) {
	t.Helper()
	all := h.results(t, job.ID)
	if len(all) != job.Total {
		t.Errorf("%d results of %d devices", len(all), job.Total)
	}
	counts := make(map[string]int)
	for _, r := range all {
		counts[r.State]++
		if r.Command == "" {
			continue
		}
		c, err := h.router.Command(within(t), r.Command)
		if err != nil || string(c.State) != r.State || c.Device != r.Device || c.Job != job.ID {
			t.Errorf("%+v: its command: %v %+v", r, err, c)
		}
	}
	if fmt.Sprint(counts) != fmt.Sprint(job.Counts) {
		t.Errorf("counts %v, devices say %v", job.Counts, counts)
	}
	h.fleet.mu.Lock()
	defer h.fleet.mu.Unlock()
	for device, ids := range h.fleet.acted {
		if len(ids) > 1 || len(ids) == 1 && ids[0] != all[device].Command {
			t.Errorf("%s acted on %v, its command is %+v", device, ids, all[device])
		}
	}
}
