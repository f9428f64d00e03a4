package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

// LiveProtocol is the subprotocol of the live WebSocket.
const LiveProtocol = "fairlead.live.v1"

const (
	livePath     = "/api/v1/live"
	bearerPrefix = "bearer."
)

// live fans events out to viewers. It hears a kind of events on the bus only while a viewer wants it, and tells the
// Watcher which devices' telemetry and frames are looked at.
type live struct {
	// static after New
	api      *API
	upgrader websocket.Upgrader
	places   *places

	mu      sync.Mutex
	running bool                      // guarded by mu
	viewers map[*viewer]struct{}      // guarded by mu
	all     atomic.Pointer[[]*viewer] // the same, for events, which take no lock
	hearing map[Kind]*hearing         // guarded by mu
	watched map[mark]int              // guarded by mu; viewers
	gone    sync.WaitGroup            // viewers; Add under mu while running
}

// hearing is the subscription of one kind.
type hearing struct {
	viewers int
	sub     *nats.Subscription
}

func newLive(a *API) *live {
	l := &live{
		api: a, viewers: map[*viewer]struct{}{}, hearing: map[Kind]*hearing{}, watched: map[mark]int{},
		places: newPlaces(maxViewers, operatorViewers, errTooManyViewers, errLiveViews),
	}
	l.upgrader = websocket.Upgrader{
		HandshakeTimeout: writeTimeout, ReadBufferSize: 1024, WriteBufferSize: 4096, WriteBufferPool: &sync.Pool{},
		Subprotocols: []string{LiveProtocol},
		CheckOrigin:  func(*http.Request) bool { return true }, // checkOrigin has run: it depends on how the caller is known
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			problem.New(status, "upgrade_refused", reason.Error()).Write(w)
		},
	}
	l.all.Store(&[]*viewer{})
	return l
}

// run lets viewers in until ctx ends, then closes them all and waits for them.
func (l *live) run(ctx context.Context) error {
	l.mu.Lock()
	l.running = true
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock()
	l.running = false
	l.mu.Unlock()
	for _, v := range *l.all.Load() {
		v.end(stopping)
	}
	l.gone.Wait()
	return nil
}

// open upgrades the request and serves the viewer until either side ends it.
func (l *live) open(c *call) (*reply, error) {
	if !slices.Contains(websocket.Subprotocols(c.Request), LiveProtocol) {
		return nil, problem.New(http.StatusBadRequest, "subprotocol_needed", "a live view is a WebSocket with the subprotocol "+LiveProtocol).
			WithHint("offer Sec-WebSocket-Protocol: " + LiveProtocol)
	}
	if err := l.checkOrigin(c); err != nil {
		return nil, l.api.refused("cross_origin", err)
	}
	v := newViewer(l, c.who)
	if err := l.enter(v); err != nil {
		return nil, err
	}
	defer l.leave(v)
	conn, err := l.upgrader.Upgrade(c.w, c.Request, nil)
	if err != nil {
		// The upgrader has answered.
		l.api.opts.Log.Debug("live view not upgraded", "operator", c.who.name, "err", err)
		return &reply{taken: true}, nil
	}
	c.slot.leave() // a view has a place of its own
	v.serve(conn)
	return &reply{taken: true}, nil
}

// checkOrigin refuses other sites' pages the use of a cookie that the browser sends by itself [CWE-1385].
func (l *live) checkOrigin(c *call) error {
	if c.who.session == "" {
		return nil
	}
	origin := c.Header.Get("Origin")
	if l.api.origins[origin] {
		return nil
	}
	u, err := url.Parse(origin)
	scheme := "https"
	if l.api.opts.Plaintext {
		scheme = "http"
	}
	if err != nil || origin == "" || u.Scheme != scheme || !strings.EqualFold(u.Host, c.Host) {
		return errCrossOrigin
	}
	return nil
}

func (l *live) enter(v *viewer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running {
		return ErrUnavailable
	}
	if err := l.api.enter(&v.place, l.places, v.who.name); err != nil {
		return err
	}
	l.viewers[v] = struct{}{}
	l.listLocked()
	l.gone.Add(1)
	l.api.metrics.viewers.Inc()
	return nil
}

