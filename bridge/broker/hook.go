package broker

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/mochi-mqtt/server/v2/system"

	"github.com/fairlead-hub/fairlead/configs"
)

// Errors that end a connection attempt.
var (
	errWillTopic  = errors.New("will topic is not allowed")
	errTooMany    = errors.New("too many clients")
	errReservedID = errors.New("client id belongs to the hub")
	errQueueFull  = errors.New("too many unfinished messages")
	errNotStored  = errors.New("message could not be handed to the hub")
	provided      = []byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnWill,
		mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnQosPublish, mqtt.OnQosComplete, mqtt.OnQosDropped, mqtt.OnPublishDropped,
		mqtt.OnClientExpired, mqtt.OnPacketRead, mqtt.OnRetainMessage, mqtt.OnRetainedExpired,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed, mqtt.OnPacketEncode, mqtt.OnSysInfoTick,
	}
)

// takeoverTimeout is how long a client that takes its session over waits for the end of the old connection, whose reader may be
// waiting in the gate.
const takeoverTimeout = 2 * closedCheck

// hook is who may connect, what they may write, and the gate of their QoS 1 messages.
type hook struct {
	mqtt.HookBase
	// static after newHook
	server   *mqtt.Server
	hub      Endpoint
	user     credential
	hubUser  credential
	gate     *gate
	devices  *Devices // nil: no device has a token; static after Broker.LetIn
	members  *members
	retained *retained
	sessions *sessions
	queued   *queued
	filters  *subscribed
	m        *metrics

	tokensOnly bool // nobody has the site's login

	mu     sync.Mutex
	hubIDs map[string]bool // guarded by mu: client ids that the hub uses
}

func newHook(server *mqtt.Server, cfg configs.Broker, hub Endpoint, m *metrics) *hook {
	return &hook{
		server:   server,
		hub:      hub,
		user:     newCredential(cfg.Username, string(cfg.Password)),
		hubUser:  newCredential(hub.Username, string(hub.Password)),
		gate:     newGate(server, m),
		retained: newRetained(),
		sessions: newSessions(server, m),
		queued:   newQueued(),
		filters:  newSubscribed(),
		m:        m,
		hubIDs:   make(map[string]bool),

		members: newMembers(), tokensOnly: cfg.TokensOnly,
	}
}

// ID names the hook in mochi's log.
func (h *hook) ID() string { return "fairlead" }

// Provides says which of mochi's events the hook wants.
func (h *hook) Provides(b byte) bool { return bytes.IndexByte(provided, b) >= 0 }

// OnConnect refuses what mochi does not look at: a will that would be published to a reserved topic, or to what is none; one
// client too many; and what shows a token that is not good.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	if pk.Connect.WillFlag && (reserved(pk.Connect.WillTopic) || strings.ContainsAny(pk.Connect.WillTopic, "+#")) {
		h.m.refused.WithLabelValues(refusedWill).Inc()
		return errWillTopic
	}
	hub := h.hubUser.matches(pk.Connect.Username, pk.Connect.Password)
	if !hub && h.sessions.full() {
		h.m.refused.WithLabelValues(refusedFull).Inc()
		busy := packets.ErrServerBusy
		if cl.Properties.ProtocolVersion < 5 {
			busy = packets.ErrServerUnavailable
		}
		return errors.Join(errTooMany, h.server.SendConnack(cl, busy, false, nil))
	}
	if !hub && h.isToken(pk) {
		return h.admit(cl, pk)
	}
	return nil
}

// OnConnectAuthenticate checks the password and keeps the hub's client ids for the hub.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	hub, m := h.hubUser.matches(pk.Connect.Username, pk.Connect.Password), memberOf(cl)
	switch {
	case hub:
		h.claimID(cl.ID)
	case m != nil: // it has shown its token
	case h.isHub(cl):
		h.Log.Warn("mqtt client refused", "err", errReservedID, "remote", cl.Net.Remote)
		h.m.refused.WithLabelValues(refusedAuth).Inc()
		return false
	case !h.isSite(pk):
		h.m.refused.WithLabelValues(refusedAuth).Inc()
		return false
	}
	if conn, ok := cl.Net.Conn.(*timedConn); ok {
		conn.hub.Store(hub)
		conn.authenticated()
		conn.leave = h.sessions.enter(cl.ID, hub)
	}
	if m != nil {
		conn := cl.Net.Conn.(*timedConn)
		conn.over = func() { h.over(m) }
		if oldest := h.members.enter(m); oldest != nil {
			h.sendAway(oldest, packets.ErrSessionTakenOver, endReplaced)
		}
	}
	return true
}

