package api

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

// The bounds of a live view.
const (
	telemetryQueue      = 1024
	telemetryQueueBytes = 1 << 20
	eventQueue          = 4096
	eventQueueBytes     = 4 << 20

	viewerMessageBytes = 64 << 10
	viewerWriteTimeout = 10 * time.Second
	viewerCloseGrace   = time.Second
	pingEvery          = 25 * time.Second
	pongWithin         = 60 * time.Second
	viewerMessageRate  = 20 // a second
	viewerMessageBurst = 60
)

// closing says why the hub ends a view. Codes 4000-4499: come back later; 4500-4999: not without a change.
type closing struct {
	code   int
	text   string
	reason string // of the metric
}

var (
	stopping   = closing{websocket.CloseGoingAway, "the hub stops", "stopping"}
	signedOut  = closing{4401, "the token or session has ended", "signed_out"}
	newRights  = closing{4000, "what this operator may see has changed: connect again", "rights"}
	tooSlow    = closing{4429, "this view takes events too slowly", "slow"}
	tooMany    = closing{4429, "too many messages", "flood"}
	wrongKind  = closing{4502, "want text messages", "protocol"}
	unheard    = closing{4000, "the event bus is away: connect again", "bus"}
	peerClosed = closing{websocket.CloseNormalClosure, "", "peer"}
)

// closeReasons are the reasons of fairlead_api_live_closed_total.
var closeReasons = []string{"stopping", "signed_out", "rights", "slow", "flood", "protocol", "bus", "peer"}

// viewer is one live view. Its reader runs on the handler's goroutine; its writer is the one goroutine beside it.
type viewer struct {
	// static after newViewer
	live  *live
	who   *identity
	ready chan struct{} // of 1: something to write, or to look at
	place place         // owned by the handler

	sub   atomic.Pointer[subscription]
	doubt atomic.Bool // look whether the operator may still be here

	mu        sync.Mutex
	telemetry queue    // guarded by mu
	events    queue    // guarded by mu; all that is never dropped
	order     uint64   // guarded by mu
	dropped   int      // guarded by mu; telemetry events that no gap has told of
	ending    *closing // guarded by mu
}

func newViewer(l *live, who *identity) *viewer {
	v := &viewer{live: l, who: who, ready: make(chan struct{}, 1)}
	v.doubt.Store(true) // the operator may have changed since the request was let in
	return v
}

// queue is a bounded first-in first-out of frames in the order they came.
type queue struct {
	items []queued
	bytes int
}

type queued struct {
	order uint64
	frame []byte
}

func (q *queue) push(i queued) { q.items, q.bytes = append(q.items, i), q.bytes+len(i.frame) }

func (q *queue) pop() queued {
	first := q.items[0]
	q.items[0] = queued{}
	q.items, q.bytes = q.items[1:], q.bytes-len(first.frame)
	return first
}

// offer queues an event. A slow viewer loses its oldest telemetry and frames; one that cannot even take the rest is closed.
func (v *viewer) offer(k Kind, frame []byte) {
	v.mu.Lock()
	v.order++
	item := queued{v.order, frame}
	if k.lossy() {
		v.telemetry.push(item)
		for len(v.telemetry.items) > telemetryQueue || v.telemetry.bytes > telemetryQueueBytes {
			v.telemetry.pop()
			v.dropped++
			v.live.api.metrics.dropped.Inc()
		}
	} else {
		v.events.push(item)
		if len(v.events.items) > eventQueue || v.events.bytes > eventQueueBytes {
			v.endLocked(tooSlow)
		}
	}
	v.mu.Unlock()
	v.wake()
}

// next takes the next frame to write: a gap first, then whatever came first.
func (v *viewer) next() (frame []byte, ending *closing) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.ending != nil:
		return nil, v.ending
	case v.dropped > 0:
		n := v.dropped
		v.dropped = 0
		return []byte(`{"event":"gap","dropped":` + strconv.Itoa(n) + `}`), nil
	case len(v.telemetry.items) == 0 && len(v.events.items) == 0:
		return nil, nil
	case len(v.events.items) == 0,
		len(v.telemetry.items) > 0 && v.telemetry.items[0].order < v.events.items[0].order:
		return v.telemetry.pop().frame, nil
	default:
		return v.events.pop().frame, nil
	}
}

func (v *viewer) end(why closing) {
	v.mu.Lock()
	v.endLocked(why)
	v.mu.Unlock()
	v.wake()
}

// endLocked keeps the first reason.
func (v *viewer) endLocked(why closing) {
	if v.ending == nil {
		v.ending = &why
		v.telemetry, v.events, v.dropped = queue{}, queue{}, 0
	}
}

func (v *viewer) recheck() {
	v.doubt.Store(true)
	v.wake()
}

func (v *viewer) wake() {
	select {
	case v.ready <- struct{}{}:
	default:
	}
}

