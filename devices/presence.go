package devices

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Status says whether a device is on line.
type Status string

// The statuses. Never is a device that was not on line since its record was made; it may have been seen, by what it posts.
const (
	Online  Status = "online"
	Offline Status = "offline"
	Never   Status = "never"
)

// LinkWebSocket is the link of a device with a session of its own; bridged devices have "mqtt:<connection>".
const LinkWebSocket = "websocket"

// State is the presence of one device.
type State struct {
	Device   string
	Status   Status
	Since    time.Time // of Status
	LastSeen time.Time
	Cause    string // of the last change
	Link     string
	Node     string
	Session  string
	Epoch    uint64
	Address  string // the device's, with its port if that is known

	Flaps    int  // sessions that replaced a live one in the last window
	Conflict bool // so many that they must be of two devices

	Expect      time.Duration // telemetry is expected so often; 0: it is not
	Silent      bool          // none came for longer
	SilentSince time.Time     // when the last came
}

// presenceShards is how many locks, and how many records of last seen times, the devices are spread over.
const presenceShards = 64

// Presence knows who is on line, on which node, and since when. Every node holds all of it in memory. One goroutine,
// Run, tells the others: changes wait for it in a set, so that a device that flaps costs one message, not many.
type Presence struct {
	// static after NewPresence
	opts   PresenceOptions
	ready  chan struct{}
	wake   chan struct{}
	told   chan told     // what the bus has not answered yet, the eldest first
	room   chan struct{} // one for each of them
	shards [presenceShards]presenceShard

	stuck bool // owned by tell: the bus answered nothing for a while

	mu       sync.Mutex // guards all below
	changed  map[string]struct{}
	untold   map[string]bool      // what is told again in a while; true: to listeners too
	failure  error                // the last one of untold
	gone     map[string]State     // what devices without a record were, until that is told
	nodes    map[string]time.Time // when other nodes were last heard
	lost     map[string]lostNode  // by node, until it is back
	replaced func(device string, epoch uint64)
	flapping map[string]struct{} // devices whose entries have flaps
	news     map[string]Conflict // conflicts that nobody was told of
}

type presenceShard struct {
	mu       sync.RWMutex
	m        map[string]*presenceEntry
	expected map[string]*expectation // devices that should send telemetry every so often; nil: none
	dirty    bool                    // last seen times to be stored
}

// presenceEntry is the memory of one device's presence, kept small: there is one for every device that was ever seen.
type presenceEntry struct {
	epoch   uint64
	since   int64 // Unix milliseconds
	seen    int64
	session string
	node    string
	cause   string
	link    string
	address string
	flap    *flap // nil: nothing was replaced lately
	online  bool
}

// PresenceOptions are the parts that Presence works with.
type PresenceOptions struct {
	Node    string
	Shared  bool     // other nodes share the bus: presence goes into the bucket, and theirs is read from it
	Records *Records // what has none there is forgotten
	Bucket  jetstream.KeyValue
	Stream  jetstream.Publisher // publishes into Bucket without waiting for each; what is not answered must fail in the end
	Hub     jetstream.KeyValue  // where last seen times survive
	Events  *nats.Conn
	// Renewed returns a channel that is closed when the bucket was next made anew, empty. Nil: it never is.
	Renewed func() <-chan struct{}
	Log     *slog.Logger
	Now     func() time.Time // nil: the system's clock

	FlapLimit  int // replacements in the window that are two devices; 0: never
	FlapWindow time.Duration
	Conflicts  ConflictSink // nil: nobody
}

// ConflictSink is told of devices with one identity.
type ConflictSink interface {
	// Conflict records one. It may block for a while.
	Conflict(ctx context.Context, c Conflict) error
}

// NewPresence returns a presence that knows nobody yet.
func NewPresence(o PresenceOptions) *Presence {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Presence{
		opts: o, ready: make(chan struct{}), wake: make(chan struct{}, 1),
		told: make(chan told, maxUnanswered), room: make(chan struct{}, maxUnanswered),
		changed: make(map[string]struct{}), untold: make(map[string]bool), gone: make(map[string]State),
		nodes: make(map[string]time.Time), lost: make(map[string]lostNode), flapping: make(map[string]struct{}), news: make(map[string]Conflict),
	}
	for i := range p.shards {
		p.shards[i].m = make(map[string]*presenceEntry)
	}
	return p
}

// Ready is closed once what other nodes and earlier runs left behind is known.
func (p *Presence) Ready() <-chan struct{} { return p.ready }

func (p *Presence) shard(device string) *presenceShard {
	return &p.shards[shardOf(device)]
}

// Node returns the node that a device is connected to.
func (p *Presence) Node(device string) (node string, online bool) {
	s := p.shard(device)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.m[device]
	if e == nil || !e.online {
		return "", false
	}
	return e.node, true
}

// Status returns whether a device is on line.
func (p *Presence) Status(device string) Status {
	s := p.shard(device)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[device].status()
}

func (e *presenceEntry) status() Status {
	switch {
	case e == nil || !e.online && e.epoch == 0:
		return Never
	case e.online:
		return Online
	}
	return Offline
}

// State returns all that is known of a device's presence.
func (p *Presence) State(device string) State {
	s := p.shard(device)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return p.stateLocked(s, device)
}

