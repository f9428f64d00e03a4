package broker

import (
	"errors"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// gateInflight is how many messages the hub may have unacknowledged before publishers wait. It is below MaxInflight,
// at which mochi would drop them.
const gateInflight = MaxInflight / 2

// closedCheck is how often a waiting publisher is looked at for being gone.
const closedCheck = time.Second

var errStopping = errors.New("broker is stopping")

// gate holds a publisher's acknowledgement back until the hub has acknowledged the message. mochi acknowledges first
// and hands out later, and drops what does not fit; so the gate hands out itself, through an inline client, and waits.
// One publisher waits for one message at a time, which is also what slows it down when the hub is slow.
type gate struct {
	// static after newGate
	server  *mqtt.Server
	m       *metrics
	stopped chan struct{}
	once    sync.Once

	// static after Broker.AwaitHub: closed when the hub is subscribed; nil: it is not waited for
	subscribed chan struct{}

	handing sync.Mutex   // one message is handed out at a time, so that handed knows whose packet id it sees
	inline  *mqtt.Client // guarded by handing

	mu      sync.Mutex
	current *passage            // guarded by mu: the message being handed out
	waiting map[packet]*passage // guarded by mu
	room    chan struct{}       // guarded by mu: closed and renewed when a message is finished
}

// packet names a message in the session of one of the hub's clients.
type packet struct {
	client string
	id     uint16
}

// passage is one message on its way.
type passage struct {
	got  bool       // the hub's session took it
	owed int        // acknowledgements of the hub still to come
	err  error      // the first that failed
	done chan error // capacity 1
}

func newGate(server *mqtt.Server, m *metrics) *gate {
	return &gate{
		server: server, m: m, stopped: make(chan struct{}),
		inline:  server.NewClient(nil, mqtt.LocalListener, mqtt.InlineClientId, true),
		waiting: make(map[packet]*passage),
		room:    make(chan struct{}),
	}
}

// stop lets everybody who waits go, without an acknowledgement.
func (g *gate) stop() { g.once.Do(func() { close(g.stopped) }) }

// awaitHub waits until the hub has subscribed for the first time: until then nothing shows what it wants.
func (g *gate) awaitHub(cl *mqtt.Client) error {
	if g.subscribed == nil {
		return nil
	}
	select {
	case <-g.subscribed:
		return nil
	default:
	}
	g.m.waiting.Inc()
	defer g.m.waiting.Dec()
	tick := time.NewTicker(closedCheck)
	defer tick.Stop()
	for {
		select {
		case <-g.subscribed:
			return nil
		case <-g.stopped:
			return errStopping
		case <-tick.C:
			if cl.Closed() {
				return errNotStored
			}
		}
	}
}

// pass hands pk to all subscribers and returns when the hub has acknowledged it. An error means that it is not known
// to be stored.
func (g *gate) pass(cl *mqtt.Client, pk packets.Packet) error {
	g.m.waiting.Inc()
	defer g.m.waiting.Dec()
	if err := g.awaitRoom(cl); err != nil {
		return err
	}
	p := g.hand(cl, pk)
	tick := time.NewTicker(closedCheck)
	defer tick.Stop()
	for {
		select {
		case err := <-p.done:
			return err
		case <-g.stopped:
			return errStopping
		case <-tick.C:
			if cl.Closed() {
				return errNotStored
			}
		}
	}
}

func (g *gate) awaitRoom(cl *mqtt.Client) error {
	for {
		g.mu.Lock()
		full, room := len(g.waiting) >= gateInflight, g.room
		g.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-room:
		case <-g.stopped:
			return errStopping
		case <-time.After(closedCheck):
			if cl.Closed() {
				return errNotStored
			}
		}
	}
}

func (g *gate) hand(cl *mqtt.Client, pk packets.Packet) *passage {
	p := &passage{done: make(chan error, 1), owed: 1} // one for the handing itself
	g.handing.Lock()
	defer g.handing.Unlock()
	g.mu.Lock()
	g.current = p
	g.mu.Unlock()

	g.inline.ID = cl.ID // so that no-local still knows the publisher
	g.inline.Properties.ProtocolVersion = cl.Properties.ProtocolVersion
	err := g.server.InjectPacket(g.inline, pk)

	g.mu.Lock()
	defer g.mu.Unlock()
	g.current = nil
	if err == nil && !p.got {
		err = errNotStored // the hub was subscribed and yet did not get it
	}
	g.settleLocked(p, err)
	return p
}

// handed is called while the current message is being handed out, once for each of the hub's sessions that got it.
func (g *gate) handed(client string, id uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current == nil {
		return // not through the gate: a will, or one of the hub's own
	}
	g.current.got = true
	g.current.owed++
	g.waiting[packet{client, id}] = g.current
}

// lost is called when the current message did not fit into the hub's write queue.
func (g *gate) lost() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current == nil {
		return
	}
	for key, p := range g.waiting {
		if p == g.current {
			delete(g.waiting, key)
			g.settleLocked(p, errNotStored)
		}
	}
}

// finished is called when the hub has acknowledged a message, or its session has forgotten it.
func (g *gate) finished(client string, id uint16, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := packet{client, id}
	p, ok := g.waiting[key]
	if !ok {
		return
	}
	delete(g.waiting, key)
	g.settleLocked(p, err)
	close(g.room)
	g.room = make(chan struct{})
}

// resumed fails what a new session of the hub did not inherit: mochi copies the unacknowledged messages before the new
// session takes the place of the old, and what comes between is in neither.
func (g *gate) resumed(cl *mqtt.Client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, p := range g.waiting {
		if key.client != cl.ID {
			continue
		}
		if _, kept := cl.State.Inflight.Get(key.id); !kept {
			delete(g.waiting, key)
			g.settleLocked(p, errNotStored)
		}
	}
}

func (g *gate) settleLocked(p *passage, err error) {
	if err != nil && p.err == nil {
		p.err = err
	}
	p.owed--
	if p.owed == 0 {
		p.done <- p.err
	}
}
