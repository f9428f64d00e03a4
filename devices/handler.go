package devices

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	mrand "math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

const (
	// handshakeWait is how long a connect waits for its turn before it is refused.
	handshakeWait = 5 * time.Second
	retryBase     = 5 * time.Second
)

// Handler is the devices' endpoint, GET /v1/device. It refuses who may not connect, and turns the others into sessions.
type Handler struct {
	*Registry

	telemetry TelemetrySink
	commands  CommandSink
	states    StateSink
	origins   []string
	stalled   func() error
	turns     chan struct{}
	connects  *connectLimit[string]     // of a device
	addresses *connectLimit[netip.Addr] // of an address
	rate      nodeRate
	proxies   proxies
	binding   binding
	upgrader  websocket.Upgrader
}

// HandlerOptions are the parts that a handler works with. States may be nil.
type HandlerOptions struct {
	Telemetry TelemetrySink
	Commands  CommandSink
	States    StateSink
	Origins   []string // that browsers may connect from
	// Stalled reports why telemetry is not taken at present, or nil. While it is not, nobody new is let in: those who are
	// on line wait, and each more would only wait too. Nil: it always is taken.
	Stalled func() error
}

// NewHandler returns the endpoint that fills the registry.
func NewHandler(r *Registry, o HandlerOptions) *Handler {
	trusted, err := parseProxies(r.cfg.TrustedProxies)
	if err != nil {
		panic("devices: " + err.Error()) // the ranges are checked with the configuration
	}
	return &Handler{
		addresses: newConnectLimit[netip.Addr](r.cfg.AddressConnectsPerMinute),
		rate:      nodeRate{perSecond: int64(r.cfg.ConnectsPerSecond)},
		proxies:   trusted,
		Registry:  r, telemetry: o.Telemetry, commands: o.Commands, states: o.States, origins: o.Origins,
		stalled:  o.Stalled,
		turns:    make(chan struct{}, max(r.cfg.MaxHandshakes, 1)),
		connects: newConnectLimit[string](r.cfg.ConnectsPerMinute),
		binding:  newBinding(r.cfg),
		upgrader: websocket.Upgrader{
			WriteBufferPool: noBuffers{},                              // the outbox frames; the library never writes
			CheckOrigin:     func(*http.Request) bool { return true }, // checked before
			Error: func(w http.ResponseWriter, _ *http.Request, _ int, reason error) {
				if taken, ok := w.(hijacker); ok && taken.session.sock.Conn == nil {
					refuse400(refuseNotWebSocket, reason.Error()).Write(w)
				}
			},
		},
	}
}

// noBuffers is a pool of write buffers that nobody asks.
type noBuffers struct{}

func (noBuffers) Get() any { return nil }
func (noBuffers) Put(any)  {}

// ServeHTTP makes a session of the request, and returns once it runs on a goroutine of its own: net/http's would keep
// its buffers for as long as the device stays.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := h.serve(w, r); p != nil {
		h.metrics.refuse(p.Code)
		h.tell(w, p)
	}
}

// tell answers a request that was refused, with the headers that belong to its status.
func (h *Handler) tell(w http.ResponseWriter, p *problem.Document) {
	p.Time = h.now().UnixMilli()
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	busy := p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests
	if busy && w.Header().Get("Retry-After") == "" {
		retryAfter(w, retryBase+mrand.N(2*retryBase))
	}
	if p.Code == refuseNotWebSocket {
		w.Header().Set("Sec-WebSocket-Version", "13")
	}
	p.Write(w)
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(d.Seconds()))))
}

func refuse429(code, detail string) *problem.Document {
	return problem.New(http.StatusTooManyRequests, code, detail)
}

// rush refuses whom the node cannot take at once, before anything costly is done for them.
func (h *Handler) rush(from netip.Addr) *problem.Document {
	now := h.now()
	if from.IsValid() && !h.proxies.trust(from) {
		key := addressKey(from)
		bytes := key.As16()
		if !h.addresses.allow(key, uint32(bytes[7]^bytes[15]), now) {
			return refuse429(refuseAddress, "too many connects from this address")
		}
	}
	if !h.rate.allow(now) {
		return refuse503(refuseRush, "too many devices connect to this node at once")
	}
	return nil
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) *problem.Document {
	req, p := h.screen(r)
	if p != nil {
		return p
	}
	from := h.proxies.remote(r)
	req.address = addressText(from)
	if p := h.rush(from.Addr()); p != nil {
		return p
	}
	if h.stalled != nil && h.stalled() != nil {
		return refuse503(refuseStalled, "this hub stores nothing at present")
	}
	if h.seats.Add(1) > h.most {
		h.seats.Add(-1)
		return refuse503(refuseFull, "this node is at its connection limit")
	}
	seated := false
	defer func() {
		if !seated {
			h.seats.Add(-1)
		}
	}()
	if !h.turn(r.Context()) {
		return refuse503(refuseBusy, "this node has too many connects to answer at once")
	}
	defer func() { <-h.turns }()
	claims, err := h.verifier.Verify(req.token)
	if err != nil {
		return refuseToken(err)
	}
	if p := h.binding.check(r.TLS, claims.Device); p != nil {
		return p
	}
	if !h.connects.allow(claims.Device, shardOf(claims.Device), h.now()) {
		return refuse429(refuseOften, "this device connects too often")
	}
	if wait := h.presence.held(claims.Device); wait > 0 {
		retryAfter(w, wait)
		return refuse429(refuseConflict, "another device with this identity is on line, and both replace each other").
			WithHint("give each device an identity of its own")
	}
	if !h.enter() {
		return refuse503(refuseDraining, "this node is shutting down")
	}
	if !h.start(w, r, req, claims) {
		h.leave()
		h.metrics.refuse(refuseBroken)
		return nil
	}
	seated = true
	return nil
}

