package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
)

// The bounds of a connection, where the configuration names none.
const (
	defaultInFlight   = 256
	maxInFlight       = 8192
	defaultMaxPayload = 64 << 10

	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
	longEnough = time.Minute     // a link that lasted so long was a good one
	stallAfter = 5 * time.Second // the handler waits so long for room before the link is given up
	drainFor   = 2 * time.Second // for what is being stored when the bridge stops
)

// errStalled ends a link whose messages cannot be stored fast enough; the broker keeps them meanwhile.
var errStalled = errors.New("messages come faster than they can be stored")

// profile is a fleet profile in use.
type profile struct {
	name string
	fleets.Profile
	topics fleets.Topics
}

// connection is one broker. Three goroutines serve it: supervise keeps a link open, work turns messages into points,
// and acknowledge answers the broker; a fourth publishes if there are out maps.
type connection struct {
	// static after newConnection
	name       string
	dialer     dialer
	maps       []*TopicMap
	commands   []*commandMap
	profiles   []profile
	outs       []*outMap
	filters    map[string]byte
	published  map[string]string // filters that cover what it publishes, with the key each comes from
	maxPayload int
	parts      Parts
	directory  *directory
	log        *slog.Logger
	m          *connectionMetrics
	status     *status
	window     *window
	queue      chan *delivery // as long as the window, so that adding to it never blocks
	greet      chan struct{}  // capacity 1: the link is up, devices that only take commands are there
	extras     *extras        // filters that profiles want too
	sends      chan struct{}  // one for each publish that waits for its PUBACK
	asked      *asked

	// static after New
	sharers    []*connection                                // those of the same broker, itself among them
	subscribed func()                                       // to be called when the filters of the configuration are subscribed to
	author     func(topic string) (device, original string) // of the embedded broker; nil: another one

	arrivalsMu sync.Mutex
	arrivals   map[string]struct{} // guarded by arrivalsMu: devices that have subscribed to where their commands go

	current atomic.Pointer[link]
	epochs  atomic.Uint64
}

func newConnection(cfg configs.Connection, parts Parts, dir *directory, m *metrics) (*connection, error) {
	size := cmp.Or(cfg.InFlight, defaultInFlight)
	c := &connection{
		name:       cfg.Name,
		maxPayload: cmp.Or(cfg.MaxPayload, defaultMaxPayload),
		parts:      parts,
		directory:  dir,
		log:        parts.Log.With("connection", cfg.Name),
		m:          m.connection(cfg.Name),
		status:     newStatus(cfg),
		window:     newWindow(size),
		queue:      make(chan *delivery, size),
		greet:      make(chan struct{}, 1),
		extras:     newExtras(),
		sends:      make(chan struct{}, size),
		asked:      newAsked(),
		arrivals:   make(map[string]struct{}),
	}
	if cfg.URL == configs.EmbeddedBroker {
		c.author = parts.Embedded.Author
	}
	var err error
	if c.dialer, err = newDialer(cfg, parts); err != nil {
		return nil, err
	}
	plan, err := newPlan(cfg, fleets.Options{MaxAge: parts.MaxAge, MaxAhead: parts.MaxAhead})
	if err != nil {
		return nil, err
	}
	c.maps, c.commands, c.profiles, c.outs, c.filters = plan.maps, plan.commands, plan.profiles, plan.outs, plan.filters
	c.published, c.sharers, c.subscribed = plan.published(), []*connection{c}, func() {}
	return c, nil
}

func newDialer(cfg configs.Connection, parts Parts) (dialer, error) {
	d := dialer{
		name:     cfg.Name,
		clientID: cmp.Or(cfg.ClientID, "fairlead-"+parts.Node+"-"+cfg.Name),
		username: cfg.Username,
		password: string(cfg.Password),
	}
	raw := cfg.URL
	if raw == configs.EmbeddedBroker {
		if parts.Embedded.URL == "" {
			return d, errors.New("url embedded: bridge.broker.listen is empty, so no embedded broker runs")
		}
		raw, d.username, d.password = parts.Embedded.URL, parts.Embedded.Username, string(parts.Embedded.Password)
	}
	var err error
	if d.url, err = parseURL(raw); err != nil {
		return d, err
	}
	d.tls, err = tlsConfig(cfg.CAFile)
	return d, err
}

// link is how the connection is called outside.
func (c *connection) link() string { return linkPrefix + c.name }

const linkPrefix = "mqtt:"

// run serves the connection until ctx is done. What is being stored then still gets its acknowledgement.
func (c *connection) run(ctx context.Context) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error {
		c.work(inner)
		return nil
	})
	g.Go(func() error {
		c.window.acknowledge(inner, c.finished)
		return nil
	})
	if len(c.outs) > 0 {
		g.Go(func() error { return c.publishOut(ctx) })
	}
	g.Go(func() error {
		defer stop()
		c.supervise(ctx)
		return nil
	})
	err := g.Wait()
	for _, d := range c.directory.of(c) {
		d.source.Close()
	}
	return err
}

