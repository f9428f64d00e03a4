package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/bridge/broker"
	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/commands/jobs"
	"github.com/fairlead-hub/fairlead/commands/twin"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/enroll"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/ingest/embedded"
	"github.com/fairlead-hub/fairlead/ingest/influx"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// hub is all rooms, wired. This file is the one place that knows who is whose neighbour.
type hub struct {
	cfg  configs.Config
	log  *slog.Logger
	reg  *prometheus.Registry
	node string

	processors int // that the machine gives it

	bus      *bus.Bus
	claim    *bus.Claim      // of the node's name; nil: there are no other nodes
	embedded *embedded.Store // nil: an outside InfluxDB
	store    *influx.Store

	stream    jetstream.Stream // the log
	committer *ingest.Committer
	writer    *ingest.Writer
	dead      *ingest.Deadletters

	records   *devices.Records
	presence  *devices.Presence
	hubKeys   *auth.HubKeys
	issuers   *auth.Issuers
	minter    *auth.Minter
	verifier  *auth.Verifier
	registry  *devices.Registry
	gate      *devices.Gate
	turnstile *devices.Turnstile
	handler   *devices.Handler

	enrollments *enroll.Enrollments
	enroll      *enroll.Handler

	twin   *twin.Twin
	router *commands.Router
	notes  *annotations
	jobs   *jobs.Jobs
	api    *api.API

	watching watching

	broker *broker.Broker // nil: none
	bridge *bridge.Bridge

	mqttPassword string
	unlock       func()
}

