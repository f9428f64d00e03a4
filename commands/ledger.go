package commands

import (
	"container/list"
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// ledger is what a node holds of the log in memory: the open commands, those that ended lately, and how far it has
// read. Nodes that have read as far hold the same.
type ledger struct {
	stream  int64 // creation time of the log
	applied uint64
	stored  uint64 // the durable floor; owned by whoever stores it
	aging   floor  // the next durable floor

	open      map[string]*tracked
	order     *list.List // of open *tracked, in the order of creation
	openBytes int

	recent      map[string]*list.Element
	ended       *list.List // of recent *tracked, the oldest first
	recentBytes int

	publishers publishers
}

// tracked is a command in memory, with what only this node knows of it.
type tracked struct {
	command
	place *list.Element // in ledger.order, nil once it ended

	left chan struct{} // closed when it is no longer queued; made on demand
	done chan struct{} // closed when it is final; made on demand

	due   int64 // when the deadlines look at it, Unix milliseconds
	index int   // in deadlines, -1 if absent

	fresh      bool   // what its grant allows was allowed in this run
	releasing  bool   // unsent is on its way into the log: nothing may be written until it is there
	written    bool   // a socket write of this run returned, whether or not it is recorded
	wroteTo    string // to this session
	wrote      int    // the last attempt that may have left in this run
	delivering bool   // a write is under way; answers are held until it is recorded
	held       []*incoming
	orphan     bool      // its device was deleted, as this node knows
	leaving    bool      // its cancel for that is on its way into the log
	progressAt time.Time // when the last progress was recorded or kept as latest
	latest     *Progress // that the device reported after the last recorded one
}

// view is the command as operators see it, with progress that is not in the log while it runs.
func (t *tracked) view(withEvents bool) Command {
	v := t.command.view(withEvents)
	if t.state == Running && t.latest != nil {
		v.Progress = t.latest
	}
	return v
}

// publisher remembers which messages of one run of one node were folded, to fold none twice.
type publisher struct {
	top  uint64
	seen [publisherWindow / 64]uint64
}

// publisherWindow is more than a node ever publishes at once.
const publisherWindow = 4096

// first reports whether n comes for the first time. What is older than the window came before.
func (p *publisher) first(n uint64) bool {
	if n+publisherWindow <= p.top {
		return false
	}
	for ; p.top < n; p.top++ {
		next := p.top + 1
		p.seen[next/64%uint64(len(p.seen))] &^= 1 << (next % 64)
		if n-p.top > publisherWindow {
			p.top = n - publisherWindow
		}
	}
	word, bit := &p.seen[n/64%uint64(len(p.seen))], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func newLedger() ledger {
	return ledger{
		open: make(map[string]*tracked), order: list.New(),
		recent: make(map[string]*list.Element), ended: list.New(),
		publishers: make(publishers),
	}
}

// lookup returns a command in memory, open or ended lately.
func (l *ledger) lookup(id string) *tracked {
	if t := l.open[id]; t != nil {
		return t
	}
	if e := l.recent[id]; e != nil {
		return e.Value.(*tracked)
	}
	return nil
}

// lowest is the sequence of the oldest open command, or the next one.
func (l *ledger) lowest() uint64 {
	if e := l.order.Front(); e != nil {
		return e.Value.(*tracked).seq
	}
	return l.applied + 1
}

func (l *ledger) insert(c *command) *tracked {
	t := &tracked{command: *c, index: -1, due: math.MaxInt64}
	l.open[t.id] = t
	t.place = l.order.PushBack(t)
	l.openBytes += t.size
	return t
}

// retire moves an ended command from the open to the recent ones.
func (l *ledger) retire(t *tracked) {
	if t.place != nil {
		l.order.Remove(t.place)
		t.place = nil
		delete(l.open, t.id)
	}
	l.remember(t)
}

func (l *ledger) remember(t *tracked) {
	if l.recent[t.id] != nil {
		return
	}
	l.recent[t.id] = l.ended.PushBack(t)
	l.recentBytes += t.size
	for l.ended.Len() > maxRecent || l.recentBytes > maxRecentBytes && l.ended.Len() > 1 {
		old := l.ended.Remove(l.ended.Front()).(*tracked)
		delete(l.recent, old.id)
		l.recentBytes -= old.size
	}
}

// publishers are the runs of nodes that wrote what was read of the log.
type publishers map[string]*publisher

func (all publishers) firstTime(m *message) bool {
	p := all[m.From]
	if p == nil {
		if len(all) >= maxPublishers {
			clear(all) // of runs long gone; a message is published twice within seconds
		}
		p = new(publisher)
		all[m.From] = p
	}
	return p.first(m.N)
}

// effects are what follows from folding, done once the lock is free.
type effects struct {
	calls   []func()
	changed []Command
	noted   []Command // created or ended
}

// run does what folding left to do.
func (r *Router) run(fx *effects) {
	for _, f := range fx.calls {
		f()
	}
	for i := range fx.changed {
		r.announce(&fx.changed[i])
	}
	for i := range fx.noted {
		r.notes.Annotate(fx.noted[i])
	}
}

// Annotator is told when a command was created and when it has ended, by the node that recorded it: for graphs that
// show who pressed what. It must not block, and nothing follows from what it does.
type Annotator interface {
	Annotate(c Command)
}

// Change is what is published when a command has changed: the frame of the operators' live link, events left out.
type Change struct {
	Event   string  `json:"event"`
	Command Command `json:"command"`
}

const changeEvent = "command"

// announce tells who listens right now; nobody relies on it.
func (r *Router) announce(c *Command) {
	subject, err := bus.CommandEvent(c.Device)
	if err != nil {
		return
	}
	data, err := json.Marshal(Change{Event: changeEvent, Command: *c})
	if err != nil {
		return
	}
	if err := r.bus.Conn().Publish(subject, data); err != nil {
		r.metrics.unannounced.Inc()
	}
}

// published notes what is about to be in the log, so that whoever reads it there first finds who waits for it.
func (r *Router) published(out []*outgoing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range out {
		r.inflight[o.msg.N] = o
	}
}

// committed folds what this run published, unless something of others lies before it; then it is read in order: by
// follow, or, alone, here (a message whose ack was lost lies there twice).
func (r *Router) committed(out []*outgoing) {
	var fx effects
	var last uint64
	r.mu.Lock()
	for _, o := range out {
		if o.err != nil {
			r.refusedLocked(o, &fx)
			continue
		}
		last = o.seq
		if o.seq == r.ledger.applied+1 {
			r.foldLocked(&logged{seq: o.seq, device: o.device, message: o.msg}, &fx)
		}
	}
	behind := r.alone && last > r.ledger.applied
	from := r.ledger.applied + 1
	r.mu.Unlock()
	r.run(&fx)
	if behind {
		r.catchUp(from, last)
	}
}

func (r *Router) catchUp(from, last uint64) {
	err := r.history.read(context.WithoutCancel(r.ctx), "", from, last, func(l *logged) error {
		var fx effects
		r.mu.Lock()
		r.foldLocked(l, &fx)
		r.mu.Unlock()
		r.run(&fx)
		return nil
	})
	if err != nil {
		r.log.Error("read back the command log", "err", err)
	}
}

func (r *Router) refusedLocked(o *outgoing, fx *effects) {
	delete(r.inflight, o.msg.N)
	for _, p := range o.props {
		fx.calls = append(fx.calls, func() { p.done(nil, false, o.err) })
	}
}

// foldLocked folds one message. Every message of the log passes here once, in order, on every node.
func (r *Router) foldLocked(l *logged, fx *effects) {
	if l.seq <= r.ledger.applied {
		return
	}
	r.ledger.applied = l.seq
	first := l.From != "" && r.ledger.publishers.firstTime(&l.message)
	var mine *outgoing
	if l.From == r.from {
		mine = r.inflight[l.N]
		delete(r.inflight, l.N)
	}
	for i := range l.Events {
		var t *tracked
		effective := false
		if first {
			t, effective = r.foldEntryLocked(l, &l.Events[i])
		}
		if mine == nil {
			continue
		}
		p := mine.props[i]
		fx.calls = append(fx.calls, func() { p.done(t, effective, nil) })
		if effective {
			fx.changed = append(fx.changed, t.view(false))
			if e := &l.Events[i]; r.notes != nil && (e.Kind == created || t.state.Final()) {
				v := t.view(false)
				v.Events = []Event{{Time: e.Time, State: t.state, Actor: e.Actor}}
				fx.noted = append(fx.noted, v)
			}
			r.count(t, &l.Events[i])
		}
	}
}

func (r *Router) foldEntryLocked(l *logged, e *entry) (*tracked, bool) {
	if e.Kind == created {
		return r.foldCreatedLocked(l, e)
	}
	t := r.ledger.lookup(e.ID)
	if t == nil || t.device != l.device {
		return nil, false
	}
	if e.Kind == unsent {
		t.releasing = false
	}
	before, size, try := t.state, t.size, t.try
	if !t.apply(e) {
		r.metrics.void.WithLabelValues(string(e.Kind)).Inc()
		return t, false
	}
	if t.try != try || e.Kind == progress {
		t.latest = nil
	}
	if t.try != try {
		t.written, t.wroteTo, t.wrote, t.progressAt = false, "", 0, time.Time{}
	}
	if t.place != nil {
		r.ledger.openBytes += t.size - size
	} else {
		r.ledger.recentBytes += t.size - size
	}
	r.changedLocked(t, e, before)
	return t, true
}

func (r *Router) foldCreatedLocked(l *logged, e *entry) (*tracked, bool) {
	if e.Order == nil {
		return nil, false
	}
	if id := formatID(l.seq, e.Order.Suffix); !r.keys.claim(e, id, l.seq) {
		return nil, false // another request came first with this key
	}
	c := begin(l.device, l.seq, e)
	t := r.ledger.insert(c)
	t.fresh = r.started
	p := r.pipeLocked(l.device)
	p.insert(t)
	r.scheduleLocked(t)
	r.kickLocked(p)
	return t, true
}

// changedLocked does what a change of state asks for.
func (r *Router) changedLocked(t *tracked, e *entry, before State) {
	if e.Kind == sending {
		t.fresh = r.started
	}
	if t.state != Queued && t.left != nil {
		close(t.left)
		t.left = nil
	}
	p := r.pipes[t.device]
	switch {
	case !t.state.Final():
		r.scheduleLocked(t)
	case !before.Final():
		r.endedLocked(t, p)
	}
	if p == nil {
		return
	}
	if e.Kind == cancel && !t.state.Final() && !t.gone {
		p.cancels = append(p.cancels, wireID(t.id, t.try))
	}
	r.kickLocked(p)
	r.tidyLocked(p)
}

func (r *Router) endedLocked(t *tracked, p *pipe) {
	if t.done != nil {
		close(t.done)
		t.done = nil
	}
	r.timers.remove(t)
	r.ledger.openBytes -= t.size
	r.ledger.retire(t)
	if p != nil {
		p.drop(t)
	}
}

// count counts what this run recorded.
func (r *Router) count(t *tracked, e *entry) {
	switch {
	case e.Kind == created:
		r.metrics.created.Inc()
	case t.state.Final():
		r.metrics.final.WithLabelValues(string(t.state)).Inc()
		if t.late {
			r.metrics.late.Inc()
		}
		if e.Kind == result {
			r.metrics.roundTrip.Observe(float64(e.Time-t.created) / 1000)
		}
	}
}
