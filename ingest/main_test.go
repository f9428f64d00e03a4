package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openBus opens an embedded bus in a directory of its own.
func openBus(tb testing.TB, dir string, sync bool) *bus.Bus {
	tb.Helper()
	return openBusOf(tb, 1<<30, dir, sync)
}

// openBusOf is openBus with a log of so many bytes.
func openBusOf(tb testing.TB, size int64, dir string, sync bool) *bus.Bus {
	tb.Helper()
	b, err := bus.Open(context.Background(), bus.Options{
		Dir: dir, Node: "n1", Sync: sync, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: size, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.Close() })
	return b
}

// startCommitter runs a committer until the test ends or stop is called.
func startCommitter(tb testing.TB, pub ingest.Publisher, change func(*ingest.Options)) (c *ingest.Committer, stop func()) {
	tb.Helper()
	o := ingest.Options{
		Config: configs.Default().Ingest, PointsPerFrame: 1000, Publisher: pub,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&o)
	}
	c, err := ingest.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(stop)
	return c, stop
}

// frame decodes one frame as a session would.
func frame(tb testing.TB, js string) *wire.Telemetry {
	tb.Helper()
	var d wire.Decoder
	f, err := d.Decode(wire.JSON, []byte(js))
	if err != nil {
		tb.Fatal(err)
	}
	return f.(*wire.Telemetry)
}

// waiter remembers how far it is stored.
type waiter struct {
	mu   sync.Mutex
	cond sync.Cond
	seq  uint64
}

func newWaiter() *waiter {
	w := &waiter{}
	w.cond.L = &w.mu
	return w
}

func (w *waiter) Stored(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq <= w.seq {
		panic(fmt.Sprintf("stored %d after %d", seq, w.seq))
	}
	w.seq = seq
	w.cond.Broadcast()
}

func (w *waiter) wait(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.seq < seq {
		w.cond.Wait()
	}
}

func (w *waiter) stored() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seq
}
