package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/ingest/embedded"
	"github.com/fairlead-hub/fairlead/ingest/influx"
	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// counted counts the writes to a store.
type counted struct {
	ingest.Store
	calls atomic.Int64
}

func (c *counted) Write(ctx context.Context, lines []byte) error {
	c.calls.Add(1)
	return c.Store.Write(ctx, lines)
}

// realStore is an influxd, or the embedded store, that keeps points for so long. stored counts the points of a measurement.
func realStore(t *testing.T, inside bool, keep time.Duration) (store *influx.Store, stored func(measurement string) int64) {
	t.Helper()
	c := configs.Default().Influx
	if inside {
		s, err := embedded.New(embedded.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret", Bucket: "telemetry", Retention: keep})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		c.URL, c.Token = s.URL(), "secret"
	} else {
		s := influxtest.Start(t, influxtest.Options{Retention: keep})
		c.URL, c.Token = s.URL, configs.Secret(s.Token)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	store = influx.New(c)
	t.Cleanup(store.Close)
	return store, func(measurement string) int64 {
		q := url.Values{"db": {"telemetry"}, "q": {fmt.Sprintf("SELECT count(n) FROM %q", measurement)}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL+"/query?"+q.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Token "+string(c.Token))
		series, err := influxtest.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return influxtest.Total(t, series)
	}
}

// publish puts a batch into the log.
func publish(t *testing.T, b *bus.Bus, batch []byte) {
	t.Helper()
	if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, batch); err != nil {
		t.Fatal(err)
	}
}

// letters waits for n dead letters and returns them, the oldest first.
func letters(t *testing.T, dead *ingest.Deadletters, n int) (lines []string) {
	t.Helper()
	var found []ingest.Deadletter
	for len(found) < n {
		var err error
		if found, err = dead.List(t.Context(), "", 0, n+1); err != nil {
			t.Fatal(err)
		}
	}
	for i := len(found) - 1; i >= 0; i-- {
		lines = append(lines, found[i].Line)
	}
	return lines
}

// awaitEmptyLog waits until all of the log is written and cut.
func awaitEmptyLog(t *testing.T, b *bus.Bus) {
	t.Helper()
	log, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	for {
		info, err := log.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs == 0 {
			return
		}
	}
}

// old says whether a line is from before what the scripted stores keep.
func old(line []byte) bool {
	return bytes.HasSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte(" 1"))
}

// stingy keeps nothing that is old, and goes on answering those writes only as long as there are few of them, or once all
// other lanes are written.
type stingy struct {
	*scripted
	few    int64
	asked  atomic.Int64
	others chan struct{}
}

func (s *stingy) Write(ctx context.Context, body []byte) error {
	n := 0
	for line := range bytes.Lines(body) {
		if old(line) {
			n++
		}
	}
	if n == 0 {
		return s.scripted.Write(ctx, body)
	}
	if s.asked.Add(1) > s.few {
		select {
		case <-s.others:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return refused(fmt.Sprintf("partial write: points beyond retention policy dropped=%d", n))
}

// One lane's refused lines hold up no other lane, though far more comes behind them than the writer has room for.
func TestRefusedLaneHoldsUpNoOther(t *testing.T) {
	const batches, each, few = 3 * ingest.MaxUnwritten / 2, 2, 200
	b := openBus(t, t.TempDir(), false)
	for i := range batches {
		var lanes [ingest.Lanes]string
		for lane := range lanes {
			for j := range each {
				at := 1
				if lane > 0 {
					at = 1_000_000 + i*each + j
				}
				lanes[lane] += fmt.Sprintf("m,device=dev-%d n=%d %d\n", lane, j, at)
			}
		}
		publish(t, b, ingest.EncodeBatch(lanes[:]...))
	}
	store := &stingy{scripted: newScripted(nil), few: few, others: make(chan struct{})}
	_, dead, _ := startWriter(t, b, store)
	store.wait((ingest.Lanes - 1) * batches * each)
	close(store.others)
	awaitEmptyLog(t, b)
	found, err := dead.List(t.Context(), "dev-0", 0, 2*batches*each)
	if err != nil || len(found) != batches*each {
		t.Errorf("%d letters (%v), want %d", len(found), err, batches*each)
	}
}

// What both stores answer to points of which some or all are beyond the retention, or of another type: few writes set just
// those aside, in order, and every other line is stored.
func TestRefusedLinesCostFewWrites(t *testing.T) {
	const n = 1000
	now := time.Now()
	at := func(age time.Duration, i int) int64 { return now.Add(-age).UnixNano() + int64(i) }
	for _, r := range []struct {
		name   string
		bad    func(i int) bool
		line   func(i int, bad bool) string
		writes int64
	}{
		{
			"all beyond the retention", func(int) bool { return true },
			func(i int, _ bool) string { return fmt.Sprintf("m,device=dev-1 n=%d %d", i, at(72*time.Hour, i)) }, 1,
		},
		{
			"some beyond the retention", func(i int) bool { return i%2 == 0 },
			func(i int, bad bool) string {
				if bad {
					return fmt.Sprintf("m,device=dev-1 n=%d %d", i, at(72*time.Hour, i))
				}
				return fmt.Sprintf("m,device=dev-2 n=%d %d", i, at(time.Hour, i))
			}, 3,
		},
		{
			"all of another type", func(int) bool { return true },
			func(i int, _ bool) string { return fmt.Sprintf("typed,device=dev-1 n=%d %d", i, at(time.Hour, i)) }, 1,
		},
		{
			"one half of another type", func(i int) bool { return i >= n/2 },
			func(i int, bad bool) string {
				m := "m"
				if bad {
					m = "typed"
				}
				return fmt.Sprintf("%s,device=dev-1 n=%d %d", m, i+5*n, at(time.Hour, i))
			}, 40, // the halves differ in bytes: a few lines are mixed
		},
	} {
		for _, inside := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, embedded %t", r.name, inside), func(t *testing.T) {
				real, stored := realStore(t, inside, 24*time.Hour)
				store := &counted{Store: real}
				if err := real.Write(t.Context(), fmt.Appendf(nil, "typed,device=dev-0 n=true %d\n", at(time.Hour, 0))); err != nil {
					t.Fatal(err)
				}
				var body strings.Builder
				var want []string
				for i := range n {
					bad := r.bad(i)
					line := r.line(i, bad)
					if bad {
						want = append(want, line)
					}
					body.WriteString(line + "\n")
				}
				b := openBus(t, t.TempDir(), false)
				publish(t, b, ingest.EncodeBatch(body.String()))
				_, dead, stop := startWriter(t, b, store)
				got := letters(t, dead, len(want))
				if strings.Join(got, "\n") != strings.Join(want, "\n") {
					t.Errorf("%d letters, want just the %d bad lines in their order", len(got), len(want))
				}
				awaitEmptyLog(t, b)
				stop()
				if calls := store.calls.Load(); calls > r.writes {
					t.Errorf("%d writes, want at most %d", calls, r.writes)
				}
				if got := stored("m"); got != int64(n-len(want)) {
					t.Errorf("%d good lines are in the store, want %d", got, n-len(want))
				}
			})
		}
	}
}