// turn waits for one of the places of handshakes in flight.
func (h *Handler) turn(ctx context.Context) bool {
	select {
	case h.turns <- struct{}{}:
		return true
	default:
	}
	patience := time.NewTimer(handshakeWait)
	defer patience.Stop()
	select {
	case h.turns <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-patience.C:
	}
	return false
}

// start upgrades the connection and starts its session. Nothing of the request is kept.
func (h *Handler) start(w http.ResponseWriter, r *http.Request, req request, claims *auth.Claims) bool {
	s := &Session{host: h, device: claims.Device, codec: req.codec, id: rand.Text(), claims: claims}
	header := http.Header{}
	if req.subprotocol {
		header.Set("Sec-WebSocket-Protocol", req.codec.Subprotocol())
	}
	ws, err := h.upgrader.Upgrade(hijacker{ResponseWriter: w, session: s}, r, header)
	s.rest()
	if err != nil {
		if s.sock.Conn != nil {
			s.sock.abort()
		}
		h.log.Debug("handshake broken", keyDevice, s.device, keyErr, err)
		return false
	}
	s.ws = ws
	s.prepare()
	now := h.now()
	s.begin(now)
	old := h.session(s.device)
	s.epoch = h.presence.connected(arrival{s.device, s.id, req.address, old != nil && old.ending()})
	s.quiet.Store(h.presence.Silent(s.device))
	s.welcome(now)
	// From here on the session can be found, and what is written to it waits behind the welcome.
	h.add(s)
	if h.presence.movedOn(s.device, s.epoch) { // another node said so before the session could be found
		s.stop(endReplaced)
	}
	h.follow(s)
	h.timers.set(s, h.clock.Load())
	s.recheck() // the record may have changed since the token was verified
	// And the drain may have begun since enter, and looked for sessions before this one was there.
	if h.draining() {
		s.stop(ending{code: CloseDraining, cause: causeDraining, reason: "draining"})
	}
	s.drain()
	h.commands.Attached(s.attachment())
	go s.run() // joined by Registry.Run, which waits for leave
	return true
}

// prepare sets the WebSocket reader up.
func (s *Session) prepare() {
	s.sock.upgraded = true
	s.ws.SetReadLimit(int64(s.host.cfg.FrameBytes))
	// A close frame is answered by settle; pings and pongs come here only from inside a message or over TLS.
	s.ws.SetCloseHandler(func(int, string) error { return nil })
	s.ws.SetPingHandler(func(payload string) error { s.ping([]byte(payload)); return nil })
	s.ws.SetPongHandler(func(payload string) error { s.pong([]byte(payload)); return nil })
	s.host.follow(s)
}

// begin sets when the session is looked at first: at any time within a heartbeat, so that those that came together are
// not pinged together.
func (s *Session) begin(now time.Time) {
	at := int64(now.Sub(s.host.started))
	s.heard.Store(at)
	s.watch.nextPing = at + mrand.Int64N(int64(s.host.cfg.Heartbeat))
	s.honour(now)
}

// honour has the session last as long as its token.
func (s *Session) honour(now time.Time) {
	s.watch.renewed(s.claims, now)
	if !now.Before(s.claims.Expires) {
		// Taken within the skew that clocks may have, so the session lasts as long as that.
		s.watch.warnAt, s.watch.expireAt = 0, s.claims.Expires.Add(s.host.verifier.Lenient()).UnixMilli()
	}
}

// welcome queues the answer to the handshake with the first frame behind it: one system call sends both. Nobody else
// drains before this goroutine does.
func (s *Session) welcome(now time.Time) {
	cfg := &s.host.cfg
	payload, err := wire.Append(nil, s.codec, &wire.Welcome{
		Session: s.id, Device: s.device, Time: now.UnixMilli(),
		HeartbeatS:   int(math.Ceil(cfg.Heartbeat.Seconds())),
		TokenExpires: s.claims.Expires.UnixMilli(),
		Limits: wire.Limits{
			FrameBytes: cfg.FrameBytes, PointsPerFrame: cfg.PointsPerFrame, UnackedFrames: cfg.UnackedFrames,
		},
	})
	if err != nil {
		panic("devices: welcome frame: " + err.Error()) // plain values always encode
	}
	response := appendFrame(s.sock.response, s.opcode(), payload)
	s.sock.response = nil
	s.out.frames, s.out.draining = &response, true
	s.traceOut(payload, fateSent)
}

func refuseToken(err error) *problem.Document {
	var rej *auth.Refusal
	if !errors.As(err, &rej) {
		return problem.New(http.StatusInternalServerError, "internal", "the token could not be checked")
	}
	code, detail := rej.Public()
	return problem.New(rej.Status(), code, detail)
}

func refuse400(code, detail string) *problem.Document {
	return problem.New(http.StatusBadRequest, code, detail)
}

func refuse503(code, detail string) *problem.Document {
	return problem.New(http.StatusServiceUnavailable, code, detail)
}

// allowed reports whether a browser page of that origin may connect.
func (h *Handler) allowed(origin string) bool { return slices.Contains(h.origins, origin) }
