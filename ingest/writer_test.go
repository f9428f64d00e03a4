package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// scripted is a store that can be made to fail in ways that a real one cannot be asked to.
type scripted struct {
	mu    sync.Mutex
	cond  sync.Cond
	lines map[string]int // how often each line was stored
	order []string       // stored lines as they came
	fail  func(body []byte, call int) error
	calls int
}

func newScripted(fail func(body []byte, call int) error) *scripted {
	s := &scripted{lines: make(map[string]int), fail: fail}
	s.cond.L = &s.mu
	return s
}

func (s *scripted) Write(_ context.Context, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fail != nil {
		if err := s.fail(body, s.calls); err != nil {
			return err
		}
	}
	for l := range bytes.Lines(body) {
		line := strings.TrimSuffix(string(l), "\n")
		s.lines[line]++
		s.order = append(s.order, line)
	}
	s.cond.Broadcast()
	return nil
}

// wait blocks until n different lines are stored.
func (s *scripted) wait(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.lines) < n {
		s.cond.Wait()
	}
}

// startWriter runs a writer on the log of b until stop is called.
func startWriter(tb testing.TB, b *bus.Bus, store ingest.Store) (w *ingest.Writer, dead *ingest.Deadletters, stop func()) {
	tb.Helper()
	return startWriterWith(tb, b, store, func(*ingest.WriterOptions) {})
}

