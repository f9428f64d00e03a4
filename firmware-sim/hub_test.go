package sim_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/devices/wire"
	sim "github.com/fairlead-hub/fairlead/firmware-sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests; none of them asserts a time.
const patience = 30 * time.Second

var generous = wire.Limits{FrameBytes: 65536, PointsPerFrame: 1000, UnackedFrames: 256}

// stored is one point as the hub keeps it.
type stored struct {
	measurement string
	time        int64
	fields      string
}

// hub follows the protocol on the other side and holds the devices to it. What a test wants otherwise it does in script.
type hub struct {
	t       *testing.T
	server  *httptest.Server
	limits  wire.Limits
	beat    int                      // heartbeat_s
	ahead   time.Duration            // the hub's clock before ours
	script  func(n int, s *link)     // of the n-th session of all, from 1; nil: obey
	refuse  func(n int) *sim.Refusal // the n-th request, from 1; nil: none
	retry   string                   // Retry-After of refusals
	done    sync.WaitGroup
	release chan struct{} // closed at the end

	mu       sync.Mutex
	requests int
	sessions int
	kept     map[string][]stored // by device, in order of storing
	faults   []string            // of devices against the protocol
}

func newHub(t *testing.T) *hub {
	h := &hub{t: t, limits: generous, beat: 30, kept: map[string][]stored{}, release: make(chan struct{})}
	h.server = httptest.NewUnstartedServer(h)
	h.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	return h
}

func (h *hub) start() *hub {
	h.server.StartTLS()
	h.t.Cleanup(func() {
		close(h.release)
		h.server.CloseClientConnections()
		h.server.Close()
		h.done.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, f := range h.faults {
			h.t.Errorf("a device broke the protocol: %s", f)
		}
	})
	return h
}

func (h *hub) blame(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, fmt.Sprintf(format, args...))
}

func (h *hub) points(device string) []stored {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]stored(nil), h.kept[device]...)
}

// final is what a store holds that keeps the last point of a time.
func (h *hub) final(device string) map[int64]string {
	out := map[int64]string{}
	for _, p := range h.points(device) {
		out[p.time] = p.fields
	}
	return out
}

func (h *hub) uplink(codec wire.Codec) *sim.Uplink {
	address, err := sim.DeviceURL(h.server.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(h.server.Certificate())
	return &sim.Uplink{
		URL: address, TLS: &tls.Config{RootCAs: roots}, Codec: codec, Tokens: idTokens{},
		Backoff: sim.Backoff{Base: 5 * time.Millisecond, Max: 50 * time.Millisecond}, Drain: patience, Counts: &sim.Counters{},
	}
}

// idTokens says who the device is, and nothing more: the fake hub believes it.
type idTokens struct{}

func (idTokens) Token(_ context.Context, device string, _ bool) (string, error) { return device, nil }

// ServeHTTP is the device endpoint.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.done.Add(1)
	defer h.done.Done()
	var device string
	_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &device)
	h.mu.Lock()
	h.requests++
	n := h.requests
	h.mu.Unlock()
	if h.refuse != nil {
		if no := h.refuse(n); no != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", h.retry)
			w.WriteHeader(no.Status)
			fmt.Fprintf(w, `{"title":"no","status":%d,"detail":%q,"code":%q,"time":%d}`, no.Status, no.Detail, no.Code, time.Now().UnixMilli())
			return
		}
	}
	up := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolJSON, wire.SubprotocolCBOR}}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	s := &link{h: h, conn: conn, device: device, frames: make(chan wire.Frame, 1024)}
	if conn.Subprotocol() == wire.SubprotocolCBOR {
		s.codec = wire.CBOR
	}
	h.mu.Lock()
	h.sessions++
	n = h.sessions
	h.mu.Unlock()
	h.done.Go(s.read)
	s.send(&wire.Welcome{
		Session: fmt.Sprint("s", n), Device: device, Time: time.Now().Add(h.ahead).UnixMilli(), HeartbeatS: h.beat, Limits: h.limits,
	})
	if h.script == nil {
		s.obey()
		return
	}
	h.script(n, s)
}

// link is one session on the hub's side.
type link struct {
	h      *hub
	conn   *websocket.Conn
	codec  wire.Codec
	device string
	frames chan wire.Frame // closed at the end of the socket

	mu      sync.Mutex
	lastSeq uint64
	unacked int
}

// read decodes what the device sends and checks it against the limits.
func (s *link) read() {
	defer close(s.frames)
	for {
		_, data, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		f, err := new(wire.Decoder).Decode(s.codec, data)
		if err != nil {
			s.h.blame("%s sent %q: %v", s.device, data, err)
			continue
		}
		if t, ok := f.(*wire.Telemetry); ok {
			s.check(t, len(data))
		}
		select {
		case s.frames <- f:
		case <-s.h.release:
			return
		}
	}
}

