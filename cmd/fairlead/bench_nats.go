package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats-server/v2/server"
)

// natsSpec is a NATS server that several hubs share.
type natsSpec struct {
	Dir  string `json:"dir"`
	Port int    `json:"port"` // 0: a free one
}

// natsAnswer is the server that serves.
type natsAnswer struct {
	URL string `json:"url"`
	PID int    `json:"pid"`
}

// The bounds of the shared server: what several hubs declare fits.
const (
	natsMemory = 256 << 20
	natsStore  = 8 << 30
)

// runNATSPart runs the NATS server of the embedded bus as a server of its own, with what anybody would set for it: like
// the embedded one it syncs what it acknowledges.
func runNATSPart(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var spec natsSpec
	if err := readSpec(ctx, in, &spec, nothing); err != nil {
		return err
	}
	port := spec.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: "shared", Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: spec.Dir, SyncAlways: true, JetStreamMaxMemory: natsMemory, JetStreamMaxStore: natsStore,
	})
	if err != nil {
		return fmt.Errorf("nats server: %w", err)
	}
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(startTimeout) {
		return fmt.Errorf("nats server: not ready after %s", startTimeout)
	}
	if err := out.Encode(natsAnswer{URL: srv.ClientURL(), PID: os.Getpid()}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// natsServer is such a server at work.
type natsServer struct {
	*part
	natsAnswer
}

func startNATS(dir string) (*natsServer, error) {
	p, err := startPart("nats", natsSpec{Dir: dir})
	if err != nil {
		return nil, err
	}
	s := &natsServer{part: p}
	if err := p.answer(&s.natsAnswer); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return s, nil
}
