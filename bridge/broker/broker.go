// Package broker is the hub's own MQTT broker (3.1.1 and 5), for sites that have none.
//
// Who may connect has the site's login, a gateway's, and reaches every topic; or is a device that shows a token of its own, and
// reaches those topics that the bridge says are its.
//
// It is mochi-mqtt behind this project's rules: no anonymous client, nobody writes below "$", every queue has a named
// limit, and a QoS 1 or 2 message that the hub's bridge is subscribed to is acknowledged to its publisher only when the
// bridge has acknowledged it, which it does when the point is on disk. So here a PUBACK means stored, also across
// kill -9, although the broker itself keeps everything in memory.
package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
)

// The bounds of the broker. In bytes: MaxRetainedBytes for what is retained; MaxQueuedBytes, twice at most (fairShare), for
// what waits in sessions; MaxAllUnsent, twice at most (unsentShare), for what waits for sockets; MaxAllSubscribed, twice at
// most (filterShare), for subscriptions. A session without its client keeps its CONNECT, of maxConnectBytes. Sockets that have not said who they are can make the broker hold one packet
// each, MaxPacketBytes. What mochi has queued on its way into an outbox comes on top of it, for as long as copying takes.
// The hub itself is bounded by counts: MaxPendingWrites packets, 288 MiB, wait for its socket while it does not read.
const (
	MaxClients         = 1024             // connected clients beside the hub
	MaxSessions        = 4096             // sessions, connected or waiting for their client
	hubPlaces          = 16               // connections of the hub that find a place whoever else is there
	MaxPacketBytes     = 72 << 10         // one packet: what a bridge takes by default, and its topic and properties
	MaxInflight        = 4096             // unacknowledged messages kept for one client
	MaxSessionBytes    = 8 << 20          // unacknowledged messages kept for one client
	MaxQueuedBytes     = 128 << 20        // unacknowledged messages kept for all clients
	MaxUnsentBytes     = 4 << 20          // what waits for one client's socket
	MaxAllUnsent       = 64 << 20         // what waits for the sockets of all clients
	MaxPendingWrites   = 4096             // packets waiting for one client's socket
	MaxRetained        = 10_000           // retained messages
	MaxRetainedBytes   = 64 << 20         // all retained messages, with what keeping each costs
	MaxSubscribedBytes = 8 << 20          // what one client is subscribed to, with what that costs: some 2,500 filters
	MaxAllSubscribed   = 64 << 20         // what all clients are subscribed to
	maxFilterBytes     = 512              // of one filter
	maxWildcards       = 64               // filters with + or # in one SUBSCRIBE: for each, all that is retained is looked at
	receiveMaximum     = 256              // unfinished QoS 1 and 2 messages from one client [MQTT5 3.2.2.3.3]
	sessionExpiry      = 7 * 24 * 60 * 60 // seconds that a session outlives its client
	sysTopicSeconds    = 30
	maxUnauthed        = 256      // sockets that have not yet said who they are
	maxConnectBytes    = 16 << 10 // a CONNECT, and so the will and the names that a session keeps
	maxLevels          = 64       // of a topic: mochi's tree has a node for each, and walks from the root to each
	// A client for which less than this waits gets its messages even where MaxQueuedBytes wait for others that are there
	// too: so all sessions hold MaxQueuedBytes and MaxClients of these at most, which is twice MaxQueuedBytes, and of each
	// publisher the one message that it is sending.
	fairShare   = MaxQueuedBytes / MaxClients
	unsentShare = MaxAllUnsent / MaxClients     // the same of what waits for sockets
	filterShare = MaxAllSubscribed / MaxClients // and of subscriptions
	hubUsername = "fairlead-hub"
	listenerID  = "bridge"
)

// ErrNoCredentials refuses a broker that anybody could use.
var ErrNoCredentials = errors.New("username and password must be set; the broker has no anonymous access")

// Broker is the embedded broker. New takes the port, Run serves it.
type Broker struct {
	server   *mqtt.Server
	listener *listener
	hook     *hook
	log      *slog.Logger
}

// Endpoint is where and as whom the hub's own bridge connects.
type Endpoint struct {
	URL      string
	Username string
	Password configs.Secret
}

