package broker

import (
	"container/list"
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// sessions knows which sessions have an open connection and in which order the others lost theirs. At a limit the one
// that has been alone longest makes room: a device that invents an id for each connection pushes out its own leavings,
// and locks nobody out. The hub's sessions never make room.
type sessions struct {
	// static after newSessions
	server *mqtt.Server
	m      *metrics

	mu     sync.Mutex
	open   map[string]int           // guarded by mu: authenticated connections by client id; two during a takeover
	others int                      // guarded by mu: those that are not the hub's
	alone  map[string]*list.Element // guarded by mu: sessions that wait for their client
	order  *list.List               // guarded by mu: their ids, the one alone longest first
}

func newSessions(server *mqtt.Server, m *metrics) *sessions {
	return &sessions{server: server, m: m, open: make(map[string]int), alone: make(map[string]*list.Element), order: list.New()}
}

// full tells whether all places are taken but those that are kept for the hub.
func (s *sessions) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.others >= MaxClients
}

// enter notes a connection that has said who it is, makes room for its session, and returns what to call when the
// connection has ended. From here on its session is not taken away.
func (s *sessions) enter(id string, hub bool) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[id]++
	if !hub {
		s.others++
	}
	s.forgetLocked(id)
	if _, known := s.server.Clients.Get(id); !known {
		for s.server.Clients.Len() >= MaxSessions && s.evictLocked(func(string) bool { return true }) {
		}
	}
	return func() { s.leave(id, hub) }
}

func (s *sessions) leave(id string, hub bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !hub {
		s.others--
	}
	if s.open[id]--; s.open[id] > 0 {
		return
	}
	delete(s.open, id)
	if _, remains := s.server.Clients.Get(id); remains && !hub {
		s.alone[id] = s.order.PushBack(id)
	}
}

// forget is called when a session has expired.
func (s *sessions) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(id)
}

func (s *sessions) forgetLocked(id string) {
	if e, ok := s.alone[id]; ok {
		s.order.Remove(e)
		delete(s.alone, id)
	}
}

// evict ends the session that has been alone longest among those that it concerns, and tells whether there was one.
func (s *sessions) evict(concerns func(id string) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.evictLocked(concerns)
}

// drop ends the sessions without a client whose ids begin so.
func (s *sessions) drop(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.alone {
		if !strings.HasPrefix(id, prefix) {
			continue
		}
		s.forgetLocked(id)
		if cl, ok := s.server.Clients.Get(id); ok {
			s.end(cl)
		}
	}
}

func (s *sessions) evictLocked(concerns func(id string) bool) bool {
	for e := s.order.Front(); e != nil; e = e.Next() {
		id := e.Value.(string)
		if !concerns(id) {
			continue
		}
		s.forgetLocked(id)
		if cl, ok := s.server.Clients.Get(id); ok {
			s.end(cl)
			s.m.evicted.Inc()
		}
		return true
	}
	return false
}

// end takes away all that mochi keeps of a session whose client is gone.
func (s *sessions) end(cl *mqtt.Client) {
	cl.ClearInflights()
	s.server.UnsubscribeClient(cl)
	// mochi lets go of a delayed will only at a DISCONNECT; otherwise wills of evicted sessions would pile up.
	_ = s.server.InjectPacket(cl, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	s.server.Clients.Delete(cl.ID)
}
