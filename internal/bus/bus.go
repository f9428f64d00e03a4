// Package bus is the hub's durable log, key-value store and message bus: NATS JetStream, embedded in the process or
// somebody else's servers. Streams, buckets and subjects are declared here and nowhere else, and nobody else opens a
// NATS connection.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/configs"
)

// Options say which bus to open.
type Options struct {
	NATS configs.NATS
	Dir  string // of the embedded server's store
	Node string
	Sync bool // false only in negative controls: an ack then no longer means stored
	// MinFree is how much of the disk stays free: below it Room fails.
	MinFree int64
	Sizes   Sizes
	Log     *slog.Logger
}

// Bus is an open bus.
type Bus struct {
	opts     Options
	srv      atomic.Pointer[server.Server] // nil: remote, or between two lives of the embedded one
	damaged  atomic.Bool                   // the embedded server could not write and will not try again
	room     atomic.Pointer[error]         // why nothing more may be written, or nil
	nc       *nats.Conn
	js       jetstream.JetStream
	replicas int
	back     chan struct{} // an outside server is connected again
	made     time.Time     // the bucket of leases; owned by Open, then by Run
	sizes    Sizes         // those of opts, with a log that the disk has room for; owned by Open, then by Run

	renewMu sync.Mutex
	renewed chan struct{} // guarded by renewMu
}

const (
	startTimeout = 30 * time.Second
	// answerTimeout is when an asynchronous publish of the shared context that nobody answered has failed.
	answerTimeout = 10 * time.Second
	// maxPayload is the largest message. Batches stay far below.
	maxPayload = 1 << 20
)

// Open starts or dials NATS and declares the streams. It blocks until they stand, or ctx ends.
func Open(ctx context.Context, o Options) (*Bus, error) {
	b := &Bus{opts: o, sizes: o.Sizes, replicas: max(o.NATS.Replicas, 1), back: make(chan struct{}, 1)}
	if b.Embedded() {
		if err := b.startServer(); err != nil {
			return nil, err
		}
	}
	nc, err := b.connect("hub")
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	b.nc = nc
	b.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(startTimeout), jetstream.WithPublishAsyncTimeout(answerTimeout))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open jetstream: %w", err), b.Close())
	}
	if err := b.declare(ctx, b.sizes); err != nil {
		return nil, errors.Join(fmt.Errorf("declare the bus: %w", err), b.Close())
	}
	leases, err := b.Bucket(ctx, BucketLeases)
	if err == nil {
		b.made, err = madeAt(ctx, leases)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Bus) startServer() error {
	store, err := b.bound()
	if err != nil {
		return err
	}
	opts := &server.Options{
		ServerName:         "fairlead-" + b.opts.Node,
		DontListen:         true,
		NoSigs:             true, // signals belong to cmd/fairlead; the server would exit the process
		NoLog:              true,
		JetStream:          true,
		StoreDir:           b.opts.Dir,
		SyncAlways:         b.opts.Sync,
		JetStreamMaxStore:  store,
		JetStreamMaxMemory: 256 << 20,
		MaxPayload:         maxPayload,
		MaxPending:         64 << 20,
	}
	if err := clusterOptions(opts, b.opts.NATS.Cluster); err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("embedded nats: %w", err)
	}
	srv.SetLoggerV2(&natsLog{log: b.opts.Log, damaged: func() { b.damaged.Store(true) }}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		srv.Shutdown()
		return fmt.Errorf("embedded nats: not ready after %s", startTimeout)
	}
	b.srv.Store(srv)
	return nil
}

func (b *Bus) connect(name string) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("fairlead-" + b.opts.Node + "-" + name),
		nats.MaxReconnects(-1),
		// A publish while disconnected must fail, not wait in memory: what waits there is neither stored nor refused.
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			b.opts.Log.Warn("bus error", "subject", subject, "err", err)
		}),
	}
	url := nats.DefaultURL
	if b.Embedded() {
		opts = append(opts, nats.InProcessServer(b))
	} else {
		url = joinURLs(b.opts.NATS.URLs)
		if b.opts.NATS.Creds != "" {
			opts = append(opts, nats.UserCredentials(b.opts.NATS.Creds))
		}
		opts = append(opts,
			nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.opts.Log.Warn("bus lost", "err", err) }),
			nats.ReconnectHandler(func(nc *nats.Conn) {
				b.opts.Log.Info("bus back", "server", nc.ConnectedServerName())
				select {
				case b.back <- struct{}{}:
				default: // it is looked at already
				}
			}))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to nats %s: %w; start the server or correct nats.urls", url, err)
	}
	return nc, nil
}

// JetStream returns the shared JetStream context.
func (b *Bus) JetStream() jetstream.JetStream { return b.js }

// Conn returns the shared connection, for live events and requests between nodes.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// Dedicated opens a connection of its own, so that bulk traffic delays nobody else. The caller drains it.
func (b *Bus) Dedicated(name string) (jetstream.JetStream, *nats.Conn, error) {
	nc, err := b.connect(name)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(startTimeout))
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("open jetstream: %w", err)
	}
	return js, nc, nil
}

// Healthy reports why the bus cannot serve, or nil.
func (b *Bus) Healthy() error {
	if !b.nc.IsConnected() {
		return fmt.Errorf("nats is %s", b.nc.Status())
	}
	if !b.Embedded() {
		return nil
	}
	if srv := b.srv.Load(); srv == nil || !srv.JetStreamEnabled() {
		return errDamaged
	}
	return b.Room()
}

// Embedded reports whether the server runs in this process.
func (b *Bus) Embedded() bool { return len(b.opts.NATS.URLs) == 0 }

// Alone reports whether nobody but this process can publish: the server is embedded and listens to no one.
func (b *Bus) Alone() bool { return b.Embedded() && b.opts.NATS.Cluster.Listen == "" }

// Close drains the connection and stops the embedded server.
func (b *Bus) Close() error {
	if b.nc != nil {
		if err := b.nc.FlushTimeout(5 * time.Second); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			b.opts.Log.Warn("flush bus", "err", err)
		}
		b.nc.Close()
	}
	b.stopServer()
	return nil
}