// newHub opens what is durable and builds the rest; nothing serves yet.
func newHub(ctx context.Context, cfg configs.Config, log *slog.Logger) (*hub, error) {
	h := &hub{cfg: cfg, log: log, reg: prometheus.NewRegistry(), node: nodeName(cfg.Node), processors: processors()}
	h.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	unlock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	h.unlock = unlock
	for _, build := range []func(context.Context) error{
		h.openBus, h.claimName, h.openStore, h.buildIngest, h.buildDevices, h.buildTwin, h.buildCommands, h.buildBridge, h.buildWatching, h.buildAPI,
	} {
		if err := build(ctx); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	return h, nil
}

// nodeName is the configured name, or the host's.
func nodeName(configured string) string {
	if configured != "" {
		return configured
	}
	host, err := os.Hostname()
	if err != nil {
		return "hub"
	}
	host, _, _ = strings.Cut(host, ".")
	return wire.CleanID(host)
}

func (h *hub) dir(name string) string { return filepath.Join(h.cfg.DataDir, name) }

func (h *hub) openBus(ctx context.Context) (err error) {
	h.bus, err = bus.Open(ctx, bus.Options{
		NATS: h.cfg.NATS, Dir: h.dir("nats"), Node: h.node, Sync: h.cfg.Ingest.Sync, Log: h.log,
		MinFree: h.cfg.Ingest.MinFreeBytes,
		Sizes: bus.Sizes{
			TelemetryBytes: h.cfg.Ingest.LogBytes, DeadletterKeep: h.cfg.Ingest.DeadletterKeep,
			CommandsBytes: h.cfg.Commands.LogBytes, CommandsKeep: h.cfg.Commands.Keep,
		},
	})
	if err == nil && !h.cfg.Ingest.Sync {
		h.log.Warn("ingest.sync is off: an ack does not mean stored")
	}
	return err
}

// claimName takes the node's name, which other nodes know it by.
func (h *hub) claimName(ctx context.Context) error {
	if !h.shared() {
		return nil
	}
	id, err := secretFrom("", "", h.cfg.DataDir, "hub-id")
	if err != nil {
		return err
	}
	h.claim, err = h.bus.Claim(ctx, id)
	return err
}

// openStore opens the embedded store, or addresses the outside one. The way to both is the same client.
func (h *hub) openStore(context.Context) error {
	in := &h.cfg.Influx
	if in.URL != "" {
		token, err := secretFrom(string(in.Token), in.TokenFile, "", "")
		if err != nil {
			return err
		}
		in.Token = configs.Secret(token)
		h.store = influx.New(*in)
		return nil
	}
	token, err := secretFrom(string(in.Token), in.TokenFile, h.cfg.DataDir, "influx-token")
	if err != nil {
		return err
	}
	h.embedded, err = embedded.New(embedded.Options{
		Dir: h.dir("influx"), Listen: in.EmbeddedListen, Token: token, Bucket: in.Bucket, Org: in.Org,
		Retention: in.Retention, MaxBytes: in.EmbeddedBytes, Log: h.log, Metrics: h.reg,
	})
	if err != nil {
		return err
	}
	if err := h.embedded.Open(); err != nil {
		return explainListen("influx.embedded_listen", in.EmbeddedListen, err)
	}
	in.URL, in.Token = h.embedded.URL(), configs.Secret(token)
	h.store = influx.New(*in)
	return nil
}

func (h *hub) buildIngest(ctx context.Context) error {
	js, _, err := h.bus.Dedicated("telemetry")
	if err != nil {
		return err
	}
	kinds, err := h.bus.Bucket(ctx, bus.BucketTypes)
	if err != nil {
		return err
	}
	h.committer, err = ingest.New(ingest.Options{
		Config: h.cfg.Ingest, Retention: h.cfg.Influx.Retention, Types: kinds, PointsPerFrame: h.cfg.Devices.PointsPerFrame, Publisher: js, Room: h.bus.Room,
		Live: liveTelemetry(h.bus.Conn(), h.log), Log: h.log, Metrics: h.reg,
	})
	if err != nil {
		return err
	}
	reader, _, err := h.bus.Dedicated("writer")
	if err != nil {
		return err
	}
	if h.stream, err = reader.Stream(ctx, bus.StreamTelemetry); err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	letters, err := h.bus.Stream(ctx, bus.StreamDeadletter)
	if err != nil {
		return err
	}
	h.dead = ingest.NewDeadletters(h.bus.JetStream(), letters)
	h.writer, err = ingest.NewWriter(ingest.WriterOptions{
		Config: h.cfg.Ingest, Log: h.stream, Files: h.bus.Files(bus.StreamTelemetry), Store: h.store, Dead: h.dead,
		Slog: h.log, Metrics: h.reg,
	})
	return err
}

// keysDir holds the hub's signing keys.
func (h *hub) keysDir() string {
	if h.cfg.Auth.KeysDir != "" {
		return h.cfg.Auth.KeysDir
	}
	return h.dir("keys")
}

// shared reports whether other nodes are on the bus.
func (h *hub) shared() bool { return len(h.cfg.NATS.URLs) > 0 || h.cfg.NATS.Cluster.Listen != "" }

func (h *hub) buildDevices(ctx context.Context) error {
	records, err := h.bus.Bucket(ctx, bus.BucketDevices)
	if err != nil {
		return err
	}
	present, err := h.bus.Bucket(ctx, bus.BucketPresence)
	if err != nil {
		return err
	}
	facts, err := h.bus.Bucket(ctx, bus.BucketHub)
	if err != nil {
		return err
	}
	h.records = devices.NewRecords(records, h.log)
	h.presence = devices.NewPresence(devices.PresenceOptions{
		Node: h.node, Shared: h.shared(), Records: h.records, Bucket: present, Stream: h.bus.JetStream(), Hub: facts,
		Events: h.bus.Conn(), Log: h.log, Renewed: h.bus.Renewed,
		FlapLimit: h.cfg.Devices.FlapLimit, FlapWindow: h.cfg.Devices.FlapWindow, Conflicts: conflicts{h},
	})
	if h.hubKeys, err = auth.OpenHubKeys(filepath.Join(h.keysDir(), "devices"), h.log); err != nil {
		return err
	}
	secrets, err := h.bus.Bucket(ctx, bus.BucketEnrolls)
	if err != nil {
		return err
	}
	h.enrollments = enroll.NewEnrollments(secrets, h.records, nil)
	h.minter = auth.NewMinter(h.hubKeys, h.cfg.Auth, nil)
	if h.issuers, err = auth.NewIssuers(h.cfg.Auth, h.log, h.reg); err != nil {
		return err
	}
	h.verifier, err = auth.NewVerifier(auth.VerifierOptions{Config: h.cfg.Auth, Hub: h.hubKeys, Issuers: h.issuers, Accounts: h.records})
	if err != nil {
		return err
	}
	h.turnstile = devices.NewTurnstile(cmp.Or(h.cfg.Devices.ConnectTurns, h.processors))
	if h.gate, err = devices.NewGate(h.cfg.Devices, h.reg, func() int { return h.registry.Room() }); err != nil {
		return err
	}
	h.registry, err = devices.NewRegistry(devices.RegistryOptions{
		Config: h.cfg.Devices, Node: h.node, Records: h.records, Presence: h.presence, Verifier: h.verifier, Log: h.log, Metrics: h.reg, Turns: h.turnstile,
	})
	h.records.OnDelete(h.committer.Forget) // behind the registry, which ends the session first
	return err
}

func (h *hub) buildTwin(ctx context.Context) error {
	documents, err := h.bus.Bucket(ctx, bus.BucketTwins)
	if err != nil {
		return err
	}
	h.twin = twin.New(twin.Options{
		Bucket: documents, Link: h.registry, Devices: devices.Directory{Records: h.records, Presence: h.presence}, Events: h.bus.Conn(), Log: h.log, Metrics: h.reg,
	})
	h.records.OnDelete(h.twin.Deleted)
	return nil
}

func (h *hub) buildCommands(ctx context.Context) (err error) {
	fleet := jobFleet{h.records, h.presence}
	h.notes = newAnnotations(h.committer, fleet.Labels, h.log, h.reg)
	policy, err := commands.NewPolicy(h.cfg.Commands.Approve, func(device string) map[string]string {
		labels, _ := fleet.Labels(device)
		return labels
	})
	if err != nil {
		return err
	}
	h.router, err = commands.New(commands.Options{
		Config: h.cfg.Commands, Bus: h.bus, Node: h.node, Link: links{h}, Presence: h.presence,
		Devices: devices.Directory{Records: h.records, Presence: h.presence}, Policy: policy, Notes: h.notes, Log: h.log, Metrics: h.reg,
	})
	if err != nil {
		return err
	}
	h.records.Observe(func(old, now *devices.Record) {
		// Who follows the bucket from afar may see only the record of the next device.
		if old != nil && (now == nil || !now.Created.Equal(old.Created)) {
			h.router.Deleted(old.ID, old.Created.UnixMilli())
		}
	})
	h.jobs, err = jobs.New(ctx, jobs.Options{
		Bus: h.bus, Router: h.router, Fleet: fleet, Makers: jobMakers{h}, Audit: jobMakers{h}, Keep: h.cfg.Commands.Keep, Log: h.log, Metrics: h.reg,
	})
	if err != nil {
		return err
	}
	h.handler = devices.NewHandler(h.registry, devices.HandlerOptions{
		Telemetry: deviceTelemetry{h.committer}, Commands: sessionSink{commandSink{h.router}, h.twin}, States: stateSink{h.twin},
		Origins: h.cfg.Auth.Origins, Stalled: h.committer.Healthy,
	})
	h.enroll = enroll.NewHandler(h.enrollments, enroll.HandlerOptions{
		Auth: h.cfg.Auth, Plaintext: h.cfg.TLS.Mode == configs.TLSOff, Address: h.handler.Address, Audit: enrollAudit{h}, Log: h.log, Metrics: h.reg,
	})
	return nil
}

func (h *hub) buildBridge(context.Context) error {
	b := h.cfg.Bridge
	parts := bridge.Parts{
		Node: h.node, Sink: bridgeTelemetry{h.committer, h.presence, h.records}, Answers: answerSink{h.router}, States: h.twin, Devices: bridgedDevices{h.records},
		Presence: bridgedPresence{h}, Out: h.outlet, MaxAge: h.committer.MaxAge(), MaxAhead: h.cfg.Ingest.MaxAhead, Log: h.log, Metrics: h.reg,
	}
	if b.Broker.Listen != "" {
		var err error
		if !b.Broker.TokensOnly {
			if h.mqttPassword, err = secretFrom(string(b.Broker.Password), b.Broker.PasswordFile, h.cfg.DataDir, "mqtt-password"); err != nil {
				return err
			}
			b.Broker.Password = configs.Secret(h.mqttPassword)
		}
		if h.broker, err = broker.New(b.Broker, h.log, h.reg); err != nil {
			return explainListen("bridge.broker.listen", b.Broker.Listen, err)
		}
		e := h.broker.Hub()
		parts.Embedded = bridge.Endpoint{URL: e.URL, Username: e.Username, Password: e.Password, Author: broker.Author}
		if len(withoutEmbedded(b.Connections)) < len(b.Connections) {
			parts.Embedded.Subscribed = h.broker.AwaitHub()
		}
	} else {
		b.Connections = withoutEmbedded(b.Connections)
	}
	var err error
	if h.bridge, err = bridge.New(b, parts); err != nil {
		return err
	}
	h.records.Observe(tellBridge(h.bridge))
	if h.broker != nil {
		h.letDevicesIn()
	}
	return nil
}

// outlet opens the cursor of one connection's outgoing telemetry.
func (h *hub) outlet(connection string) bridge.OutSource {
	o, err := ingest.NewOutlet(h.stream, connection, h.log)
	if err != nil {
		panic(err) // names of connections are checked with the configuration
	}
	return outlet{o}
}

// withoutEmbedded leaves out connections to a broker that is not started.
func withoutEmbedded(all []configs.Connection) (out []configs.Connection) {
	for _, c := range all {
		if c.URL != configs.EmbeddedBroker {
			out = append(out, c)
		}
	}
	return out
}

func (h *hub) buildAPI(ctx context.Context) (err error) {
	fleet := fleet{h.records, h.presence, h.minter, h.committer, h.twin}
	h.api, err = api.New(ctx, api.Options{
		Bus: h.bus, Node: h.node, Issuer: h.cfg.Auth.Issuer, KeysDir: filepath.Join(h.keysDir(), "operators"),
		Plaintext: h.cfg.TLS.Mode == configs.TLSOff, Remote: h.handler.Remote,
		Devices: fleet, History: history{h.store}, Commands: commander{h.router},
		Leases: leases{h.router}, Approver: commander{h.router}, Jobs: jobRunner{h.jobs}, Twin: stateKeeper{h.twin},
		Bridge: bridgeStatus{h.bridge}, Nodes: nodes{h.presence, time.Now()}, Deadletters: deadletters{h.dead, h.store}, Types: fieldTypes{h.committer, h.store},
		Watcher: &h.watching, Trace: h.watching.recent,
		Enrollments: enroller{h.enrollments, fleet}, DeviceKeys: deviceKeys{h.hubKeys},
		Transfer: transfer{h.records, devices.NewImporter(h.records, h.bus.JetStream())},
		Log:      h.log, Registry: h.reg,
	})
	return err
}

// close lets go of what newHub opened.
func (h *hub) close() error {
	var err error
	if h.store != nil {
		h.store.Close()
	}
	if h.embedded != nil {
		err = h.embedded.Close()
	}
	if h.claim != nil {
		h.claim.Release()
	}
	if h.bus != nil {
		err = errors.Join(err, h.bus.Close())
	}
	if h.unlock != nil {
		h.unlock()
	}
	return err
}