// claimID keeps a client id for the hub. Of a client that was there before under that id the hub inherits nothing.
func (h *hook) claimID(id string) {
	h.mu.Lock()
	known := h.hubIDs[id]
	h.hubIDs[id] = true
	h.mu.Unlock()
	if stranger, ok := h.server.Clients.Get(id); ok && !known {
		h.server.UnsubscribeClient(stranger)
		stranger.ClearInflights()
	}
}

// OnSessionEstablish ends the connection that has the session of a client that comes, and waits for that end: mochi clears
// away of a connection only what no other has taken over, but looks at that before it knows.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	old, ok := h.server.Clients.Get(cl.ID)
	if !ok {
		return
	}
	conn, ok := old.Net.Conn.(*timedConn)
	if !ok {
		return
	}
	_ = h.server.DisconnectClient(old, packets.ErrSessionTakenOver)
	select {
	case <-conn.ended:
	case <-time.After(takeoverTimeout):
	}
	if m := conn.member; m != nil && m.forgotten.Load() {
		h.server.UnsubscribeClient(old)
		old.ClearInflights()
	}
}

// OnSessionEstablished lets the gate compare what it waits for with what the hub's session still holds.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if h.isHub(cl) {
		h.gate.resumed(cl)
	}
}

// OnPacketRead ends a client that publishes below "$", whose message mochi would leave unanswered, and the client waiting;
// and one whose CONNECT is too large, or a topic too deep.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Connect && pk.FixedHeader.Remaining > maxConnectBytes {
		h.m.refused.WithLabelValues(refusedLarge).Inc()
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Type == packets.Publish && reserved(pk.TopicName) {
		h.m.refused.WithLabelValues(refusedTopic).Inc()
		return pk, packets.ErrRejectPacket
	}
	if deep(pk) {
		h.m.refused.WithLabelValues(refusedDeep).Inc()
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Type == packets.Publish && !h.mayPublish(cl, pk) {
		return pk, packets.ErrRejectPacket
	}
	h.acknowledged(cl, pk)
	switch pk.FixedHeader.Type {
	case packets.Subscribe, packets.Unsubscribe:
		return hidePacketID(cl, pk), nil
	case packets.Disconnect: // mochi bounds what a CONNECT asks for only
		pk.Properties.SessionExpiryInterval = min(pk.Properties.SessionExpiryInterval, sessionExpiry)
	}
	return pk, nil
}

// OnPublish bounds retained messages and takes messages that are owed an acknowledgement through the gate.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return pk, nil
	}
	if !fromHub(cl) {
		if err := h.gate.awaitHub(cl); err != nil {
			h.m.dropped.WithLabelValues(droppedGate).Inc()
			cl.Stop(err)
			return pk, packets.ErrRejectPacket
		}
	}
	if held, _ := h.queued.held(cl.ID); pk.FixedHeader.Qos == 2 && held >= MaxSessionBytes {
		// Each QoS 2 message that a client leaves unfinished is kept in its own session.
		h.m.dropped.WithLabelValues(droppedQueue).Inc()
		cl.Stop(errQueueFull)
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Retain {
		pk.FixedHeader.Retain = h.mayRetain(pk)
	}
	if pk.FixedHeader.Qos == 0 && h.hubMisses(pk.TopicName) {
		h.m.dropped.WithLabelValues(droppedAway).Inc()
	}
	if pk.FixedHeader.Qos == 0 || h.isHub(cl) || !h.hubWants(pk.TopicName) {
		return pk, nil
	}
	if err := h.gate.pass(cl, pk); err != nil {
		// No acknowledgement: the publisher is cut off and sends it again.
		h.m.dropped.WithLabelValues(droppedGate).Inc()
		if pk.FixedHeader.Retain {
			h.OnRetainedExpired(pk.TopicName) // its place may have been taken for nothing
		}
		cl.Stop(err)
		return pk, packets.ErrRejectPacket
	}
	return pk, packets.CodeSuccessIgnore // handed out by the gate; mochi only acknowledges
}

// OnWill bounds retained messages for wills too. A will waits no longer than its session lives [MQTT5 3.1.3.2.2]: mochi
// would keep those of ended sessions for as long as their clients had asked for.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	cl.Properties.Will.WillDelayInterval = min(cl.Properties.Will.WillDelayInterval, cl.Properties.Props.SessionExpiryInterval)
	if will.Retain {
		will.Retain = h.mayRetain(packets.Packet{TopicName: will.TopicName, Payload: will.Payload})
		if cl.Properties.Will.WillDelayInterval > 0 {
			h.OnRetainedExpired(will.TopicName) // retained later, or never if the client comes back
		}
	}
	return will, nil
}

