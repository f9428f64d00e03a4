package main_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// machine is a device that follows the protocol and has bad luck: its wifi drops, it comes twice, it answers late, twice
// or never. What it did it remembers, whatever becomes of its connections and of the hub.
type machine struct {
	id, token string
	hubs      func() []string // where it may connect
	history   *history
	forgets   bool // the negative control: it acts on a repeated id again
	calm      chan struct{}

	wg sync.WaitGroup

	mu      sync.Mutex
	rnd     *rand.Rand      // guarded by mu, like all that follows
	known   map[string]bool // acted on
	unacked map[string]saying
	pending int   // what it does later
	line    *line // the newest
}

// line is one connection.
type line struct {
	ws *websocket.Conn
	mu sync.Mutex // of writing
}

func newMachine(id, token string, h *history, hubs func() []string, seed uint64) *machine {
	return &machine{
		id: id, token: token, hubs: hubs, history: h, calm: make(chan struct{}), rnd: rand.New(rand.NewPCG(seed, 7)),
		known: make(map[string]bool), unacked: make(map[string]saying),
	}
}

// chance is true once in n times, on the average, and never once the machine is calm.
func (m *machine) chance(n int) bool {
	select {
	case <-m.calm:
		return false
	default:
	}
	return m.intn(n) == 0
}

func (m *machine) intn(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rnd.IntN(n)
}

// run keeps the machine connected until ctx ends.
func (m *machine) run(ctx context.Context) {
	defer m.wg.Wait()
	for ctx.Err() == nil {
		hubs := m.hubs()
		if l := m.dial(ctx, hubs[m.intn(len(hubs))]); l != nil {
			m.serve(ctx, l)
		}
		select {
		case <-time.After(time.Duration(1+m.intn(50)) * time.Millisecond): // its backoff
		case <-ctx.Done():
		}
	}
}

func (m *machine) dial(ctx context.Context, url string) *line {
	d := &websocket.Dialer{HandshakeTimeout: waitBound, Subprotocols: []string{jsonFrames}}
	ws, _, err := d.DialContext(ctx, url, http.Header{"Authorization": {"Bearer " + m.token}})
	if err != nil {
		return nil // the hub is dead, or starts
	}
	l := &line{ws: ws}
	m.mu.Lock()
	m.line = l
	m.mu.Unlock()
	return l
}

// serve reads until the connection ends. First it repeats what the hub has not confirmed.
func (m *machine) serve(ctx context.Context, l *line) {
	stop := context.AfterFunc(ctx, func() { _ = l.ws.Close() })
	defer stop()
	defer l.ws.Close()
	m.mu.Lock()
	again := make(map[string]saying, len(m.unacked))
	for id, s := range m.unacked {
		again[id] = s
	}
	m.mu.Unlock()
	for id, s := range again {
		l.result(id, s)
	}
	for {
		_, raw, err := l.ws.ReadMessage()
		if err != nil {
			return
		}
		var f struct {
			Type, ID string
			Expires  int64
			Timeout  int64 `json:"timeout_ms"`
			Params   struct{ N int }
		}
		if json.Unmarshal(raw, &f) != nil {
			return
		}
		switch f.Type {
		case "command":
			m.receive(l, f.ID, f.Params.N, f.Expires, time.Duration(f.Timeout)*time.Millisecond)
		case "cancel":
			m.cancel(l, f.ID)
		case "ack":
			m.acked(f.ID)
		}
		if m.chance(60) {
			return // wifi dies
		}
		if m.chance(80) {
			m.twin(ctx)
		}
	}
}

// twin is a second connection of the same device; the hub ends the first.
func (m *machine) twin(ctx context.Context) {
	hubs := m.hubs()
	m.wg.Go(func() {
		if l := m.dial(ctx, hubs[m.intn(len(hubs))]); l != nil {
			m.serve(ctx, l)
		}
	})
}

