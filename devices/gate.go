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

// Gate bounds the connections of a listener that have not asked for anything yet: those that are negotiating TLS, and
// those that only hold a place. It costs nothing once a request has come.
type Gate struct {
	// static after NewGate
	perAddress int
	trusted    proxies
	slots      chan struct{} // nil: no bound
	refused    prometheus.Counter
	waited     prometheus.Counter

	mu        sync.Mutex
	pending   map[net.Conn]netip.Addr
	addresses map[netip.Addr]int
}

// gateWait bounds how long accepting waits for room. Who holds the room is cut off earlier, by the server's deadlines.
const gateWait = 15 * time.Second

// NewGate returns the gate of a listener.
func NewGate(c configs.Devices, reg prometheus.Registerer) (*Gate, error) {
	trusted, err := parseProxies(c.TrustedProxies)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		perAddress: c.AddressPending, trusted: trusted, pending: make(map[net.Conn]netip.Addr), addresses: make(map[netip.Addr]int),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_devices_pending_refused_total", Help: "Connections closed before TLS: too many of their address have asked for nothing yet.",
		}),
		waited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_devices_pending_waits_total", Help: "Times that accepting waited: too many connections have asked for nothing yet.",
		}),
	}
	if c.MaxPending > 0 {
		g.slots = make(chan struct{}, c.MaxPending)
	}
	reg.MustRegister(g.refused, g.waited)
	return g, nil
}

// ConnState is for http.Server. The server calls it for a new connection before it accepts the next, so waiting here
// leaves the others outside.
func (g *Gate) ConnState(c net.Conn, state http.ConnState) {
	if state != http.StateNew {
		g.leave(c)
		return
	}
	if !g.enter(c) {
		g.refused.Inc()
		c.Close()
	}
}

func (g *Gate) enter(c net.Conn) bool {
	peer := parseRemote(c.RemoteAddr().String()).Addr()
	from := addressKey(peer)
	g.mu.Lock()
	full := g.perAddress > 0 && g.addresses[from] >= g.perAddress && !g.trusted.trust(peer)
	g.mu.Unlock()
	if full {
		return false
	}
	g.room()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending[c] = from
	g.addresses[from]++
	return true
}

func (g *Gate) room() {
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

// Pending is how many connections have not asked for anything yet.
func (g *Gate) Pending() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pending)
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
