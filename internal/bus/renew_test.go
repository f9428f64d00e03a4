package bus_test

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// outside is a NATS server of somebody else's, on a port that it keeps.
func outside(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, SyncAlways: true,
		JetStreamMaxStore: 8 << 30, JetStreamMaxMemory: 256 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("nats-server is not ready")
	}
	return s
}

func end(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func TestWhatARestartedServerForgotIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	s := outside(t, dir, server.RANDOM_PORT)
	url := s.ClientURL()
	port, err := strconv.Atoi(url[strings.LastIndexByte(url, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	var all []*bus.Bus
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, node := range []string{"a", "b"} {
		b, err := bus.Open(t.Context(), bus.Options{
			NATS: configs.NATS{URLs: []string{url}}, Node: node, Sync: true, Log: slog.New(slog.DiscardHandler),
			Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		all = append(all, b)
		go func() { ended <- b.Run(ctx) }()
	}
	held := make(chan struct{})
	holding := make(chan error, 1)
	go func() {
		holding <- all[0].Hold(ctx, "work", func(ctx context.Context) error {
			held <- struct{}{}
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}()
	<-held
	var renewed []<-chan struct{}
	for _, b := range all {
		renewed = append(renewed, b.Renewed())
	}
	end(s)
	s = outside(t, dir, port)
	defer func() { end(s) }()
	for i, c := range renewed {
		select {
		case <-c:
		case <-time.After(time.Minute):
			t.Fatalf("bus %d does not make anew what the server forgot", i)
		}
	}
	<-held // the lease was lost, and is held again
	if _, err := all[1].JetStream().Publish(t.Context(), bus.TelemetrySubject, []byte("x")); err != nil {
		t.Error(err)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := <-holding; err != nil {
		t.Error(err)
	}
}