// startWriterWith is startWriter with other options.
func startWriterWith(tb testing.TB, b *bus.Bus, store ingest.Store, change func(*ingest.WriterOptions)) (w *ingest.Writer, dead *ingest.Deadletters, stop func()) {
	tb.Helper()
	log, err := b.Stream(context.Background(), bus.StreamTelemetry)
	if err != nil {
		tb.Fatal(err)
	}
	letters, err := b.Stream(context.Background(), bus.StreamDeadletter)
	if err != nil {
		tb.Fatal(err)
	}
	dead = ingest.NewDeadletters(b.JetStream(), letters)
	o := ingest.WriterOptions{
		Config: configs.Default().Ingest, Log: log, Files: b.Files(bus.StreamTelemetry), Store: store, Dead: dead,
		Slog: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}
	change(&o)
	w, err = ingest.NewWriter(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(stop)
	return w, dead, stop
}

// send appends n points of each device and waits until they are in the log.
func send(tb testing.TB, c *ingest.Committer, devices, n int) {
	tb.Helper()
	var wg sync.WaitGroup
	for d := range devices {
		wg.Go(func() {
			w := newWaiter()
			src := c.Open(fmt.Sprintf("dev-%d", d), nil, w)
			defer src.Close()
			for i := 1; i <= n; i++ {
				if err := src.Append(frame(tb, fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"n":%d},"time":%d}`, i, i, 1700000000000+i))); err != nil {
					tb.Error(err)
					return
				}
			}
			w.wait(uint64(n))
		})
	}
	wg.Wait()
}

func refused(reason string) error {
	return &ingest.StoreError{Verdict: ingest.Refused, Status: 400, Err: errors.New(reason)}
}

func TestEveryLoggedPointIsWrittenInOrder(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, _ := startCommitter(t, b.JetStream(), nil)
	store := newScripted(nil)
	startWriter(t, b, store)
	send(t, c, 10, 300)
	store.wait(3000)
	last := make(map[string]string)
	for _, l := range store.order {
		head, _, _ := strings.Cut(l, " ")
		at := l[strings.LastIndexByte(l, ' ')+1:]
		if at <= last[head] {
			t.Fatalf("%s at %s came behind %s", head, at, last[head])
		}
		last[head] = at
	}
}

func TestOutageLosesNothing(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, _ := startCommitter(t, b.JetStream(), nil)
	down := true
	store := newScripted(func(_ []byte, call int) error {
		if call > 6 {
			down = false
		}
		if down {
			return &ingest.StoreError{Verdict: ingest.Unavailable, Status: 503, Err: errors.New("away")}
		}
		return nil
	})
	w, _, _ := startWriter(t, b, store)
	send(t, c, 4, 100)
	store.wait(400)
	if err := w.Healthy(); err != nil {
		t.Errorf("healthy after the outage: %v", err)
	}
}

func TestRestartWritesWhatWasLeft(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, _ := startCommitter(t, b.JetStream(), nil)
	away := newScripted(func([]byte, int) error {
		return &ingest.StoreError{Verdict: ingest.Misconfigured, Status: 401, Err: errors.New("unauthorized")}
	})
	_, _, stop := startWriter(t, b, away)
	send(t, c, 4, 50)
	stop()
	if len(away.lines) != 0 {
		t.Fatal("the store that refused has lines")
	}
	store := newScripted(nil)
	startWriter(t, b, store)
	store.wait(200)
}

func TestBadLinesStandAlone(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, _ := startCommitter(t, b.JetStream(), nil)
	bad := func(l []byte) bool { return bytes.Contains(l, []byte("n=77 ")) || bytes.Contains(l, []byte("n=300 ")) }
	store := newScripted(func(body []byte, call int) error {
		if call%7 == 0 && bytes.Count(body, []byte("\n")) > 1 {
			return &ingest.StoreError{Verdict: ingest.TooLarge, Status: 413, Err: errors.New("too large")}
		}
		for l := range bytes.Lines(body) {
			if bad(l) {
				return refused("field type conflict")
			}
		}
		return nil
	})
	_, dead, _ := startWriter(t, b, store)
	send(t, c, 3, 400)
	store.wait(3 * 398)
	var letters []ingest.Deadletter
	for len(letters) < 6 {
		var err error
		if letters, err = dead.List(t.Context(), "", 0, 100); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range letters {
		if !strings.HasPrefix(l.Device, "dev-") || !bad([]byte(l.Line)) || !strings.Contains(l.Reason, "field type conflict") {
			t.Errorf("dead letter %+v", l)
		}
	}
	for l := range store.lines {
		if bad([]byte(l)) {
			t.Errorf("stored the bad line %s", l)
		}
	}
	one, err := dead.List(t.Context(), "dev-1", 0, 100)
	if err != nil || len(one) != 2 {
		t.Fatalf("%d dead letters of dev-1 (%v), want 2", len(one), err)
	}
	store.mu.Lock()
	store.fail = nil
	store.mu.Unlock()
	took, again, err := dead.Replay(t.Context(), store, []uint64{one[0].Seq, one[1].Seq})
	if err != nil || took != 2 || again != 0 {
		t.Errorf("replay took %d, refused %d: %v", took, again, err)
	}
}

// Dead letters of a device with few among many others, and with gaps where letters were replayed.
func TestListDeadLetters(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	stream, err := b.Stream(t.Context(), bus.StreamDeadletter)
	if err != nil {
		t.Fatal(err)
	}
	dead := ingest.NewDeadletters(b.JetStream(), stream)
	if letters, err := dead.List(t.Context(), "", 0, 10); err != nil || len(letters) != 0 {
		t.Fatalf("none there: %v %v", letters, err)
	}
	const total, every = 3000, 700
	for i := 1; i <= total; i++ {
		device := "many"
		if i%every == 0 {
			device = "few"
		}
		if err := dead.Keep(t.Context(), fmt.Appendf(nil, "m,device=%s n=%d 1\n", device, i), errors.New("refused")); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 && device == "many" {
			if err := stream.DeleteMsg(t.Context(), uint64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := func(device string, limit int) (seqs []uint64) {
		t.Helper()
		for before := uint64(0); ; {
			page, err := dead.List(t.Context(), device, before, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("%d letters, %v", len(page), err)
			}
			for _, l := range page {
				if before = l.Seq; device != "" && l.Device != device || !strings.Contains(l.Line, fmt.Sprintf("n=%d ", l.Seq)) {
					t.Fatalf("letter %+v", l)
				}
				seqs = append(seqs, l.Seq)
			}
			if len(page) < limit {
				return seqs
			}
		}
	}
	var kept []uint64
	for i := uint64(total); i > 0; i-- {
		if i%3 != 0 || i%every == 0 {
			kept = append(kept, i)
		}
	}
	for _, limit := range []int{1, 100, 1000, 5000} {
		if got := all("few", limit); !slices.Equal(got, []uint64{2800, 2100, 1400, 700}) {
			t.Errorf("few, %d at a time: %v", limit, got)
		}
		if limit == 1 {
			continue
		}
		if got := all("", limit); !slices.Equal(got, kept) {
			t.Errorf("all, %d at a time: %d letters, want %d in the order newest first", limit, len(got), len(kept))
		}
	}
	if got := all("nobody", 100); len(got) != 0 {
		t.Errorf("nobody has %v", got)
	}
}

// The longest lines and batches that may be in the log, refused: they must find room among the dead letters, or nothing
// of their lane is ever written again.
func TestLongDeadLettersAreKept(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	store := newScripted(func(body []byte, _ int) error {
		if bytes.Contains(body, []byte("text=")) {
			return refused(strings.Repeat("no: <", 10_000))
		}
		return nil
	})
	_, dead, _ := startWriter(t, b, store)
	text := strings.Repeat("<", 4096)
	line := "m,device=dev-1 "
	for i := range 60 {
		line += fmt.Sprintf("text%d=%q,", i, text)
	}
	line += `text="" 1700000000000000000`
	publish := func(batch []byte) {
		t.Helper()
		if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, batch); err != nil {
			t.Fatal(err)
		}
	}
	publish(ingest.EncodeBatch(line + "\n"))
	broken := ingest.EncodeBatch(strings.Repeat("m,device=dev-1 n=1 1\n", 36_000))
	broken[4]++
	publish(broken)
	publish(ingest.EncodeBatch("m,device=dev-1 n=1 1700000000000000001\n"))
	store.wait(1)
	var letters []ingest.Deadletter
	for len(letters) < 3 { // the line, and two parts of the batch
		var err error
		if letters, err = dead.List(t.Context(), "", 0, 100); err != nil {
			t.Fatal(err)
		}
	}
	var kept string
	var whole []byte
	for _, l := range slices.Backward(letters) { // the oldest first
		kept, whole = kept+l.Line, append(whole, l.Batch...)
	}
	if kept != line || !bytes.Equal(whole, broken) {
		t.Errorf("kept a line of %d bytes and a batch of %d, want %d and %d", len(kept), len(whole), len(line), len(broken))
	}
}

func TestOutletSeesEveryStoredPoint(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, _ := startCommitter(t, b.JetStream(), nil)
	log, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	o, err := ingest.NewOutlet(log, "broker-1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened := make(chan struct{})
	go func() {
		defer close(got)
		opening := true
		for n := 0; n < 600; {
			if opening { // the first call makes the cursor, from which on points are seen
				opening = false
				close(opened)
			}
			points, done, err := o.Next(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			for _, p := range points {
				if !strings.HasPrefix(p.Device, "dev-") || len(p.Point.Fields) != 1 || string(p.Point.Measurement) != "telemetry" {
					t.Errorf("%+v", p)
				}
			}
			n += len(points)
			if err := done(); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	<-opened
	for { // until the cursor stands
		if _, err := log.Consumer(t.Context(), "out-broker-1"); err == nil {
			break
		}
	}
	store := newScripted(nil)
	startWriter(t, b, store)
	send(t, c, 6, 100)
	<-got
	store.wait(600)
	for { // the log is cut behind the slower of both
		info, err := log.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs == 0 {
			return
		}
	}
}
