package bus

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

const (
	// markLease is how long a mark lasts of which nothing more is heard; it is said again markLease/3 apart.
	markLease = 15 * time.Second
	// markNames bounds the names of one message, maxMarks those that all nodes may mark at once.
	markNames = 1000
	maxMarks  = 256_000
)

// Marks are names that somebody on any node looks at: each node says which it does, again and again, and every node
// hears it. What nobody looks at costs nothing.
type Marks struct {
	nc      *nats.Conn
	subject string
	self    string
	lease   time.Duration
	changed func(name string, on bool)
	log     *slog.Logger
	wake    chan struct{} // of 1: something is to be told

	mu     sync.Mutex
	own    map[string]int                  // guarded by mu; how many look here
	tell   map[string]bool                 // guarded by mu; marks of our own that the others have not heard of
	others map[string]map[string]time.Time // guarded by mu; name -> node -> when its mark ends
}

// marking is what nodes say to each other.
type marking struct {
	From string   `json:"from"`
	On   []string `json:"on,omitempty"`
	Off  []string `json:"off,omitempty"`
	Ask  bool     `json:"ask,omitempty"` // tell me all of yours
}

// Marks returns the marks of one kind. changed hears of the first look at a name and of the last one's end, in order,
// under a lock: it must not block and not mark. A lease of 0 is the usual one.
func (b *Bus) Marks(kind string, lease time.Duration, changed func(name string, on bool)) (*Marks, error) {
	if err := wire.CheckID(kind); err != nil {
		return nil, fmt.Errorf("kind of marks: %w", err)
	}
	if lease <= 0 {
		lease = markLease
	}
	return &Marks{
		nc: b.nc, subject: markPrefix + kind, self: rand.Text(), lease: lease, changed: changed, log: b.opts.Log,
		wake: make(chan struct{}, 1), own: map[string]int{}, tell: map[string]bool{}, others: map[string]map[string]time.Time{},
	}, nil
}

// Mark says that somebody here looks at a name, or that one of them does no more. It does not block; other nodes hear of
// it soon.
func (m *Marks) Mark(name string, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.own[name]
	m.changeLocked(name, func() {
		if on {
			m.own[name]++
		} else if m.own[name]--; m.own[name] <= 0 {
			delete(m.own, name)
		}
	})
	if (before > 0) == (m.own[name] > 0) {
		return
	}
	m.tell[name] = on
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// changeLocked tells whether a change was the first mark of a name or the end of the last.
func (m *Marks) changeLocked(name string, change func()) {
	marked := func() bool { return m.own[name] > 0 || len(m.others[name]) > 0 }
	before := marked()
	change()
	if now := marked(); now != before {
		m.changed(name, now)
	}
}

// Run tells and hears marks until ctx ends; it then takes its own back.
func (m *Marks) Run(ctx context.Context) error {
	sub, err := m.nc.Subscribe(m.subject, m.hear)
	if err != nil {
		return fmt.Errorf("hear marks: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the bus is closed
	m.publish(&marking{Ask: true})
	again := time.NewTicker(m.lease / 3)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			m.farewell()
			return nil
		case <-m.wake:
			m.news()
		case <-again.C:
			m.renew()
			m.expire(time.Now())
		}
	}
}

// news tells what has changed here.
func (m *Marks) news() {
	m.mu.Lock()
	var on, off []string
	for name, looks := range m.tell {
		if looks {
			on = append(on, name)
		} else {
			off = append(off, name)
		}
	}
	clear(m.tell)
	m.mu.Unlock()
	m.publishAll(on, off)
}

// renew says again what is marked here.
func (m *Marks) renew() { m.publishAll(m.names(), nil) }

func (m *Marks) farewell() { m.publishAll(nil, m.names()) }

func (m *Marks) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]string, 0, len(m.own))
	for name := range m.own {
		out = append(out, name)
	}
	return out
}

func (m *Marks) publishAll(on, off []string) {
	for len(on)+len(off) > 0 {
		a, b := min(len(on), markNames), min(len(off), markNames)
		m.publish(&marking{On: on[:a], Off: off[:b]})
		on, off = on[a:], off[b:]
	}
}

// publish is fire and forget: what is lost is said again.
func (m *Marks) publish(say *marking) {
	say.From = m.self
	data, err := json.Marshal(say)
	if err == nil {
		err = m.nc.Publish(m.subject, data)
	}
	if err != nil {
		m.log.Debug("tell marks", "subject", m.subject, "err", err)
	}
}

// hear takes what another node says. It runs on the bus's goroutine.
func (m *Marks) hear(msg *nats.Msg) {
	var said marking
	if err := json.Unmarshal(msg.Data, &said); err != nil || said.From == "" {
		m.log.Debug("marks not understood", "subject", msg.Subject, "err", err)
		return
	}
	if said.From == m.self {
		return
	}
	if said.Ask {
		m.renew()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ends := time.Now().Add(m.lease)
	for _, name := range said.On {
		m.changeLocked(name, func() { m.markLocked(name, said.From, ends) })
	}
	for _, name := range said.Off {
		m.changeLocked(name, func() { m.unmarkLocked(name, said.From) })
	}
}

func (m *Marks) markLocked(name, from string, ends time.Time) {
	if m.others[name] == nil {
		if len(m.others) >= maxMarks {
			return
		}
		m.others[name] = map[string]time.Time{}
	}
	m.others[name][from] = ends
}

func (m *Marks) unmarkLocked(name, from string) {
	delete(m.others[name], from)
	if len(m.others[name]) == 0 {
		delete(m.others, name)
	}
}

// expire ends the marks of nodes that have fallen silent.
func (m *Marks) expire(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, from := range m.others {
		for node, ends := range from {
			if now.After(ends) {
				m.changeLocked(name, func() { m.unmarkLocked(name, node) })
			}
		}
	}
}
