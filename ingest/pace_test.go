package ingest_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
)

// backlog is a cursor with so much before it, of which the last is at last.
type backlog struct {
	jetstream.Consumer
	waiting, last uint64
}

func (b backlog) Info(context.Context) (*jetstream.ConsumerInfo, error) {
	i := &jetstream.ConsumerInfo{NumPending: b.waiting}
	i.Delivered.Stream = b.last - b.waiting
	return i, nil
}

// atOnce is how many lanes get a turn to write.
func atOnce(t *testing.T, w *ingest.Writer) (n int) {
	t.Helper()
	for ; n < ingest.Lanes; n++ {
		patience, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		finished, err := w.Turn(patience)
		if err != nil {
			return n
		}
		defer finished()
	}
	return n
}

// idleWriter is a writer that does not run.
func idleWriter(t *testing.T, store ingest.Store) *ingest.Writer {
	t.Helper()
	log := openBus(t, t.TempDir(), false)
	stream, err := log.Stream(t.Context(), "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	letters, err := log.Stream(t.Context(), "DEADLETTER")
	if err != nil {
		t.Fatal(err)
	}
	w, err := ingest.NewWriter(ingest.WriterOptions{
		Config: configs.Default().Ingest, Log: stream, Store: store, Dead: ingest.NewDeadletters(log.JetStream(), letters),
		Slog: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// catchUp makes w write gently.
func catchUp(t *testing.T, w *ingest.Writer) {
	t.Helper()
	w.Look(t.Context(), time.Minute, backlog{last: 1000, waiting: 1000})
	w.Look(t.Context(), time.Minute, backlog{last: 1100, waiting: 900})
}

func TestCatchingUpLeavesRoomForDevices(t *testing.T) {
	const behind, gentle = time.Minute, 1
	w := idleWriter(t, newScripted(nil))
	for _, step := range []struct {
		what string
		lag  time.Duration
		log  backlog
		want int
	}{
		{"begins", behind, backlog{last: 1000, waiting: 1000}, ingest.Lanes},
		{"falls behind", behind, backlog{last: 1500, waiting: 1200}, ingest.Lanes},
		{"catches up, devices send", behind, backlog{last: 1600, waiting: 700}, gentle},
		{"goes on", behind, backlog{last: 1700, waiting: 300}, gentle},
		{"catches up, nobody sends", behind, backlog{last: 1700, waiting: 100}, ingest.Lanes},
		{"devices send again", behind, backlog{last: 1800, waiting: 50}, gentle},
		{"falls behind again", behind, backlog{last: 2800, waiting: 900}, ingest.Lanes},
		{"is up", 0, backlog{last: 2900}, ingest.Lanes},
	} {
		w.Look(t.Context(), step.lag, step.log)
		if got := atOnce(t, w); got != step.want {
			t.Errorf("%s: %d lanes write at once, want %d", step.what, got, step.want)
		}
	}
}

// Lanes that wait for a turn go on as soon as none is needed, even while one lane's write hangs.
func TestWaitingLanesGoOnWhenGentleEnds(t *testing.T) {
	w := idleWriter(t, newScripted(nil))
	catchUp(t, w)
	hanging, err := w.Turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer hanging()
	patience, cancel := context.WithTimeout(t.Context(), 10*time.Second) // nothing is measured by it
	defer cancel()
	got := make(chan error, ingest.Lanes-1)
	for range ingest.Lanes - 1 {
		go func() { // each is waited for below
			finished, err := w.Turn(patience)
			if err == nil {
				finished()
			}
			got <- err
		}()
	}
	for w.Waiting() < ingest.Lanes-1 {
		runtime.Gosched()
	}
	w.Look(t.Context(), 0, backlog{last: 1200})
	for range ingest.Lanes - 1 {
		if err := <-got; err != nil {
			t.Errorf("a lane still waits: %v", err)
		}
	}
}

// A lane that the store refuses something, or puts off, has not the turn between its writes.
func TestTurnIsGivenBackBetweenWrites(t *testing.T) {
	for name, answer := range map[string]error{
		"away":    &ingest.StoreError{Verdict: ingest.Unavailable, Status: 503, Err: errors.New("away")},
		"refused": refused("bad"),
	} {
		t.Run(name, func(t *testing.T) {
			var w *ingest.Writer
			other := make(chan error, 1)
			asked := make(chan struct{})
			w = idleWriter(t, newScripted(func(_ []byte, call int) error {
				switch call {
				case 1:
					close(asked)
					for w.Waiting() == 0 { // another lane wants to write
						runtime.Gosched()
					}
					return answer
				case 2: // again, or the first half; the other lane was before it
					if err := <-other; err != nil {
						t.Errorf("the other lane had no turn: %v", err)
					}
				}
				return nil
			}))
			catchUp(t, w)
			patience, cancel := context.WithTimeout(t.Context(), 10*time.Second) // nothing is measured by it
			defer cancel()
			go func() { // waited for by the store
				<-asked
				finished, err := w.Turn(patience)
				if err == nil {
					finished()
				}
				other <- err
			}()
			if err := w.WriteLines(t.Context(), []byte("m n=1 1\nm n=2 2\n")); err != nil {
				t.Error(err)
			}
		})
	}
}
