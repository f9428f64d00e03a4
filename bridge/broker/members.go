package broker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// deviceClients is how many clients of one device may be connected; with one more the oldest goes.
	deviceClients = 8
	// expiryCheck is how often it is looked whose token has run out. A timer each would not follow a clock that is set.
	expiryCheck = 500 * time.Millisecond
)

// Why a device's client was sent away.
const (
	endRevoked  = "revoked"
	endExpired  = "token_expired"
	endReplaced = "replaced"
)

// codeExpired is what MQTT 5 has for a connection that lasted as long as it was allowed to.
var codeExpired = packets.Code{Code: packets.ErrMaxConnectTime.Code, Reason: "the token has expired; connect again with a fresh one"}

// member is one connected client of a device.
type member struct {
	// static after admit
	Identity
	cl *mqtt.Client

	forgotten atomic.Bool // its session goes with it
}

// members knows the connected clients of devices, and sends away those whose device may not be here any more. One goroutine does
// so.
type members struct {
	poke chan struct{} // capacity 1

	mu   sync.Mutex
	open map[string][]*member // guarded by mu: by device, oldest first
	look map[string]struct{}  // guarded by mu: devices of open to be looked at
}

func newMembers() *members {
	return &members{poke: make(chan struct{}, 1), open: make(map[string][]*member), look: make(map[string]struct{})}
}

// enter takes m in, and returns who has to go for it. What its token was verified against may have changed since, so it is
// looked at.
func (s *members) enter(m *member) (oldest *member) {
	s.mu.Lock()
	if list := s.open[m.Device]; len(list) >= deviceClients {
		oldest = list[0]
	}
	s.open[m.Device] = append(s.open[m.Device], m)
	s.mu.Unlock()
	s.recheck(m.Device)
	return oldest
}

func (s *members) leave(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(s.open[m.Device], func(o *member) bool { return o == m })
	s.open[m.Device] = list
	if len(list) == 0 {
		delete(s.open, m.Device)
		delete(s.look, m.Device)
	}
}

// recheck has devices looked at. It does not block.
func (s *members) recheck(devices ...string) {
	s.mu.Lock()
	for _, device := range devices {
		if len(s.open[device]) > 0 {
			s.look[device] = struct{}{}
		}
	}
	s.mu.Unlock()
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *members) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]string, 0, len(s.open))
	for device := range s.open {
		all = append(all, device)
	}
	return all
}

// of returns the connected clients of a device.
func (s *members) of(device string) []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.open[device])
}

// expired returns whose token is good no longer.
func (s *members) expired(now time.Time) (list []*member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, open := range s.open {
		for _, m := range open {
			if !now.Before(m.Until) {
				list = append(list, m)
			}
		}
	}
	return list
}

// due returns whom to look at.
func (s *members) due() (due []*member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device := range s.look {
		due = append(due, s.open[device]...)
	}
	clear(s.look)
	return due
}

// Recheck looks whether the clients of a device may still be here. It does not block; they go soon.
func (b *Broker) Recheck(device string) { b.hook.members.recheck(device) }

// RecheckAll looks at the clients of all devices. It does not block.
func (b *Broker) RecheckAll() { b.hook.members.recheck(b.hook.members.all()...) }

// Forget ends all sessions of a device that was deleted: the next one of its id inherits neither subscriptions nor messages. It
// does not block; clients that are connected go soon.
func (b *Broker) Forget(device string) {
	for _, m := range b.hook.members.of(device) {
		m.forgotten.Store(true)
	}
	b.hook.members.recheck(device)
	b.hook.sessions.drop(sessionOf(device))
}

// watch sends clients away until ctx is done.
func (h *hook) watch(ctx context.Context) {
	tick := time.NewTicker(expiryCheck)
	defer tick.Stop()
	for {
		var list []*member
		select {
		case <-ctx.Done():
			return
		case <-h.members.poke:
			list = h.members.due()
		case now := <-tick.C:
			list = h.members.expired(now)
		}
		for _, m := range list {
			h.look(m)
		}
	}
}

// look sends m away if its device may not be here any more. One whose token only ran out finds its session again.
func (h *hook) look(m *member) {
	if m.cl.Closed() {
		return
	}
	if err := m.Still(); err != nil || m.forgotten.Load() {
		m.forgotten.Store(true)
		reason := "the device was deleted"
		if err != nil {
			reason = err.Error()
		}
		h.sendAway(m, packets.Code{Code: packets.ErrNotAuthorized.Code, Reason: reason}, endRevoked)
		return
	}
	if !time.Now().Before(m.Until) {
		h.sendAway(m, codeExpired, endExpired)
	}
}

func (h *hook) sendAway(m *member, code packets.Code, cause string) {
	h.m.ended.WithLabelValues(cause).Inc()
	h.devices.Ended(m.Device, cause, code.Reason)
	h.disconnect(m.cl, code)
}

// disconnect ends a connection, with the reason where MQTT has a way to tell it. Who does not read is not told: telling would wait.
func (h *hook) disconnect(cl *mqtt.Client, code packets.Code) {
	conn, ok := cl.Net.Conn.(*timedConn)
	if !ok || cl.Properties.ProtocolVersion < 5 {
		cl.Stop(code)
		return
	}
	if here, _ := conn.out.waiting(); here >= unsentShare {
		cl.Stop(code)
		return
	}
	_ = h.server.DisconnectClient(cl, code) // the error is the code
}

// over is called when the connection of m has ended, before anybody can take its session over.
func (h *hook) over(m *member) {
	h.members.leave(m)
	if current, _ := h.server.Clients.Get(m.cl.ID); m.forgotten.Load() && current == m.cl {
		h.sessions.end(m.cl)
	}
}