// refusing is a bus that refuses one of many publishes.
type refusing struct {
	jetstream.JetStream
	n int
}

func (r *refusing) PublishAsync(subject string, data []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	if r.n++; r.n == 100 {
		no := refusal{make(chan error, 1)}
		no.err <- errFlaky
		return no, nil
	}
	return r.JetStream.PublishAsync(subject, data, opts...)
}

// Dead letters that go together are all kept, and their last copies in order, though the bus refuses one among them.
func TestDeadLettersSurviveRefusedPublishes(t *testing.T) {
	const n = 600 // more than go at once
	b := openBus(t, t.TempDir(), false)
	stream, err := b.Stream(t.Context(), bus.StreamDeadletter)
	if err != nil {
		t.Fatal(err)
	}
	dead := ingest.NewDeadletters(&refusing{JetStream: b.JetStream()}, stream)
	var body strings.Builder
	for i := range n {
		fmt.Fprintf(&body, "m,device=dev-1 n=%d 1\n", i)
	}
	if err := dead.Keep(t.Context(), []byte(body.String()), refused("no")); err != nil {
		t.Fatal(err)
	}
	found, err := dead.List(t.Context(), "dev-1", 0, 10*n)
	if err != nil {
		t.Fatal(err)
	}
	want := n - 1
	for _, l := range found { // the newest first
		if l.Line == fmt.Sprintf("m,device=dev-1 n=%d 1", want) {
			want--
		}
	}
	if want >= 0 {
		t.Errorf("letter %d is not there behind the last of the one before it", want)
	}
}