func (s *link) check(t *wire.Telemetry, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unacked++
	switch {
	case t.Seq <= s.lastSeq:
		s.h.blame("%s: seq %d after %d", s.device, t.Seq, s.lastSeq)
	case len(t.Points) > s.h.limits.PointsPerFrame:
		s.h.blame("%s: %d points in a frame", s.device, len(t.Points))
	case size > s.h.limits.FrameBytes:
		s.h.blame("%s: a frame of %d bytes", s.device, size)
	case s.unacked > s.h.limits.UnackedFrames:
		s.h.blame("%s: %d frames unacked", s.device, s.unacked)
	}
	s.lastSeq = t.Seq
}

// send writes one frame. A socket that broke shows in read.
func (s *link) send(f any) {
	data, err := wire.Append(nil, s.codec, f)
	if err != nil {
		s.h.blame("hub: %v", err)
	}
	kind := websocket.TextMessage
	if s.codec == wire.CBOR {
		kind = websocket.BinaryMessage
	}
	_ = s.conn.WriteMessage(kind, data)
}

// next returns the next frame; nil when the socket is gone.
func (s *link) next() wire.Frame {
	select {
	case f := <-s.frames:
		return f
	case <-s.h.release:
		return nil
	case <-time.After(patience):
		s.h.blame("%s is silent", s.device)
		return nil
	}
}

// telemetry returns the next telemetry frame, and forgets others.
func (s *link) telemetry() *wire.Telemetry {
	for {
		switch f := s.next().(type) {
		case nil:
			return nil
		case *wire.Telemetry:
			return f
		}
	}
}

// answer returns the next answer of the kind, and acks telemetry meanwhile.
func (s *link) answer(kind wire.AnswerKind) *wire.Answer {
	for {
		switch f := s.next().(type) {
		case nil:
			return nil
		case *wire.Telemetry:
			s.take(f)
		case *wire.Answer:
			if f.Kind == kind {
				return f
			}
		}
	}
}

// take stores a frame and acks it.
func (s *link) take(t *wire.Telemetry) {
	s.store(t)
	s.ack(t.Seq, 1)
}

func (s *link) ack(seq uint64, frames int) {
	s.mu.Lock()
	s.unacked -= frames
	s.mu.Unlock()
	s.send(&wire.Ack{Seq: seq})
}

func (s *link) store(t *wire.Telemetry) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	for _, p := range t.Points {
		if !p.HasTime {
			s.h.faults = append(s.h.faults, s.device+" sent a point without a time")
		}
		var fields []string // a map has no order on the wire
		for _, f := range p.Fields {
			fields = append(fields, fmt.Sprintf("%s=%s", f.Key, f.Value))
		}
		slices.Sort(fields)
		s.h.kept[s.device] = append(s.h.kept[s.device], stored{string(p.Measurement), p.Time, strings.Join(fields, " ")})
	}
}

// obey does what the protocol says until the socket ends.
func (s *link) obey() {
	for {
		switch f := s.next().(type) {
		case nil:
			return
		case *wire.Telemetry:
			s.take(f)
		case *wire.Answer:
			if f.Kind == wire.Result {
				s.send(&wire.Ack{ID: f.ID})
			}
		}
	}
}

// bye closes as a hub does.
func (s *link) bye(code int, reason string, retryMS int64) {
	s.send(&wire.Bye{Code: code, Reason: reason, RetryAfterMS: retryMS})
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(patience))
}

// cut breaks the link without a goodbye.
func (s *link) cut() {
	if raw, ok := s.conn.NetConn().(*tls.Conn); ok {
		if tcp, ok := raw.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}
}

// run starts one part and returns how to end it and learn how it went.
func run(t *testing.T, part interface{ Run(context.Context) error }) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- part.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-result
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// finish waits for a part to end by itself.
func finish(t *testing.T, part interface{ Run(context.Context) error }) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := part.Run(ctx)
	if ctx.Err() != nil {
		t.Fatalf("it did not end: %v", err)
	}
	return err
}

func device(t *testing.T, u *sim.Uplink, o sim.DeviceOptions) *sim.Device {
	t.Helper()
	if o.ID == "" {
		o.ID = "dev-1"
	}
	if o.Model == "" {
		o.Model = "meter"
	}
	if o.Interval == 0 {
		o.Interval = 5 * time.Millisecond
	}
	d, err := sim.NewDevice(u, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// until waits for a condition that the other side brings about.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !met(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // between two looks; nothing depends on its length
	}
}
