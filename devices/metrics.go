package devices

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Keys of log attributes.
const (
	keyDevice  = "device_id"
	keySession = "session"
	keyErr     = "err"
)

// Kinds of frames, for metrics.
const (
	frameTelemetry = iota
	frameAnswer
	frameHello
	frameState
	frameToken
	frameUnknown
	frameKinds
)

var frameNames = [frameKinds]string{"telemetry", "answer", "hello", "state", "token", "unknown"}

// Refusals before a token is looked at.
const (
	refuseNotWebSocket = "not_websocket"
	refuseQueryToken   = "token_in_query"
	refuseTwoTokens    = "two_tokens"
	refuseSubprotocol  = "bad_subprotocol"
	refuseOrigin       = "origin_not_allowed"
	refuseOften        = "connects_too_often"
	refuseDraining     = "draining"
	refuseFull         = "too_many_sessions"
	refuseBusy         = "too_many_handshakes"
	refuseStalled      = "log_stalled"
	refuseBroken       = "handshake_broken"
	refuseMethod       = "method_not_allowed"
	refuseMedia        = "media_type_not_known"
	refuseTooBig       = "body_too_big"
	refuseBody         = "body_incomplete"
	refusePosts        = "too_many_posts"
	refuseLog          = "log_takes_nothing"
	refuseAddress      = "address_connects_too_often"
	refuseRush         = "too_many_connects"
	refuseConflict     = "identity_conflict"
	refuseQuota        = "over_quota"

	refuseCertificate   = "certificate_mismatch"
	refuseNoCertificate = "certificate_missing"
)

var refusals = []string{
	refuseNotWebSocket, refuseQueryToken, refuseTwoTokens, refuseSubprotocol, refuseOrigin, refuseOften,
	refuseDraining, refuseFull, refuseBusy, refuseStalled, refuseBroken, refuseMethod, refuseMedia, refuseTooBig, refuseBody, refusePosts,
	refuseLog, refuseAddress, refuseRush, refuseConflict, refuseQuota, refuseCertificate, refuseNoCertificate, "token_not_verified",
}

type metrics struct {
	sessions prometheus.Gauge
	connects prometheus.Counter
	refused  *prometheus.CounterVec
	closed   *prometheus.CounterVec
	ended    *prometheus.CounterVec
	framesIn [frameKinds]prometheus.Counter
	rejects  map[wire.Code]prometheus.Counter
	errors   *prometheus.CounterVec
	other    prometheus.Counter
	bytes    prometheus.Counter
	acks     prometheus.Counter
	pings    prometheus.Counter
	slowed   prometheus.Counter
	posts    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_devices_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_devices_" + name, Help: help}, []string{label})
		reg.MustRegister(v)
		return v
	}
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_devices_sessions", Help: "Live sessions on this node.",
		}),
		connects: counter("connects_total", "Sessions started."),
		refused:  vec("refusals_total", "Connects and posts refused, by code.", "code"),
		closed:   vec("closes_total", "Sessions ended, by close code (0: the socket was lost).", "code"),
		ended:    vec("ends_total", "Sessions ended, by cause.", "cause"),
		bytes:    counter("received_bytes_total", "Bytes of frames received."),
		acks:     counter("acks_total", "Telemetry acks sent; one may stand for many frames."),
		pings:    counter("pings_total", "Heartbeats sent."),
		slowed:   counter("slowed_total", "Sessions that were held back because their device was over its rates."),
		rejects:  make(map[wire.Code]prometheus.Counter),
	}
	reg.MustRegister(m.sessions)
	frames := vec("frames_total", "Frames received, by type.", "type")
	for i, name := range frameNames {
		m.framesIn[i] = frames.WithLabelValues(name)
	}
	rejects := vec("rejects_total", "Frames rejected, by code.", "code")
	for _, c := range wire.Codes {
		m.rejects[c] = rejects.WithLabelValues(string(c))
	}
	m.other = rejects.WithLabelValues("other")
	m.errors = vec("errors_total", "Error frames sent about frames that are no telemetry, by code.", "code")
	for _, c := range errorCodes {
		m.errors.WithLabelValues(c)
	}
	for _, c := range refusals {
		m.refused.WithLabelValues(c)
	}
	for _, c := range auth.Codes {
		if c != auth.UnknownKey && c != auth.BadSignature {
			m.refused.WithLabelValues(string(c))
		}
	}
	m.posts = vec("posts_total", "Telemetry posted by HTTP, by what became of it.", "outcome")
	for _, outcome := range []string{postStored, postRejected, postRefused} {
		m.posts.WithLabelValues(outcome)
	}
	m.closed.WithLabelValues("0")
	for _, c := range closeCodes {
		m.closed.WithLabelValues(strconv.Itoa(int(c)))
	}
	for _, c := range causes {
		m.ended.WithLabelValues(c)
	}
	return m
}

// gauges tell how many devices are in a state that somebody should look at.
func gauges(reg prometheus.Registerer, r *Registry) {
	gauge := func(name, help string, count func() int) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fairlead_devices_" + name, Help: help},
			func() float64 { return float64(count()) }))
	}
	gauge("silent", "Devices of this node that send no telemetry though it is expected of them.", r.presence.silentHere)
	gauge("lobby", "Connections that wait to be let in, while a fleet comes at once.", r.stile.waitingOutside)
	gauge("identity_conflicts", "Devices of this node whose identity two devices use.", r.presence.conflicts)
}

func (m *metrics) reject(c wire.Code) {
	if n, ok := m.rejects[c]; ok {
		n.Inc()
		return
	}
	m.other.Inc()
}

func (m *metrics) refuse(code string) { m.refused.WithLabelValues(code).Inc() }

func (m *metrics) end(e *ending) {
	code := e.code
	if !known(code) {
		code = 0 // a device may close with any code; a label may not be any
	}
	m.closed.WithLabelValues(strconv.Itoa(int(code))).Inc()
	m.ended.WithLabelValues(e.cause).Inc()
}

func known(code CloseCode) bool {
	for _, c := range closeCodes {
		if c == code {
			return true
		}
	}
	return false
}

// tally counts what a session handled since it was idle last: counters are shared by all sessions, and dear to those
// that are busy at once.
func (m *metrics) tally(sc *scratch) {
	m.framesIn[frameTelemetry].Add(float64(sc.frames))
	m.bytes.Add(float64(sc.bytes))
	sc.frames, sc.bytes = 0, 0
}