// supervise keeps a link open: after one ends it opens the next, waiting longer each time that it did not last.
func (c *connection) supervise(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > longEnough {
			pause = firstPause
		}
		wait := pause/2 + rand.N(pause) // spread, or all bridges come back at once
		c.status.fail(err)
		c.log.Warn("mqtt connection is down", "err", err, "retry_in", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, maxPause)
	}
	c.status.set(StateStopped)
}

// session opens a link, subscribes, and returns when the link has ended.
func (c *connection) session(ctx context.Context) error {
	c.status.set(StateConnecting)
	l, err := c.dialer.open(ctx, c.epochs.Add(1), c.receive)
	if err != nil {
		return fmt.Errorf("connection %q: %w", c.name, err)
	}
	defer c.window.ended()
	err = c.serve(ctx, l)
	if ctx.Err() != nil {
		c.drain()
	}
	c.current.Store(nil)
	c.dialer.close(l, err)
	c.status.set(StateDown)
	c.allOffline(ctx)
	if err != nil {
		return fmt.Errorf("connection %q: %w", c.name, err)
	}
	return nil
}

func (c *connection) serve(ctx context.Context, l *link) error {
	if err := c.subscribeAll(ctx, l); err != nil {
		return err
	}
	c.subscribed()
	c.current.Store(l)
	c.status.connected(l.epoch)
	c.m.connected.Set(1)
	defer c.m.connected.Set(0)
	c.log.Info("mqtt connection is up", "url", c.dialer.url.Redacted(), "filters", len(c.filters))
	c.someOnline()
	c.extras.renew(time.Now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.over:
			return l.cause
		case <-c.extras.changed:
			if err := c.exchangeExtras(ctx, l); err != nil {
				return err
			}
		}
	}
}

// subscribeAll asks for the filters of the configuration, and fails if the broker refuses one.
func (c *connection) subscribeAll(ctx context.Context, l *link) error {
	qos := func(filter string) byte { return c.filters[filter] }
	for list := slices.Sorted(maps.Keys(c.filters)); len(list) > 0; {
		n := fitting(list)
		refused, err := l.subscribe(ctx, list[:n], qos)
		if err != nil {
			return err
		}
		if len(refused) > 0 {
			return fmt.Errorf("subscribe: the broker refuses %q", refused[0])
		}
		list = list[n:]
	}
	return nil
}

// drain waits a moment for what is being stored, so that it need not come again.
func (c *connection) drain() {
	deadline := time.NewTimer(drainFor)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !c.window.empty() {
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// receive is paho's handler. It only puts the message into the queue; if there is no room for stallAfter it gives the
// link up, because a paho that is not read misses its pings anyway and would be cut off later and less clearly.
func (c *connection) receive(l *link, msg mqtt.Message) {
	if !l.isUp() {
		return
	}
	c.m.received.Inc()
	if !c.window.reserve(l, stallAfter) {
		if msg.Qos() == 0 {
			c.drop(c.authored(msg).topic, &fleets.Drop{Reason: reasonStalled})
		}
		l.end(errStalled)
		return
	}
	if d, fresh := c.window.take(l, c.authored(msg)); fresh {
		c.queue <- d
	} else {
		c.m.repeated.Inc()
	}
}

// message is one from the broker, with the topic to which it was published.
type message struct {
	mqtt.Message
	topic  string
	author string // the device that published it, with a token of its own; empty: somebody else
}

func (c *connection) authored(msg mqtt.Message) message {
	m := message{Message: msg, topic: msg.Topic()}
	if c.author != nil {
		m.author, m.topic = c.author(m.topic)
	}
	return m
}

// finished is called for each message that has left the window.
func (c *connection) finished(d *delivery) {
	if !d.failed.Load() {
		c.m.acked.Inc()
		c.status.acked.Add(1)
	}
}

// allOffline says that nothing is known of the devices any more.
func (c *connection) allOffline(ctx context.Context) {
	cause := "link_lost"
	if ctx.Err() != nil {
		cause = "stopping"
	}
	for _, d := range c.directory.of(c) {
		d.pause(cause, c.parts.Presence)
	}
}

// someOnline brings back what the lost link had taken away. Fleets with a last will correct it by its retained message.
func (c *connection) someOnline() {
	for _, d := range c.directory.of(c) {
		d.resume(c.parts.Presence)
	}
	c.welcome()
}

// welcome has the devices that are only sent commands introduced.
func (c *connection) welcome() {
	select {
	case c.greet <- struct{}{}:
	default:
	}
}
