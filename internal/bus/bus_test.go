package bus_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := bus.Open(ctx, bus.Options{
		Dir: dir, Node: "n1", Sync: true, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenKeepsWhatItStored(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir)
	defer b.Close()
	s, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 1 {
		t.Fatalf("%d messages after reopening, want 1", info.State.Msgs)
	}
}

func TestSubjectsRefuseWildIDs(t *testing.T) {
	for _, id := range []string{"", "*", ">", "a.b", "a b", "a\r\nPUB", "$JS", "é", "-a", string(make([]byte, 65))} {
		for name, build := range map[string]func(string) (string, error){
			"deadletter": bus.DeadletterSubject, "command": bus.CommandSubject, "node": bus.NodePointed,
		} {
			if s, err := build(id); err == nil {
				t.Errorf("%s subject of %q: %q, want an error", name, id, s)
			}
		}
	}
	if _, err := bus.PresenceEvent("*"); err != nil {
		t.Errorf("presence of every device: %v", err)
	}
}