// stateLocked is State with the lock of the device's shard held.
func (p *Presence) stateLocked(s *presenceShard, device string) State {
	e := s.m[device]
	st := State{Device: device, Status: e.status()}
	s.expected[device].tell(&st)
	if st.Status == Never {
		if e != nil && e.seen != 0 {
			st.LastSeen, st.Address, st.Node = time.UnixMilli(e.seen), e.address, e.node // it posts, and never holds a link
		}
		return st
	}
	st.Cause, st.Link, st.Node, st.Session, st.Epoch = e.cause, e.link, e.node, e.session, e.epoch
	st.Since, st.LastSeen = time.UnixMilli(e.since), time.UnixMilli(e.seen)
	st.Address = e.address
	if e.flap != nil {
		st.Flaps, st.Conflict = e.flap.count(p.opts.Now().UnixMilli(), p.flapWindow()), e.flap.Since != 0
	}
	if e.online && e.node == p.opts.Node {
		st.LastSeen = p.opts.Now().Truncate(time.Millisecond)
	}
	return st
}

// Set records that a bridged device came or went; link names the connection. A change to what is already so only
// refreshes when the device was last seen.
func (p *Presence) Set(device string, online bool, cause, link string) {
	now := p.opts.Now()
	s := p.shard(device)
	s.mu.Lock()
	e := s.entry(device)
	e.seen, s.dirty = now.UnixMilli(), true
	if e.online == online && e.link == link {
		s.mu.Unlock()
		return
	}
	if !online && e.link != link && e.online {
		// The device is on line by another way; what this one says of it does not count.
		s.mu.Unlock()
		return
	}
	e.epoch = nextEpoch(e.epoch, now)
	if x := s.expected[device]; x != nil && e.node != p.opts.Node {
		x.from = e.seen
	}
	e.online, e.cause, e.link, e.node, e.session, e.address = online, cause, link, p.opts.Node, "", ""
	e.since = e.seen
	s.mu.Unlock()
	p.note(device)
}

// arrival is a session that begins.
type arrival struct {
	device, session, address string
	parting                  bool // the device's session on this node was ending already
}

// connected makes a session the device's current one and gives it the epoch by which it is known.
func (p *Presence) connected(a arrival) (epoch uint64) {
	now, device := p.opts.Now(), a.device
	s := p.shard(device)
	s.mu.Lock()
	e := s.entry(device)
	if e.online && e.link == LinkWebSocket && !(a.parting && e.node == p.opts.Node) {
		p.flapped(device, e, a.address, now.UnixMilli())
	}
	e.epoch = nextEpoch(e.epoch, now)
	e.seen, s.dirty = now.UnixMilli(), true
	if !e.online {
		e.since = e.seen
	}
	if x := s.expected[device]; x != nil && e.node != p.opts.Node {
		x.from = e.seen // what another node heard of it is not known here
	}
	e.online, e.cause, e.link, e.node, e.session, e.address = true, causeConnected, LinkWebSocket, p.opts.Node, a.session, a.address
	epoch = e.epoch
	s.mu.Unlock()
	p.note(device)
	return epoch
}

// movedOn reports whether another node has a newer session of the device than the one with this epoch.
func (p *Presence) movedOn(device string, epoch uint64) bool {
	s := p.shard(device)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.m[device]
	return e != nil && e.epoch > epoch && e.node != p.opts.Node
}

// heard records that a device was seen, without a link that would make it on line.
func (p *Presence) heard(device, address string) {
	now := p.opts.Now()
	s := p.shard(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(device)
	e.seen, s.dirty = now.UnixMilli(), true
	if e.node == "" {
		e.node = p.opts.Node // who keeps when it was seen
	}
	if !e.online {
		e.address = address
	}
}

// disconnected ends the presence of one session. A later epoch is not touched by what an earlier one still says.
func (p *Presence) disconnected(device string, epoch uint64, cause string, seen time.Time) {
	s := p.shard(device)
	s.mu.Lock()
	e := s.m[device]
	if e == nil || e.epoch != epoch || !e.online {
		s.mu.Unlock()
		return
	}
	e.online, e.cause = false, cause
	e.since = p.opts.Now().UnixMilli()
	e.seen, s.dirty = seen.UnixMilli(), true
	s.mu.Unlock()
	p.note(device)
}

// nextEpoch is a number above every earlier epoch of the device, on any node and across restarts: time, unless a clock
// stands behind what was seen already.
func nextEpoch(last uint64, now time.Time) uint64 { return max(last+1, uint64(now.UnixMicro())) }

// entry returns the device's entry, making it. Called with mu held.
func (s *presenceShard) entry(device string) *presenceEntry {
	e := s.m[device]
	if e == nil {
		e = &presenceEntry{}
		s.m[device] = e
	}
	return e
}

// note queues a device for Run to tell about. The set is bounded by the number of devices.
func (p *Presence) note(device string) {
	p.mu.Lock()
	p.changed[device] = struct{}{}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// onReplaced calls fn when another node has a newer session of a device than the epoch that was current here.
func (p *Presence) onReplaced(fn func(device string, epoch uint64)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replaced = fn
}

// OnlineHere counts the devices on line on this node.
func (p *Presence) OnlineHere() int {
	n := 0
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		for _, e := range s.m {
			if e.online && e.node == p.opts.Node {
				n++
			}
		}
		s.mu.RUnlock()
	}
	return n
}
