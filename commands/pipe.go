package commands

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// pipe is the way of one device's open commands to its socket. It exists while there are any. One goroutine at a
// time, started on demand, writes its commands one by one: the highest priority first, within one priority in the
// order of creation. What waits for its time, for its next try or for a second operator lets the others pass.
type pipe struct {
	device  string
	open    []*tracked // the highest priority first, then in the order of creation
	pending int        // creations on their way into the log
	session string     // the last that attached here

	working bool // a goroutine works
	again   bool // and shall look once more
	paced   bool // what waited for the device drains at a bounded rate
	next    time.Time
	rest    time.Time // nothing is tried before, after something failed
	cancels []string  // ids that the device shall be asked to stop
}

func (r *Router) pipeLocked(device string) *pipe {
	p := r.pipes[device]
	if p == nil {
		p = &pipe{device: device}
		r.pipes[device] = p
	}
	return p
}

// tidyLocked forgets a pipe that nothing needs.
func (r *Router) tidyLocked(p *pipe) {
	if len(p.open) == 0 && p.pending == 0 && !p.working && r.pipes[p.device] == p {
		delete(r.pipes, p.device)
	}
}

func (p *pipe) insert(t *tracked) {
	i := len(p.open)
	for i > 0 && p.open[i-1].order.Urgency < t.order.Urgency {
		i--
	}
	p.open = slices.Insert(p.open, i, t)
}

func (p *pipe) drop(t *tracked) {
	if i := slices.Index(p.open, t); i >= 0 {
		p.open = slices.Delete(p.open, i, i+1)
	}
}

// waiting is how many commands wait for the device, those on their way into the log included.
func (p *pipe) waiting() int {
	n := p.pending
	for _, t := range p.open {
		if t.state == Queued && !t.written {
			n++
		}
	}
	return n
}

// idle reports that the next command can be written at once.
func (p *pipe) idle(limit int) bool {
	now := time.Now()
	if p.paced || p.pending > 0 || len(p.open) >= limit || !now.After(p.rest) {
		return false
	}
	for _, t := range p.open {
		if t.state == Queued && !t.written && (t.grant != "" || t.ripe(now.UnixMilli())) {
			return false
		}
	}
	return true
}

// Attached hears that a device's session on this node is ready to take commands. It does not block.
func (r *Router) Attached(a Attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started {
		if len(r.early) < maxEarly {
			r.early = append(r.early, func() { r.Attached(a) })
		}
		return
	}
	p := r.pipes[a.Device]
	if p == nil {
		return
	}
	r.takeBackLocked(p, false)
	p.session, p.paced, p.next, p.rest = a.Session, true, time.Time{}, time.Time{}
	for _, t := range p.open {
		if t.cancelAsked && !t.gone && !t.orphan {
			p.cancels = append(p.cancels, wireID(t.id, t.try))
		}
		if t.state == Queued && !t.delivering {
			t.written = false // sent was not recorded
		}
	}
	r.kickLocked(p)
}

// kickLocked makes sure that somebody looks at the pipe from now on.
func (r *Router) kickLocked(p *pipe) {
	switch {
	case !r.started || r.stopping || len(p.open) == 0:
	case p.working:
		p.again = true
	default:
		p.working = true
		r.workers.Go(func() {
			for r.step(p) {
			}
		})
	}
}

// step does one thing for the device and reports whether there may be more to do.
func (r *Router) step(p *pipe) bool {
	node, online := r.presence.Node(p.device)
	here := online && node == r.node
	r.mu.Lock()
	again := p.again
	p.again = false
	cancels := p.cancels
	p.cancels = nil
	r.takeBackLocked(p, false)
	var t *tracked
	var wait time.Duration
	if here && !r.stopping {
		if t = r.nextLocked(p); t != nil {
			wait = p.wait()
		} else {
			p.paced = false
		}
	} else {
		r.releaseLocked(p)
	}
	if t == nil && (!again || r.stopping) && (len(cancels) == 0 || !here) {
		p.working = false
		r.tidyLocked(p)
		r.mu.Unlock()
		return false
	}
	r.mu.Unlock()

	if here {
		r.askCancel(p.device, cancels)
	}
	switch {
	case t == nil:
	case wait > 0:
		select {
		case <-time.After(wait):
		case <-r.ctx.Done():
		}
	default:
		r.deliver(p, t)
	}
	return true
}

func (p *pipe) wait() time.Duration {
	at := p.rest
	if p.paced && p.next.After(at) {
		at = p.next
	}
	return time.Until(at)
}

// nextLocked is the command to write now: the first that waits, or that was written to an earlier session and not
// accepted. It returns nil if there is none, or if the device has enough in hand.
func (r *Router) nextLocked(p *pipe) *tracked {
	now := time.Now().UnixMilli()
	born, known := r.devices.Born(p.device)
	inHand := 0
	for _, t := range p.open {
		switch {
		case t.gone, t.foreign(born, known): // in the hand of another device
		case t.written && t.state == Queued, t.state != Queued && !(r.resend(p, t) && now < t.order.Expires):
			inHand++
		}
	}
	for _, t := range p.open {
		switch {
		case t.foreign(born, known):
			r.unsendLocked(t)
		case t.state == Queued && t.releasing:
			return nil // the order is kept
		case t.state == Queued && t.written: // sent is on its way into the log
		case t.state == Queued && (t.cancelAsked || now >= t.order.Expires):
			r.unsendLocked(t)
		case t.state == Queued && t.grant == "" && !t.ripe(now):
		case t.state == Queued && inHand >= r.cfg.SentPerDevice:
			return nil
		case t.state == Queued, r.resend(p, t) && now < t.order.Expires:
			return t
		}
	}
	return nil
}