// receive acts on a command, once per id.
func (m *machine) receive(l *line, id string, n int, expires int64, timeout time.Duration) {
	now := time.Now().UnixMilli()
	h := m.history
	m.mu.Lock()
	h.mu.Lock()
	h.arrivals[m.id] = append(h.arrivals[m.id], arrival{id, n})
	said, answered := h.said[id]
	act := now < expires && (!m.known[id] || m.forgets)
	if act {
		m.known[id] = true
		h.deeds[m.id] = append(h.deeds[m.id], deed{id, now})
	}
	h.mu.Unlock()
	luck := m.rnd.IntN(100)
	m.mu.Unlock()
	switch {
	case act && !answered:
		m.act(l, id, luck, timeout)
	case answered:
		l.result(id, said)
	}
}

// act does what luck wants.
func (m *machine) act(l *line, id string, luck int, timeout time.Duration) {
	if m.forgets {
		luck = 70 // it loses the connection each time
	}
	switch {
	case luck < 25:
		l.say("accept", id)
		m.answer(l, id, saying{ok: true})
	case luck < 45:
		m.answer(l, id, saying{ok: true})
	case luck < 55:
		m.answer(l, id, saying{code: "jammed"})
	case luck < 60:
		m.answer(l, id, saying{code: "rejected"})
	case luck < 70: // twice
		m.answer(l, id, saying{ok: true})
		l.result(id, saying{ok: true})
	case luck < 80: // the wifi dies before it can say so
		m.say(id, saying{ok: true})
		_ = l.ws.Close()
	case luck < 87: // late
		m.later(timeout+50*time.Millisecond, func() { m.answer(nil, id, saying{ok: luck%2 == 0, code: "jammed"}) })
	case luck < 95: // slow
		l.say("accept", id)
		m.later(20*time.Millisecond, func() {
			l.say("progress", id)
			m.later(20*time.Millisecond, func() { m.answer(nil, id, saying{ok: true}) })
		})
	case luck < 98: // accepted, and then silence
		l.say("accept", id)
	}
}

// later does something after a while; run waits for it.
func (m *machine) later(after time.Duration, do func()) {
	m.wg.Add(1)
	m.plan(1)
	time.AfterFunc(after, func() {
		defer m.wg.Done()
		defer m.plan(-1)
		do()
	})
}

// say fixes the machine's word on a try; the first counts.
func (m *machine) say(id string, s saying) (saying, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history.mu.Lock()
	defer m.history.mu.Unlock()
	if old, ok := m.history.said[id]; ok {
		return old, false
	}
	m.history.said[id] = s
	m.unacked[id] = s
	return s, true
}

// answer gives the result, on a line or on the newest.
func (m *machine) answer(l *line, id string, s saying) {
	s, _ = m.say(id, s)
	if l == nil {
		m.mu.Lock()
		l = m.line
		m.mu.Unlock()
	}
	l.result(id, s)
}

// cancel stops what is not done; what is done is done.
func (m *machine) cancel(l *line, id string) {
	m.mu.Lock()
	known := m.known[id]
	m.mu.Unlock()
	if known {
		m.answer(l, id, saying{code: "cancelled"})
	}
}

func (m *machine) acked(id string) {
	if id == "" {
		return // of telemetry
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history.mu.Lock()
	defer m.history.mu.Unlock()
	delete(m.unacked, id)
	m.history.acked[id] = true
}

func (m *machine) plan(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending += n
}

// owes is how many results are not said or not confirmed.
func (m *machine) owes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.unacked) + m.pending
}

func (l *line) say(kind, id string) { l.write(map[string]any{"type": kind, "id": id, "percent": 50}) }

func (l *line) result(id string, s saying) {
	f := map[string]any{"type": "result", "id": id, "ok": s.ok}
	if !s.ok {
		f["error"] = map[string]string{"code": s.code, "message": "as luck would have it"}
	}
	l.write(f)
}

// write writes a frame; a line that is dead says so to its reader.
func (l *line) write(f map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.ws.WriteJSON(f)
}

// calmDown lets all machines be lucky from now on.
func calmDown(all []*machine) {
	for _, m := range all {
		close(m.calm)
	}
}

// settled waits until every machine's results are confirmed.
func settled(t *testing.T, all []*machine) {
	t.Helper()
	until(t, "all results are confirmed", func() bool {
		for _, m := range all {
			if m.owes() > 0 {
				return false
			}
		}
		return true
	})
}
