package sim

import (
	"encoding/json"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Bounds of a device's memory of commands.
const (
	ordersKept = 64 // answered and open ones; a command that comes again after that many others would be done again
	ordersOpen = 16 // accepted and not answered
)

// plan is how a device carries out one command: at once, or in steps with progress in between.
type plan struct {
	begin  func()     // takes effect; may be nil
	finish func() any // the result; may be nil
	steps  int
	every  time.Duration
	reboot bool // the link goes down after begin; the result comes when the device is back
}

type phase uint8

const (
	waiting phase = iota // accepted, not acted on
	working              // acted on, in steps
	holding              // finished, the result is held back on demand
	done
)

// order is one command as the device remembers it.
type order struct {
	id      string
	phase   phase
	due     time.Time // when the next phase begins
	expires int64     // hub's clock, Unix milliseconds; 0: never
	plan    plan
	step    int
	hold    time.Duration // --faults late
	taken   time.Time
	twice   bool
	answer  *wire.Answer // once holding
	acked   bool
}

// orders is the memory of commands: each id is acted on once, whatever comes twice. A device that loses its link keeps it.
type orders struct {
	// static after New
	panel  panel
	faults *Faults
	seed   uint64
	counts *Counters

	byID map[string]*order
	fifo []*order
	open int
	out  []*wire.Answer // to be sent, in order
}

// take handles a command frame. hub is the hub's clock.
func (o *orders) take(c *wire.Command, now time.Time, hub int64) {
	if r, again := o.byID[c.ID]; again {
		o.counts.repeats.Add(1)
		o.repeat(r)
		return
	}
	luck := o.faults.draw(o.seed, c.ID, c.Attempt)
	if luck.drop {
		return
	}
	o.counts.commands.Add(1)
	r := &order{id: c.ID, expires: c.Expires, taken: now, due: now.Add(luck.delay), twice: luck.twice}
	if luck.late {
		timeout := time.Duration(c.TimeoutMS) * time.Millisecond
		r.hold = timeout + max(timeout/10, 200*time.Millisecond)
	}
	o.remember(r)
	fault := o.prepare(r, c, hub, luck)
	if fault != nil {
		o.fail(r, fault, now)
		return
	}
	o.out = append(o.out, &wire.Answer{Kind: wire.Accept, ID: c.ID})
}

func (o *orders) prepare(r *order, c *wire.Command, hub int64, luck draw) (fault *wire.Fault) {
	switch {
	case r.expired(hub):
		return &wire.Fault{Code: "expired", Message: "the command came after it expired; nothing was done"}
	case luck.refuse:
		return &wire.Fault{Code: "refused", Message: "the device refuses the command"}
	case o.open > ordersOpen:
		return &wire.Fault{Code: "busy", Message: "the device has too many commands open"}
	}
	r.plan, fault = o.panel.command(c.Name, c.Params)
	return fault
}

func (r *order) expired(hub int64) bool { return r.expires != 0 && hub >= r.expires }

// repeat answers a command that was taken before by what became of it.
func (o *orders) repeat(r *order) {
	switch r.phase {
	case done:
		r.acked = false
		o.out = append(o.out, r.answer)
	default:
		o.out = append(o.out, &wire.Answer{Kind: wire.Accept, ID: r.id})
	}
}

// remember makes room first: an answer that the hub has recorded goes before one that it has not.
func (o *orders) remember(r *order) {
	if o.byID == nil {
		o.byID = map[string]*order{}
	}
	if len(o.fifo) >= ordersKept {
		o.forget()
	}
	o.byID[r.id] = r
	o.fifo = append(o.fifo, r)
	o.open++
}

func (o *orders) forget() {
	at := -1
	for i, r := range o.fifo {
		if r.phase == done && r.acked {
			at = i
			break
		}
		if r.phase == done && at < 0 {
			at = i
		}
	}
	// Open ones are bounded by far less than is kept, so there is one that is done.
	delete(o.byID, o.fifo[at].id)
	o.fifo = append(o.fifo[:at], o.fifo[at+1:]...)
}

// advance carries open orders on and returns when it wants to be called again: zero for never. It reports whether the
// device has to go down.
func (o *orders) advance(now time.Time, hub int64) (next time.Time, reboot bool) {
	if o.open == 0 {
		return next, false
	}
	for _, r := range o.fifo {
		for r.phase != done && !r.due.After(now) {
			reboot = o.carryOn(r, now, hub) || reboot
		}
		if r.phase != done && (next.IsZero() || r.due.Before(next)) {
			next = r.due
		}
	}
	return next, reboot
}

func (o *orders) carryOn(r *order, now time.Time, hub int64) (reboot bool) {
	switch r.phase {
	case waiting:
		if r.expired(hub) {
			o.fail(r, &wire.Fault{Code: "expired", Message: "the command expired before the device came to it; nothing was done"}, now)
			return false
		}
		if r.plan.begin != nil {
			r.plan.begin()
		}
		r.phase, r.due = working, now.Add(r.plan.every)
		return r.plan.reboot
	case working:
		if r.step++; r.step < r.plan.steps {
			percent := 100 * float64(r.step) / float64(r.plan.steps)
			o.out = append(o.out, &wire.Answer{Kind: wire.Progress, ID: r.id, Percent: percent})
			r.due = now.Add(r.plan.every)
			return false
		}
		o.succeed(r, now)
	case holding:
		o.close(r)
	}
	return false
}

func (o *orders) succeed(r *order, now time.Time) {
	r.answer = &wire.Answer{Kind: wire.Result, ID: r.id, OK: true}
	if r.plan.finish != nil {
		r.answer.Result = mustJSON(r.plan.finish())
	}
	o.settle(r, now)
}

func (o *orders) fail(r *order, fault *wire.Fault, now time.Time) {
	r.answer = &wire.Answer{Kind: wire.Result, ID: r.id, Error: fault}
	o.settle(r, now)
}

func (o *orders) settle(r *order, now time.Time) {
	r.plan = plan{}
	if until := r.taken.Add(r.hold); until.After(now) {
		r.phase, r.due = holding, until
		return
	}
	o.close(r)
}

func (o *orders) close(r *order) {
	r.phase = done
	o.open--
	o.out = append(o.out, r.answer)
	if r.twice {
		o.out = append(o.out, r.answer)
	}
}

// cancel stops an order that is not finished. One that is finished is answered again; one that never came is remembered
// as cancelled, so that it is not done when it comes.
func (o *orders) cancel(id string, now time.Time) {
	r, known := o.byID[id]
	if known && (r.phase == done || r.phase == holding) {
		o.repeat(r)
		return
	}
	if !known {
		r = &order{id: id, taken: now}
		o.remember(r)
	}
	r.hold = 0
	o.fail(r, &wire.Fault{Code: "cancelled", Message: "stopped by the operator"}, now)
}

// acked lets the answer to a command be forgotten when room is needed.
func (o *orders) acked(id string) {
	if r := o.byID[id]; r != nil && r.phase == done {
		r.acked = true
	}
}

// resend puts every answer that the hub has not recorded at the head of a new session.
func (o *orders) resend() {
	o.out = o.out[:0]
	for _, r := range o.fifo {
		if r.phase == done && !r.acked {
			o.out = append(o.out, r.answer)
		}
	}
}

// unrecorded counts the answers that the hub has not acked.
func (o *orders) unrecorded() (count int) {
	for _, r := range o.fifo {
		if r.phase == done && !r.acked {
			count++
		}
	}
	return count
}

// mustJSON encodes a value that the package made itself.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("sim: result is not JSON: " + err.Error()) // a model returned a channel, a function or NaN
	}
	return b
}