// OnRetainMessage is called when a retained message is kept, replaced or taken away.
func (h *hook) OnRetainMessage(_ *mqtt.Client, pk packets.Packet, _ int64) {
	h.OnRetainedExpired(pk.TopicName)
}

// OnRetainedExpired counts anew what is retained for a topic.
func (h *hook) OnRetainedExpired(topic string) {
	h.retained.settle(topic, h.server.Topics.Retained.Get)
}

// OnQosDropped is called when a session forgets a message; on a takeover the new session holds it.
func (h *hook) OnQosDropped(cl *mqtt.Client, pk packets.Packet) {
	h.m.dropped.WithLabelValues(droppedSession).Inc()
	switch {
	case cl.IsTakenOver():
	case h.isHub(cl):
		h.gate.finished(cl.ID, pk.PacketID, errNotStored)
	default:
		h.queued.set(cl.ID, pk.PacketID, 0)
	}
}

// OnPublishDropped is called when a client's write queue is full.
func (h *hook) OnPublishDropped(cl *mqtt.Client, _ packets.Packet) {
	h.m.dropped.WithLabelValues(droppedSlow).Inc()
	if h.isHub(cl) {
		h.gate.lost()
	}
}

// OnClientExpired takes away what mochi leaves behind of an expired session.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	cl.ClearInflights()
	h.server.UnsubscribeClient(cl)
	h.sessions.forget(cl.ID)
}

// OnSysInfoTick is called now and then.
func (h *hook) OnSysInfoTick(*system.Info) {
	for _, id := range h.queued.clients() {
		cl, ok := h.server.Clients.Get(id)
		if ok && cl.IsTakenOver() {
			continue // its messages are on their way to the new session
		}
		h.queued.reconcile(id, func(message uint16) bool {
			if !ok {
				return false
			}
			_, there := cl.State.Inflight.Get(message)
			return there
		})
	}
}

// hasRoom tells whether cl may be handed one more message. Where too much waits for all together, the sessions that have
// been alone longest go first; those that are there keep a share each.
func (h *hook) hasRoom(cl *mqtt.Client) bool {
	conn, ok := cl.Net.Conn.(*timedConn)
	if !ok || conn.subscribing.Load() || h.isHub(cl) {
		return true
	}
	if here, all := conn.out.waiting(); here >= MaxUnsentBytes || here >= unsentShare && all >= MaxAllUnsent {
		h.m.dropped.WithLabelValues(droppedSlow).Inc()
		return false
	}
	session, total := h.queued.held(cl.ID)
	for total >= MaxQueuedBytes && h.sessions.evict(h.holdsQueued) {
		session, total = h.queued.held(cl.ID)
	}
	if current, _ := h.server.Clients.Get(cl.ID); current != cl {
		return false // it was its turn to go
	}
	if session < fairShare || session < MaxSessionBytes && total < MaxQueuedBytes {
		return true
	}
	h.m.dropped.WithLabelValues(droppedQueue).Inc()
	return false
}

func (h *hook) holdsQueued(id string) bool {
	session, _ := h.queued.held(id)
	return session > 0
}

func (h *hook) isHub(cl *mqtt.Client) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hubIDs[cl.ID]
}

func (h *hook) hubWants(topic string) bool {
	subs := h.server.Topics.Subscribers(topic).Subscriptions
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.hubIDs {
		if sub, ok := subs[id]; ok && sub.Qos > 0 {
			return true
		}
	}
	return false
}

// hubMisses tells whether the hub has subscribed to topic and is not there: what is sent at QoS 0 does not wait for it.
func (h *hook) hubMisses(topic string) bool {
	h.mu.Lock()
	var away []string
	for id := range h.hubIDs {
		if cl, ok := h.server.Clients.Get(id); ok && cl.Closed() {
			away = append(away, id)
		}
	}
	h.mu.Unlock()
	if len(away) == 0 {
		return false
	}
	subs := h.server.Topics.Subscribers(topic).Subscriptions
	return slices.ContainsFunc(away, func(id string) bool { _, ok := subs[id]; return ok })
}

// mayRetain takes the place of a retained message; an empty one takes none, for it frees its topic's. What does not fit
// is handed out all the same, and not retained.
func (h *hook) mayRetain(pk packets.Packet) bool {
	if len(pk.Payload) == 0 || h.retained.take(pk.TopicName, retainedSize(pk)) {
		return true
	}
	h.m.dropped.WithLabelValues(droppedRetained).Inc()
	return false
}

func deep(pk packets.Packet) bool {
	return levels(pk.TopicName) > maxLevels || levels(pk.Connect.WillTopic) > maxLevels
}

func reserved(topic string) bool { return strings.HasPrefix(topic, "$") }
