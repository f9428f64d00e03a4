package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/configs"
)

// demoFlags are what the demo can be told.
type demoFlags struct {
	data, ready string
	devices     int
	plugs       int
}

// demoPlugs is how many simulated plugs come by MQTT.
const demoPlugs = 3

// newDemoCommand runs a hub with everything embedded, and a fleet on it.
func newDemoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use: "demo", Short: "Run a hub and a simulated fleet, with nothing to set up", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.devices < 0 {
				return usage("--devices %d: want 0 or more", f.devices)
			}
			f.plugs = demoPlugs
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&f.data, "data", "", "data directory; without it one is made below the temporary directory, named and kept")
	cmd.Flags().StringVar(&f.ready, "ready-file", "", "write addresses and credentials there too, beside DATA/ready.json")
	cmd.Flags().IntVar(&f.devices, "devices", 25, "simulated devices")
	return cmd
}

func (f demoFlags) run(ctx context.Context, out, logs io.Writer) (err error) {
	cfg, err := configs.Load("", os.Environ())
	if err != nil {
		return err
	}
	cfg.Log.Level = max(cfg.Log.Level, slog.LevelWarn)
	cfg.Devices.DrainFor = time.Second
	if cfg.DataDir, err = f.dataDir(); err != nil {
		return err
	}
	// On ports that others have, the demo steps aside and says so.
	for _, port := range []struct{ name, key string }{
		{"hub", "listen"}, {"embedded InfluxDB", "influx.embedded_listen"}, {"MQTT broker", "bridge.broker.listen"}, {"admin", "admin.listen"},
	} {
		stepAside(out, port.name, addressOf(&cfg, port.key))
	}
	if err := validate(&cfg); err != nil {
		return err
	}
	if cfg.Bridge.Broker.TokensOnly {
		f.plugs = 0 // they have the site's login
	}
	log := newLog(cfg.Log, logs)
	fleetCtx, stopFleet := context.WithCancel(ctx)
	defer stopFleet()
	var fleet sync.WaitGroup
	var fleetErr error
	err = serve(ctx, cfg, log, func(ctx context.Context, s served) error {
		kept := filepath.Join(s.hub.cfg.DataDir, "ready.json")
		if err := errors.Join(s.ready(kept), s.ready(f.ready)); err != nil {
			return err
		}
		if s.signIn == "" {
			if err := s.link(ctx); err != nil {
				return err
			}
		}
		f.tell(out, s, kept)
		fleet.Go(func() { fleetErr = f.fleet(fleetCtx, kept, logs) })
		return nil
	})
	stopFleet()
	fleet.Wait()
	return errors.Join(err, fleetErr)
}

func (f demoFlags) dataDir() (string, error) {
	if f.data != "" {
		return f.data, nil
	}
	dir, err := os.MkdirTemp("", "fairlead-demo-")
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	return dir, nil
}

func addressOf(cfg *configs.Config, key string) *string {
	switch key {
	case "listen":
		return &cfg.Listen
	case "influx.embedded_listen":
		return &cfg.Influx.EmbeddedListen
	case "bridge.broker.listen":
		return &cfg.Bridge.Broker.Listen
	default:
		return &cfg.Admin.Listen
	}
}

// stepAside moves addr to a free port if it is taken.
func stepAside(out io.Writer, name string, addr *string) {
	if *addr == "" {
		return
	}
	ln, err := listen("", *addr)
	if err == nil {
		_ = ln.Close()
		return
	}
	host, port, err := net.SplitHostPort(*addr)
	if err != nil {
		return
	}
	if ln, err = listen("", net.JoinHostPort(host, "0")); err != nil {
		return
	}
	taken := *addr
	*addr = ln.Addr().String()
	_ = ln.Close()
	fmt.Fprintf(out, "port %s is taken; the %s is on %s instead of %s\n", port, name, *addr, taken)
}

// tell says where everything is and what to try.
func (f demoFlags) tell(out io.Writer, s served, ready string) {
	self := invocation()
	token := ""
	if s.hub.embedded != nil { // else the token is where its owner has it
		token = ", token in " + s.hub.dir("influx-token")
	}
	fmt.Fprintf(out, `
fairlead %s: a hub, %d simulated devices by WebSocket and %d plugs by MQTT

  console   %s
            (a sign-in link, good once; its certificate is self-made, the browser will ask)
  devices   %s/v1/device, trust %s
  InfluxDB  %s, bucket %s%s
  MQTT      tcp://%s, %s
  metrics   %s/metrics
  data      %s (kept)

Try, in another terminal:

  export FAIRLEAD_READY_FILE=%s
  %s devices list
  %s send pump-2 set_speed rpm=1200 --wait 10s
  %s query pump-2 flow

`,
		version(), f.devices, f.plugs, s.signIn, strings.Replace(s.url, "http", "ws", 1), s.ca,
		s.hub.cfg.Influx.URL, s.hub.cfg.Influx.Bucket, token,
		s.hub.broker.Addr(), s.login(),
		s.admin, s.hub.cfg.DataDir, ready, self, self, self)
}

// login is how clients log in to the embedded broker.
func (s *served) login() string {
	if s.hub.cfg.Bridge.Broker.TokensOnly {
		return "password: a device's token"
	}
	return fmt.Sprintf("user %s, password in %s; or a device's token as the password", s.hub.cfg.Bridge.Broker.Username, s.hub.dir("mqtt-password"))
}

// invocation is how the reader started this program.
func invocation() string {
	exe, err := os.Executable()
	if err != nil || strings.Contains(exe, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/fairlead"
	}
	return os.Args[0]
}

// fleet runs the simulated devices against the hub of the ready file, as a second process would.
func (f demoFlags) fleet(ctx context.Context, ready string, logs io.Writer) error {
	s := simFlags{
		readyFile: ready, devices: f.devices, rate: 1, codec: "json", seed: uint64(time.Now().UnixNano()),
		speed: "1", plugs: f.plugs, plugPeriod: 5 * time.Second,
	}
	if err := s.readReady(); err != nil {
		return err
	}
	err := s.run(ctx, io.Discard, logs)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
