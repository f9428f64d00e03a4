package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/commands/console"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
)

// serveFlags are what the command line says beside the configuration.
type serveFlags struct{ config, data, listen, ready string }

// newServeCommand runs the hub.
func newServeCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the hub", Args: exactArgs(0),
		Example: "  fairlead serve\n  fairlead serve --config fairlead.yaml --data /var/lib/fairlead",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.load()
			if err != nil {
				return err
			}
			log := newLog(cfg.Log, cmd.ErrOrStderr())
			return serve(cmd.Context(), cfg, log, func(_ context.Context, s served) error {
				s.print(cmd.OutOrStdout())
				return s.ready(f.ready)
			})
		},
	}
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration `file` (fairlead config print --sample shows all keys)")
	cmd.Flags().StringVar(&f.data, "data", "", "data directory, over data_dir")
	cmd.Flags().StringVar(&f.listen, "listen", "", "address for devices, API and console, over listen")
	cmd.Flags().StringVar(&f.ready, "ready-file", "", "write addresses and credentials there as JSON once all parts serve")
	return cmd
}

func (f serveFlags) load() (configs.Config, error) {
	cfg, err := configs.Load(f.config, os.Environ())
	if err != nil {
		return cfg, err
	}
	if f.data != "" {
		cfg.DataDir = f.data
	}
	if f.listen != "" {
		cfg.Listen = f.listen
	}
	return cfg, validate(&cfg)
}

// validate reports every fault of the configuration: its own, and what only the bridge can tell.
func validate(cfg *configs.Config) error {
	err := errors.Join(append([]error{cfg.Validate()}, bridge.Check(cfg.Bridge)...)...)
	if err != nil {
		return fmt.Errorf("configuration:\n%w", err)
	}
	return nil
}

func newLog(c configs.Log, to io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, opts))
	}
	return slog.New(slog.NewTextHandler(to, opts))
}

// served is a hub that serves.
type served struct {
	hub        *hub
	url, admin string
	ca         string
	signIn     string // one-time link of an admin who was just made
}

// serve runs a hub until ctx ends. up is called once all parts serve.
func serve(ctx context.Context, cfg configs.Config, log *slog.Logger, up func(context.Context, served) error) error {
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	cfg.DataDir = dir
	front, err := listen("listen", cfg.Listen)
	if err != nil {
		return err
	}
	defer front.Close()
	h, err := newHub(ctx, cfg, log)
	if err != nil {
		return err
	}
	enc, err := serverTLS(cfg.TLS, h.cfg.DataDir, log)
	if err != nil {
		return errors.Join(err, h.close())
	}
	s := served{hub: h, ca: enc.ca, url: "http://" + front.Addr().String()}
	checks := h.checks()
	lobby, err := h.turnstile.Listen(front, h.cfg.Devices.ConnectSpread, h.room)
	if err != nil {
		return errors.Join(err, h.close())
	}
	defer lobby.Close()
	front = lobby
	if enc.conf != nil {
		front = tls.NewListener(front, enc.conf)
		s.url = "https://" + enc.address(front.Addr().String())
	}
	stages := append(h.stages(), stage{name: "listener", run: serveHTTP(front, h.handlerFor(cfg), log, h.turnstile.Context, h.connState)})
	if enc.acme != nil {
		checks = append(checks, check{"certificate", enc.acme.healthy})
		more, err := enc.acme.stages(front.Addr().String(), h.gate.ConnState)
		if err != nil {
			return errors.Join(err, h.close())
		}
		stages = append(stages, more...)
	}
	if cfg.Admin.Listen != "" {
		back, err := listen("admin.listen", cfg.Admin.Listen)
		if err != nil {
			return errors.Join(err, h.close())
		}
		s.admin = "http://" + back.Addr().String()
		stages = append(stages, stage{name: "admin", run: serveHTTP(back, adminHandler(h.reg, checks), log, nil, nil)})
	}
	err = runStages(ctx, log, stages, func() error {
		if err := s.welcome(ctx); err != nil {
			return err
		}
		return up(ctx, s)
	})
	return errors.Join(err, h.close())
}

