package bus_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

func TestRoomKeepsMinFree(t *testing.T) {
	b, err := bus.Open(t.Context(), bus.Options{
		Dir: t.TempDir(), Node: "n1", Sync: true, MinFree: math.MaxInt64, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	for b.Room() == nil {
		time.Sleep(time.Millisecond)
	}
	if err := b.Room(); !errors.Is(err, bus.ErrNoRoom) {
		t.Errorf("room: %v", err)
	}
	if err := b.Healthy(); !errors.Is(err, bus.ErrNoRoom) {
		t.Errorf("healthy: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