// New listens on cfg.Listen; the caller has put the password into cfg. It fails if the port is taken or a credential
// is missing.
func New(cfg configs.Broker, log *slog.Logger, reg prometheus.Registerer) (*Broker, error) {
	if !cfg.TokensOnly && (cfg.Username == "" || cfg.Password == "") {
		return nil, fmt.Errorf("bridge.broker: %w", ErrNoCredentials)
	}
	if cfg.Username == hubUsername {
		return nil, fmt.Errorf("bridge.broker.username: %q is the bridge's own name; choose another", hubUsername)
	}
	socket, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("bridge.broker.listen %s: %w", cfg.Listen, err)
	}
	server := mqtt.New(&mqtt.Options{
		Capabilities: &mqtt.Capabilities{
			// The hook refuses clients beyond MaxClients, and not the hub. As many as may be on their way in at that moment
			// may come to it, no more.
			MaximumClients:               MaxClients + maxUnauthed + hubPlaces,
			MaximumClientWritesPending:   MaxPendingWrites,
			MaximumSessionExpiryInterval: sessionExpiry,
			MaximumPacketSize:            MaxPacketBytes,
			MaximumInflight:              MaxInflight,
			ReceiveMaximum:               receiveMaximum,
			MinimumProtocolVersion:       3,
			MaximumQos:                   2,
			RetainAvailable:              1,
			WildcardSubAvailable:         1,
			SubIDAvailable:               1,
			SharedSubAvailable:           1,
			// A client's properties would be kept for each of its unfinished QoS 2 messages.
			Compatibilities: mqtt.Compatibilities{NoInheritedPropertiesOnAck: true},
			// Zero: a limit here would also delete retained states and queued QoS 1 messages of that age.
			MaximumMessageExpiryInterval: 0,
		},
		Logger:                 quiet(log),
		SysTopicResendInterval: sysTopicSeconds,
		InlineClient:           true,
	})
	m := newMetrics(reg)
	b := &Broker{
		server:   server,
		listener: newListener(socket, m),
		log:      log,
	}
	b.hook = newHook(server, cfg, Endpoint{
		URL: "tcp://" + socket.Addr().String(), Username: hubUsername, Password: configs.Secret(rand.Text()),
	}, m)
	b.listener.closeClients = b.goodbye
	if err := server.AddHook(b.hook, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("bridge.broker: %w", err), socket.Close())
	}
	if err := server.AddListener(b.listener); err != nil {
		return nil, errors.Join(fmt.Errorf("bridge.broker: %w", err), socket.Close())
	}
	return b, nil
}

// Addr returns the address the broker listens on.
func (b *Broker) Addr() net.Addr { return b.listener.socket.Addr() }

// Hub returns how the hub's own bridge connects. Its password is new in every process and never leaves it.
func (b *Broker) Hub() Endpoint { return b.hook.hub }

// AwaitHub has what clients publish wait until subscribed is called, which the hub does when its bridge has its subscriptions:
// devices come back before it does, and what they publish would be acknowledged to them and go nowhere. It is called before Run.
func (b *Broker) AwaitHub() (subscribed func()) {
	b.hook.gate.subscribed = make(chan struct{})
	return sync.OnceFunc(func() { close(b.hook.gate.subscribed) })
}

// goodbye tells all clients that the broker stops. mochi's own way locks its list of clients twice to read it, and stands still for
// good if a client leaves in between.
func (b *Broker) goodbye() {
	for _, cl := range b.server.Clients.GetAll() {
		if cl.Net.Listener == listenerID && !cl.Closed() {
			_ = b.server.DisconnectClient(cl, packets.ErrServerShuttingDown) // the error is the code
		}
	}
}

// Run serves until ctx is done, then closes every client and waits for them.
func (b *Broker) Run(ctx context.Context) error {
	if err := b.server.Serve(); err != nil {
		return errors.Join(fmt.Errorf("serve mqtt: %w", err), b.listener.socket.Close())
	}
	b.log.Info("mqtt broker ready", "addr", b.Addr().String())
	var watching sync.WaitGroup
	watching.Go(func() { b.hook.watch(ctx) })
	defer watching.Wait()
	<-ctx.Done()
	b.hook.gate.stop() // before the clients: their readers may be waiting in the gate
	if err := b.server.Close(); err != nil {
		return fmt.Errorf("close mqtt: %w", err)
	}
	return nil
}