// stages are the parts of the hub in the order in which they start.
func (h *hub) stages() []stage {
	out := []stage{{name: "collector", run: tuneCollector}, {name: "bus", run: h.bus.Run}}
	if h.claim != nil {
		out = append(out, stage{name: "claim", run: h.claim.Run})
	}
	if h.embedded != nil {
		out = append(out, stage{name: "store", run: h.embedded.Run})
	} else {
		out = append(out, stage{name: "store", run: h.prepareStore})
	}
	out = append(out,
		stage{name: "writer", run: func(ctx context.Context) error { return h.bus.Hold(ctx, "writer", h.writer.Run) }},
		stage{name: "committer", run: h.committer.Run, ready: h.committer.Ready()},
		stage{name: "records", run: h.records.Run, ready: h.records.Ready()},
		stage{name: "presence", run: h.presence.Run, ready: h.presence.Ready()},
		stage{name: "keys", run: h.hubKeys.Run},
		stage{name: "issuers", run: h.issuers.Run},
		stage{name: "annotations", run: h.notes.Run},
		stage{name: "commands", run: h.router.Run, ready: h.router.Ready()},
		stage{name: "twin", run: h.twin.Run, ready: h.twin.Ready()},
		stage{name: "jobs", run: h.jobs.Run, ready: h.jobs.Ready()},
	)
	if h.broker != nil {
		out = append(out, stage{name: "broker", run: h.broker.Run})
	}
	return append(out,
		stage{name: "bridge", run: h.bridge.Run},
		stage{name: "trace", run: h.watching.trace.run},
		stage{name: "marks of frames", run: h.watching.frames.Run},
		stage{name: "marks of telemetry", run: h.watching.telemetry.Run},
		stage{name: "recent frames", run: h.watching.recent.run},
		stage{name: "sessions", run: h.registry.Run, goodbye: h.cfg.Devices.DrainFor},
		stage{name: "api", run: h.api.Run},
	)
}

// prepareStore makes the bucket of an outside InfluxDB, as soon as there is one. Points wait in the log until then.
func (h *hub) prepareStore(ctx context.Context) error {
	const every = 5 * time.Second
	told := false
	for {
		found, err := h.store.Prepare(ctx, h.cfg.Influx.Retention)
		if err == nil {
			h.seedTypes(ctx)
			h.log.Info("influxdb found", "url", h.cfg.Influx.URL, "flavor", found.Flavor, "version", found.Version,
				"bucket", h.cfg.Influx.Bucket, "history", found.History())
			if found.Note != "" {
				h.log.Warn(found.Note, "url", h.cfg.Influx.URL)
			}
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		if !told {
			h.log.Warn("influxdb is not ready; points wait in the log", "url", h.cfg.Influx.URL, "err", err)
			told = true
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

// seedTypes takes over the types of fields that an outside InfluxDB holds already, so that a device hears of a conflict
// before its ack.
func (h *hub) seedTypes(ctx context.Context) {
	types, err := h.store.FieldTypes(ctx)
	if err == nil {
		err = h.committer.Seed(ctx, types)
	}
	if err != nil && ctx.Err() == nil {
		h.log.Warn("types of stored fields are not known; conflicts show as dead letters", "err", err)
	}
}

// checks are what readiness depends on.
func (h *hub) checks() []check {
	return []check{{"bus", h.bus.Healthy}, {"log", h.committer.Healthy}, {"influx", h.writer.Healthy}}
}

// handlerFor is what the front listener serves.
func (h *hub) handlerFor(cfg configs.Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(devicePath, h.handler)
	mux.Handle(devicePath+"/telemetry", devices.NewUplink(h.handler))
	mux.Handle("/v1/enroll", h.enroll)
	mux.Handle("/api/", h.api.Handler())
	if cfg.Console.Enabled {
		mux.Handle("/console/", console.Handler())
		mux.Handle("GET /{$}", http.RedirectHandler("/console/", http.StatusFound))
	}
	return h.turnstile.Handler(mux, func(r *http.Request) bool { return r.URL.Path == devicePath })
}

// room is how many more connections the front listener may hold.
func (h *hub) room() int { return h.registry.Room() - h.gate.Open() }

// connState tells who watches over the front listener's connections.
func (h *hub) connState(c net.Conn, s http.ConnState) {
	h.gate.ConnState(c, s)
	h.turnstile.ConnState(c, s)
}

// devicePath is where devices connect.
const devicePath = "/v1/device"

// listen opens a listener, or says what to do.
func listen(key, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, explainListen(key, addr, err)
	}
	return ln, nil
}

// explainListen says which key names an address that cannot be had, and what to do.
func explainListen(key, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s is in use by another program; stop that one, or set %s to another address (port 0 takes a free one)", key, addr, key)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: %s needs privileges; use a port above 1023", key, addr)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// The front listener's bounds. Sockets leave net/http with the upgrade and have bounds of their own.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	headerBytes   = 16 << 10
	closeTimeout  = 5 * time.Second
	// bodyTimeout bounds bodies that no handler reads. The server waits for their end before it answers, so that it finds the
	// next request. Who reads a body sets a bound of its own.
	bodyTimeout = 10 * time.Second
	// answerTimeout bounds answers of listeners whose answers are all short. The front listener's may take long, such as
	// those that wait for a command: there the turnstile bounds each piece.
	answerTimeout = 30 * time.Second
)

// boundBodies has bodies end in time. A request without one has no deadline: it would end a long wait, since the server
// reads on meanwhile to see whether the client is still there.
func boundBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // fails only on a closed socket
		}
		next.ServeHTTP(w, r)
	})
}