// serve runs the view until either side ends it, and returns when both of its goroutines are done.
func (v *viewer) serve(conn *websocket.Conn) {
	defer conn.Close()
	pings := &pings{}
	written := make(chan struct{})
	go func() {
		defer close(written)
		why := v.write(conn, pings)
		v.live.api.metrics.liveClosed.WithLabelValues(why.reason).Inc()
		// The peer has this long to take the close frame: to close on what it still sends would reset the connection.
		_ = conn.SetReadDeadline(time.Now().Add(viewerCloseGrace)) // fails only on a closed socket
	}()
	v.read(conn, pings)
	v.end(peerClosed)
	<-written
}

// ended reports whether the view is over; what still comes is not read.
func (v *viewer) ended() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ending != nil
}

// pings remembers the ping that waits for its pong. Any other pong keeps nothing alive.
type pings struct{ sent atomic.Uint64 }

func (p *pings) payload() []byte { return strconv.AppendUint(nil, p.sent.Add(1), 10) }

func (p *pings) answeredBy(payload string) bool {
	return payload == strconv.FormatUint(p.sent.Load(), 10)
}

// read takes the viewer's subscriptions until the socket ends.
func (v *viewer) read(conn *websocket.Conn, p *pings) {
	limit := rate.NewLimiter(viewerMessageRate, viewerMessageBurst)
	conn.SetReadLimit(viewerMessageBytes)
	deadline := func() error { return conn.SetReadDeadline(time.Now().Add(pongWithin)) }
	if deadline() != nil {
		return
	}
	conn.SetPongHandler(func(payload string) error {
		if !p.answeredBy(payload) || v.ended() {
			return nil
		}
		return deadline()
	})
	answerPing := conn.PingHandler()
	conn.SetPingHandler(func(payload string) error {
		if !limit.Allow() {
			v.end(tooMany)
			return nil
		}
		return answerPing(payload)
	})
	for {
		kind, data, err := conn.ReadMessage()
		switch {
		case err != nil:
			return
		case v.ended():
		case kind != websocket.TextMessage:
			v.end(wrongKind)
		case !limit.Allow():
			v.end(tooMany)
		default:
			v.take(data)
		}
	}
}

// take carries out one message of the viewer and tells it what came of it.
func (v *viewer) take(data []byte) {
	sub, err := parseSubscription(data)
	if err == nil {
		if err = v.live.change(v, sub); err != nil {
			v.end(unheard)
			return
		}
		said := map[string]any{"event": "subscribed", "events": sub.kinds}
		if unknown := v.live.unknown(v.who, sub); len(unknown) > 0 {
			said["unknown"] = unknown
		}
		v.tell(said)
		return
	}
	doc, _ := toProblem(err)
	said := map[string]any{"event": "error", "code": doc.Code, "message": doc.Detail}
	if doc.Path != "" {
		said["path"] = doc.Path
	}
	v.tell(said)
}

func (v *viewer) tell(frame map[string]any) {
	data, err := json.Marshal(frame)
	if err != nil {
		return // strings and kinds always encode
	}
	v.offer("", data)
}

// write sends what is queued, pings, and ends the view when the operator's rights do.
func (v *viewer) write(conn *websocket.Conn, p *pings) closing {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	expire := time.NewTimer(v.who.expires.Sub(v.live.api.opts.Now()))
	defer expire.Stop()
	for {
		if v.doubt.Swap(false) {
			v.look()
		}
		frame, ending := v.next()
		switch {
		case ending != nil:
			return v.sayClose(conn, *ending)
		case frame != nil:
			if conn.SetWriteDeadline(time.Now().Add(viewerWriteTimeout)) != nil ||
				conn.WriteMessage(websocket.TextMessage, frame) != nil {
				return v.lost()
			}
			continue
		}
		select {
		case <-v.ready:
		case <-expire.C:
			v.end(signedOut)
		case <-tick.C:
			v.doubt.Store(true)
			if conn.WriteControl(websocket.PingMessage, p.payload(), time.Now().Add(viewerWriteTimeout)) != nil {
				return v.lost()
			}
		}
	}
}

// lost is why a view ends whose socket takes nothing more: it was ended, or the peer went.
func (v *viewer) lost() closing {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ending != nil {
		return *v.ending
	}
	return peerClosed
}

func (v *viewer) sayClose(conn *websocket.Conn, why closing) closing {
	// The peer may be gone; there is nobody else to tell.
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(why.code, why.text), time.Now().Add(viewerWriteTimeout))
	return why
}

// look ends the view if its operator may no longer be here, or sees other devices than before.
func (v *viewer) look() {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	now, err := v.live.api.current(ctx, v.who)
	switch {
	case errors.Is(err, errUnauthenticated):
		v.end(signedOut)
	case err == nil && now.boundTo() != v.who.boundTo():
		v.end(newRights)
	}
}
