package devices

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
)

// Gate bounds the connections of a listener that are no sessions. Those that have not asked for anything yet, because they
// negotiate TLS or only hold a place, have bounds of their own; all others share what the limit of open files leaves beside
// the sessions, and who is idle gives way to who comes. So strangers never take the files of the log and the store.
type Gate struct {
	// static after NewGate
	perAddress int
	trusted    proxies
	slots      chan struct{} // nil: no bound
	refused    prometheus.Counter
	waited     prometheus.Counter
	room       func() int // how many may be open; nil: no bound
	evicted    prometheus.Counter
	crowded    *prometheus.CounterVec

	mu        sync.Mutex
	open      map[net.Conn]struct{} // until they end or are a session's
	idle      map[net.Conn]struct{} // of those
	pending   map[net.Conn]netip.Addr
	addresses map[netip.Addr]int
}

const (
	// gateWait bounds how long accepting waits for room. Who holds the room is cut off earlier, by the server's deadlines.
	gateWait = 15 * time.Second
	// gateLook is how often it looks for room meanwhile: sessions that end do not tell.
	gateLook = 10 * time.Millisecond
)

// What becomes of who finds no file left, for metrics.
const (
	crowdedWaited  = "waited"
	crowdedRefused = "refused"
)

// NewGate returns the gate of a listener. room is how many connections may be open beside the sessions; nil is any number.
func NewGate(c configs.Devices, reg prometheus.Registerer, room func() int) (*Gate, error) {
	trusted, err := parseProxies(c.TrustedProxies)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		room: room, open: make(map[net.Conn]struct{}), idle: make(map[net.Conn]struct{}),
		perAddress: c.AddressPending, trusted: trusted, pending: make(map[net.Conn]netip.Addr), addresses: make(map[netip.Addr]int),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_devices_pending_refused_total", Help: "Connections closed before TLS: too many of their address have asked for nothing yet.",
		}),
		waited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_devices_pending_waits_total", Help: "Times that accepting waited: too many connections have asked for nothing yet.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_devices_idle_closed_total", Help: "Connections closed between two requests, because others came and no more files may be open.",
		}),
		crowded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_devices_crowded_total", Help: "Connections that came while no more files may be open and nobody was idle, by what became of them.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{crowdedWaited, crowdedRefused} {
		g.crowded.WithLabelValues(outcome)
	}
	if c.MaxPending > 0 {
		g.slots = make(chan struct{}, c.MaxPending)
	}
	reg.MustRegister(g.refused, g.waited, g.evicted, g.crowded)
	return g, nil
}

// ConnState is for http.Server. The server calls it for a new connection before it accepts the next, so waiting here
// leaves the others outside.
func (g *Gate) ConnState(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		if !g.enter(c) {
			c.Close()
		}
		return
	}
	g.leave(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	_, open := g.open[c]
	switch {
	case state == http.StateIdle && open: // and not one that has just given way
		g.idle[c] = struct{}{}
		return
	case state == http.StateHijacked, state == http.StateClosed:
		delete(g.open, c)
	}
	delete(g.idle, c)
}

func (g *Gate) enter(c net.Conn) bool {
	peer := parseRemote(c.RemoteAddr().String()).Addr()
	from := addressKey(peer)
	g.mu.Lock()
	full := g.perAddress > 0 && g.addresses[from] >= g.perAddress && !g.trusted.trust(peer)
	g.mu.Unlock()
	if full {
		g.refused.Inc()
		return false
	}
	if !g.fits() {
		g.crowded.WithLabelValues(crowdedRefused).Inc()
		return false
	}
	g.place()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[c] = struct{}{}
	g.pending[c] = from
	g.addresses[from]++
	return true
}

// fits waits until one more connection may be open. It reports false if that took too long.
func (g *Gate) fits() bool {
	if g.makeRoom() {
		return true
	}
	g.crowded.WithLabelValues(crowdedWaited).Inc()
	patience := time.NewTimer(gateWait)
	defer patience.Stop()
	look := time.NewTicker(gateLook)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if g.makeRoom() {
				return true
			}
		case <-patience.C:
			return false
		}
	}
}

// makeRoom reports whether one more connection may be open. If not, those that are idle give way: a client that finds its
// connection closed between two requests opens another.
func (g *Gate) makeRoom() bool {
	if g.room == nil {
		return true
	}
	most := g.room()
	var gone []net.Conn
	g.mu.Lock()
	for c := range g.idle {
		if len(g.open) < most {
			break
		}
		delete(g.idle, c)
		delete(g.open, c)
		gone = append(gone, c)
	}
	fits := len(g.open) < most
	g.mu.Unlock()
	for _, c := range gone {
		g.evicted.Inc()
		hangUp(c)
	}
	return fits
}

// place takes one of the places of those that have not asked for anything yet.
func (g *Gate) place() {
	if g.slots == nil {
		return
	}
	select {
	case g.slots <- struct{}{}:
		return
	default:
	}
	g.waited.Inc()
	patience := time.NewTimer(gateWait)
	defer patience.Stop()
	select {
	case g.slots <- struct{}{}:
	case <-patience.C:
		// Nobody can hold a place so long: it is better to let one in too many than to stand still for good.
	}
}

// Open is how many connections are open that are no sessions.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}

// leave gives the place back, if c had one.
func (g *Gate) leave(c net.Conn) {
	g.mu.Lock()
	from, ok := g.pending[c]
	if ok {
		delete(g.pending, c)
		if g.addresses[from]--; g.addresses[from] == 0 {
			delete(g.addresses, from)
		}
	}
	g.mu.Unlock()
	if !ok || g.slots == nil {
		return
	}
	select {
	case <-g.slots:
	default: // it was let in without a place
	}
}