func (l *live) listLocked() {
	all := slices.Collect(maps.Keys(l.viewers))
	l.all.Store(&all)
}

func (l *live) leave(v *viewer) {
	// Nothing to hear cannot fail.
	_ = l.change(v, nil)
	l.mu.Lock()
	delete(l.viewers, v)
	l.listLocked()
	l.mu.Unlock()
	v.place.leave()
	l.api.metrics.viewers.Dec()
	l.gone.Done()
}

// change replaces what v looks at, and starts and stops hearing and watching accordingly. Only v's reader calls it.
func (l *live) change(v *viewer, to *subscription) error {
	if err := l.swap(v, to); err != nil || to == nil {
		return err
	}
	// What is published after the viewer is told that it is subscribed must reach it, also from a remote bus.
	if err := l.api.opts.Bus.Conn().FlushTimeout(requestTimeout); err != nil {
		return fmt.Errorf("hear events: %w: %w", ErrUnavailable, err)
	}
	return nil
}

func (l *live) swap(v *viewer, to *subscription) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.hearLocked(to); err != nil {
		return err
	}
	from := v.sub.Swap(to)
	l.unhearLocked(from)
	// Under the lock, since a late "off" must not follow the next viewer's "on"; the Watcher does not block.
	l.watchLocked(from, to)
	return nil
}

func (l *live) watchLocked(from, to *subscription) {
	for _, m := range to.marks() {
		if l.watched[m]++; l.watched[m] == 1 {
			l.tell(m, true)
		}
	}
	for _, m := range from.marks() {
		if l.watched[m]--; l.watched[m] == 0 {
			delete(l.watched, m)
			l.tell(m, false)
		}
	}
}

func (l *live) tell(m mark, on bool) {
	if w := l.api.opts.Watcher; w != nil {
		w.Watch(m.kind, m.device, on)
	}
}

// unknown are the devices of s that the viewer may not see, or that are not there: it is told, since nothing will come.
func (l *live) unknown(who *identity, s *subscription) (out []string) {
	for d := range s.devices {
		if _, known := l.api.opts.Devices.Labels(d); !known || !l.api.visible(who, d) {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return out
}

// hearLocked subscribes to the kinds of s that nobody wanted yet. On error nothing has changed.
func (l *live) hearLocked(s *subscription) error {
	if s == nil {
		return nil
	}
	for i, k := range s.kinds {
		h := l.hearing[k]
		if h == nil {
			sub, err := subscribe(l.api.opts.Bus.Conn(), k, func(device string, payload []byte) { l.deliver(k, device, payload) })
			if err != nil {
				l.unhearLocked(&subscription{kinds: s.kinds[:i]})
				return fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			h = &hearing{sub: sub}
			l.hearing[k] = h
		}
		h.viewers++
	}
	return nil
}

func (l *live) unhearLocked(s *subscription) {
	if s == nil {
		return
	}
	for _, k := range s.kinds {
		h := l.hearing[k]
		if h.viewers--; h.viewers == 0 {
			delete(l.hearing, k)
			// It fails only when the bus is closed.
			_ = h.sub.Unsubscribe()
		}
	}
}

// deliver hands one event to every viewer that wants and may have it. It runs on the bus's goroutine of the kind.
func (l *live) deliver(k Kind, device string, payload []byte) {
	for _, v := range *l.all.Load() {
		if v.sub.Load().wants(k, device) && l.api.visible(v.who, device) {
			v.offer(k, payload)
			l.api.metrics.events.WithLabelValues(string(k)).Inc()
		}
	}
}

// recheckAll has every live view look whether it may still be there.
func (l *live) recheckAll() {
	for _, v := range *l.all.Load() {
		v.recheck()
	}
}

// recheck has every live view of an operator look whether it may still be there.
func (l *live) recheck(operator string) {
	for _, v := range *l.all.Load() {
		if v.who.name == operator {
			v.recheck()
		}
	}
}