// serveHTTP serves until its context ends. begin and state, if not nil, hear of the listener's connections.
func serveHTTP(
	ln net.Listener, handler http.Handler, log *slog.Logger,
	begin func(context.Context, net.Conn) context.Context, state func(net.Conn, http.ConnState),
) func(context.Context) error {
	return func(ctx context.Context) error {
		srv := &http.Server{
			Handler: boundBodies(handler), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), ConnContext: begin, ConnState: state,
		}
		if begin == nil { // no turnstile
			srv.WriteTimeout = answerTimeout
		}
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(ln) }()
		select {
		case err := <-failed:
			return fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
		}
		down, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := srv.Shutdown(down); err != nil {
			_ = srv.Close() // who has not finished by now is cut off
		}
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	}
}

// welcome makes the first admin, and a sign-in link for it.
func (s *served) welcome(ctx context.Context) error {
	made, err := s.hub.api.EnsureAdmin(ctx)
	if err != nil || !made {
		return err
	}
	return s.link(ctx)
}

func (s *served) link(ctx context.Context) (err error) {
	s.signIn, _, err = s.hub.api.SignInLink(ctx, s.url, api.FirstAdmin)
	return err
}

// print tells an operator where the hub is.
func (s *served) print(w io.Writer) {
	fmt.Fprintf(w, "fairlead %s serves %s (data in %s)\n", version(), s.url, s.hub.cfg.DataDir)
	if s.ca != "" {
		fmt.Fprintf(w, "  clients trust %s\n", s.ca)
	}
	if s.signIn != "" {
		fmt.Fprintf(w, "  first admin, sign in once within a day: %s\n", s.signIn)
	}
}

// ready writes the ready file, if one is wanted.
func (s *served) ready(file string) error {
	if file == "" {
		return nil
	}
	token, _, err := s.hub.api.MintToken(context.Background(), api.FirstAdmin, "", 0)
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	in := s.hub.cfg.Influx
	r := readyInfo{
		URL: s.url, CAFile: s.ca, AdminToken: token, InfluxURL: in.URL, InfluxToken: string(in.Token), InfluxOrg: in.Org,
		InfluxBucket: in.Bucket, AdminURL: s.admin, DataDir: s.hub.cfg.DataDir, PID: os.Getpid(), Version: version(),
	}
	if s.hub.broker != nil {
		r.MQTTURL = "tcp://" + s.hub.broker.Addr().String()
		if !s.hub.cfg.Bridge.Broker.TokensOnly {
			r.MQTTUsername, r.MQTTPassword = s.hub.cfg.Bridge.Broker.Username, s.hub.mqttPassword
		}
	} else {
		for _, c := range s.hub.cfg.Bridge.Connections {
			r.MQTTURL, r.MQTTUsername, r.MQTTPassword = c.URL, c.Username, string(c.Password)
			break
		}
	}
	return r.write(file)
}
