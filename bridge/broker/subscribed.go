package broker

import (
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// What a subscription costs beside its filter, which is kept twice, and each level of that: mochi's tree has a node for it.
const (
	filterOverhead = 1 << 10
	levelOverhead  = 640
)

// overQuota is put in the place of a filter that is one too many, so that mochi refuses it. It is no filter.
const overQuota = "#/"

// subscribed counts what sessions are subscribed to, in bytes of memory. A place is taken before mochi subscribes, so that
// clients who come together cannot pass the limit together.
type subscribed struct {
	mu       sync.Mutex
	sessions map[string]*filters // guarded by mu: by client id; only those that are subscribed to something
	total    int                 // guarded by mu
}

// filters is what one session is subscribed to.
type filters struct {
	has  map[string]struct{}
	held int
}

func newSubscribed() *subscribed { return &subscribed{sessions: make(map[string]*filters)} }

// filterCost is what a subscription takes at most, if it shares no level with another.
func filterCost(filter string) int {
	return filterOverhead + 2*len(filter) + levelOverhead*levels(filter)
}

// take makes room for one more filter of a session. It fails if that does not fit; full tells that all sessions together
// are the reason.
func (s *subscribed) take(client, filter string) (ok, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.sessions[client]
	if f == nil {
		f = &filters{has: make(map[string]struct{})}
	}
	if _, has := f.has[filter]; has {
		return true, false
	}
	cost := filterCost(filter)
	if f.held+cost > MaxSubscribedBytes {
		return false, false
	}
	if s.total+cost > MaxAllSubscribed && f.held+cost > filterShare {
		return false, true
	}
	f.has[filter] = struct{}{}
	f.held += cost
	s.total += cost
	s.sessions[client] = f
	return true, false
}

// drop gives a filter's room back.
func (s *subscribed) drop(client, filter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.sessions[client]
	if f == nil {
		return
	}
	if _, has := f.has[filter]; !has {
		return
	}
	delete(f.has, filter)
	f.held -= filterCost(filter)
	s.total -= filterCost(filter)
	if len(f.has) == 0 {
		delete(s.sessions, client)
	}
}

func (s *subscribed) holds(client string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[client] != nil
}

// OnSubscribe refuses filters that are too long, too deep, too many, or not the device's. It also tells the question whether a client may
// subscribe from that whether it may be sent a message.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	conn, ok := cl.Net.Conn.(*timedConn)
	if !ok {
		return pk
	}
	conn.subscribing.Store(true)
	if conn.hub.Load() {
		return pk
	}
	wildcards := 0
	for i, sub := range pk.Filters {
		if !mqtt.IsValidFilter(sub.Filter, false) || sub.NoLocal && mqtt.IsSharedFilter(sub.Filter) {
			continue // mochi refuses it
		}
		if strings.ContainsAny(sub.Filter, "+#") {
			wildcards++
		}
		switch {
		case len(sub.Filter) > maxFilterBytes || levels(sub.Filter) > maxLevels:
			h.m.refused.WithLabelValues(refusedFilter).Inc()
			pk.Filters[i].Filter = ""
		case !h.ownFilter(conn, sub.Filter):
			pk.Filters[i].Filter = notItsOwn
		case wildcards > maxWildcards || !h.maySubscribe(cl, sub.Filter):
			h.m.refused.WithLabelValues(refusedSubscription).Inc()
			pk.Filters[i].Filter = overQuota
		}
	}
	return pk
}

// maySubscribe takes room for a filter. Where all together have too many, the sessions that have been alone longest go
// first; those that are there keep a share each.
func (h *hook) maySubscribe(cl *mqtt.Client, filter string) bool {
	if cl.Closed() || h.isHub(cl) {
		return false // its session is another connection's by now, or the hub's in a moment
	}
	ok, full := h.filters.take(cl.ID, filter)
	for full && h.sessions.evict(h.filters.holds) {
		ok, full = h.filters.take(cl.ID, filter)
	}
	return ok
}

// OnSubscribed is called before the client is answered, and before it gets what is retained.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	conn, ok := cl.Net.Conn.(*timedConn)
	if !ok {
		return
	}
	conn.subscribing.Store(false)
	if conn.member != nil {
		h.granted(conn.member, pk, codes)
	}
	if cl.Properties.ProtocolVersion < 5 {
		return // knows one code for all failures
	}
	for i, sub := range pk.Filters {
		switch sub.Filter {
		case overQuota:
			codes[i] = packets.ErrQuotaExceeded.Code
		case notItsOwn:
			codes[i] = packets.ErrNotAuthorized.Code
		}
	}
}

// OnUnsubscribed is called when a client has unsubscribed, or its session has ended.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	for _, sub := range pk.Filters {
		h.filters.drop(cl.ID, sub.Filter)
	}
}
