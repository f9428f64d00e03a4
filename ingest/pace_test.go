package ingest_test

import (
	"context"
	"log/slog"
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

func TestCatchingUpLeavesRoomForDevices(t *testing.T) {
	const behind, gentle = time.Minute, 1
	log := openBus(t, t.TempDir(), false)
	stream, err := log.Stream(t.Context(), "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	w, err := ingest.NewWriter(ingest.WriterOptions{
		Config: configs.Default().Ingest, Log: stream, Store: newScripted(nil),
		Slog: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
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