// resend reports whether t was written to a session that is gone and not accepted there.
func (r *Router) resend(p *pipe, t *tracked) bool {
	if t.state != Sent || t.cancelAsked {
		return false
	}
	if p.session == "" { // attached before this node heard of the command
		return t.grant != r.node && !t.written
	}
	return t.session != p.session && (!t.written || t.wroteTo != p.session)
}

// releaseLocked gives back what this node may write and has not: the device is not here.
func (r *Router) releaseLocked(p *pipe) {
	for _, t := range p.open {
		r.unsendLocked(t)
	}
}

// unwritten reports that this node may write t and certainly has not.
func (r *Router) unwritten(t *tracked) bool {
	return t.state == Queued && t.grant == r.node && t.fresh && t.wrote == 0 && !t.delivering
}

// unsendLocked gives back the permission to write t, if it is certain that this node has not written it.
func (r *Router) unsendLocked(t *tracked) {
	if !r.unwritten(t) || t.releasing {
		return
	}
	t.releasing = true
	e := r.entry(unsent, t.id)
	e.Attempt, e.Try, e.Detail = t.attempt, t.try, "not written: the device is not on line"
	err := r.propose(&proposal{device: t.device, entry: e, done: func(_ *tracked, _ bool, err error) {
		if err != nil {
			r.stopReleasing(t)
		}
	}}, true)
	if err != nil {
		t.releasing = false
	}
}

func (r *Router) stopReleasing(t *tracked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.releasing = false
}

// entry begins an entry of this node.
func (r *Router) entry(k kind, id string) entry {
	return entry{Kind: k, ID: id, Time: time.Now().UnixMilli(), Node: r.node}
}

// deliver writes t to the device's socket, after the permission to do so is durable.
func (r *Router) deliver(p *pipe, t *tracked) {
	r.mu.Lock()
	if t.state == Queued && t.grant != r.node {
		e := r.entry(sending, t.id)
		e.Try = t.try
		r.mu.Unlock()
		e.Detail = "may be written to the socket now"
		if _, _, err := r.record(r.ctx, p.device, e); err != nil {
			r.pause(p)
		}
		return
	}
	if t.state != Queued && t.state != Sent || t.releasing {
		r.mu.Unlock()
		return
	}
	t.delivering = true
	attempt, try := max(t.attempt, t.wrote)+1, t.try
	if t.state == Queued {
		attempt += t.taken // by other nodes, perhaps
	}
	if t.state == Queued && !t.fresh && t.wrote == 0 {
		attempt++ // an earlier run may have written it
	}
	frame := wire.Command{
		ID: wireID(t.id, try), Name: t.order.Name, Params: t.order.Params, Attempt: attempt,
		Expires: t.order.Expires, TimeoutMS: t.order.TimeoutMS,
	}
	p.next = time.Now().Add(time.Second / time.Duration(max(r.cfg.DrainPerSecond, 1)))
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(r.ctx, deliverTimeout)
	d, err := r.link.Deliver(ctx, p.device, frame)
	cancel()
	r.delivered(p, t, written{attempt: attempt, try: try}, d, err)
}

// written is which frame of a command was written.
type written struct{ attempt, try int }

// unsupported is the error code of a command that its device can never be asked.
const unsupported = "unsupported"

// delivered records what became of a write, and then what the device answered meanwhile.
func (r *Router) delivered(p *pipe, t *tracked, w written, d Delivery, err error) {
	var fx effects
	r.mu.Lock()
	t.delivering = false
	held := t.held
	t.held = nil
	switch {
	case err == nil:
		r.metrics.deliveries.WithLabelValues("written").Inc()
		if t.try == w.try { // else another node ended that try meanwhile
			t.written, t.wroteTo, t.wrote = true, d.Session, w.attempt
		}
		e := r.entry(sent, t.id)
		e.Session, e.Epoch, e.Attempt, e.Try = d.Session, d.Epoch, w.attempt, w.try
		for _, in := range held {
			e.Time = min(e.Time, in.entry.Time) // it had left by then
		}
		// Whoever asked for now or never waits to hear that it has left.
		if err := r.propose(&proposal{device: t.device, entry: e}, t.order.OnlineOnly); err != nil {
			r.log.Debug("record sent", "device_id", t.device, "err", err)
		}
	case errors.Is(err, ErrNotConnected):
		r.metrics.deliveries.WithLabelValues("not_connected").Inc()
		r.releaseLocked(p)
		p.rest = time.Now().Add(retryDelay)
	case errors.Is(err, ErrUnsupported):
		r.metrics.deliveries.WithLabelValues("unsupported").Inc()
		e := r.entry(answerKinds[wire.Result], t.id)
		e.Detail, e.Try = unsupported, w.try
		e.Answer = &answer{Error: &wire.Fault{Code: unsupported, Message: err.Error()}}
		held = append(held, &incoming{device: t.device, id: t.id, entry: e, recorded: func(error) {}})
	default:
		r.metrics.deliveries.WithLabelValues("failed").Inc()
		if t.try == w.try {
			t.wrote = w.attempt
		}
		p.rest = time.Now().Add(retryDelay)
	}
	for _, in := range held {
		r.answerLocked(t, in, &fx)
	}
	r.mu.Unlock()
	r.run(&fx)
}

// pause keeps the pipe from trying again at once.
func (r *Router) pause(p *pipe) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.rest = time.Now().Add(retryDelay)
}

func (r *Router) askCancel(device string, ids []string) {
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(r.ctx, deliverTimeout)
		err := r.link.Cancel(ctx, device, id)
		cancel()
		if err != nil {
			r.log.Debug("ask device to cancel", "device_id", device, "command", id, "err", err)
		}
	}
}
