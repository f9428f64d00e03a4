package commands

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// command is the fold of a command's events. apply is its only writer and looks at nothing but the command and the
// entry: every node that reads the same log holds the same commands.
type command struct {
	id, device string
	seq        uint64 // of the message that created it
	order      order
	actor      string
	node       string // that created it
	created    int64

	state       State
	late        bool
	evidence    string
	attempt     int
	session     string   // that took it last
	grant       string   // the node that may write, or have written, its frame
	doubt       []string // nodes whose grant another took over before they said what became of it, oldest first
	taken       int      // how often that was
	cancelAsked bool
	gone        bool  // its device was deleted: who has the id now is another one
	since       int64 // start of the present wait for an answer, Unix milliseconds
	begun       int64 // when the device first answered the present try, 0 if it has not
	rev         int   // entries applied
	size        int

	progress *Progress
	result   json.RawMessage
	fault    *wire.Fault
	events   []Event

	try       int    // tries before the present one
	last      State  // how the one before ended
	answers   uint16 // the tries that the device gave a result for, one bit each
	notBefore int64  // nothing is written before
	approver  string // the second operator
}

// move is one row of the legality table: from which states a kind of entry may lead on, under which condition, and
// where to. An entry that no row allows is void: the log keeps it, the command does not change.
type move struct {
	from []State
	when func(c *command, e *entry) bool
	to   func(c *command, e *entry) State
}

var (
	open    = []State{Queued, Sent, Delivered, Running}
	present = func(c *command, e *entry) bool { return c.try == e.Try }
	stay    = func(c *command, _ *entry) State { return c.state }
)

func become(s State) func(*command, *entry) State {
	return func(*command, *entry) State { return s }
}

// moves is the legality table. Three rules make the promises of doc.go:
//   - a frame is written only under a grant, and expired needs that there is none: what expired was never written;
//   - cancel ends only what was never written, for the rest the device decides;
//   - no final state has a row, but timed_out, which the device's own result replaces.
var moves = map[kind]move{
	sending: {
		from: []State{Queued},
		when: func(c *command, e *entry) bool {
			return c.grant != e.Node && !c.cancelAsked && c.try == e.Try && c.ripe(e.Time)
		},
		to: stay,
	},
	unsent: {
		from: []State{Queued},
		when: func(c *command, e *entry) bool {
			mine := c.grant == e.Node || slices.Contains(c.doubt, e.Node)
			return mine && e.Node != "" && c.attempt == e.Attempt && c.try == e.Try
		},
		to: func(c *command, e *entry) State {
			switch {
			case c.grant != e.Node || slices.ContainsFunc(c.doubt, func(n string) bool { return n != e.Node }):
				return Queued // another node may have written it
			case c.cancelAsked:
				return c.ended(Cancelled)
			case c.order.OnlineOnly:
				return Expired
			}
			return Queued
		},
	},
	sent: {
		from: []State{Queued, Sent},
		when: func(c *command, e *entry) bool { return e.Attempt > c.attempt && c.try == e.Try },
		to:   become(Sent),
	},
	accept:   {from: []State{Queued, Sent}, when: present, to: become(Delivered)},
	progress: {from: open, when: present, to: become(Running)},
	result: {
		from: []State{Queued, Sent, Delivered, Running, TimedOut},
		when: (*command).takes,
		to:   (*command).concluded,
	},
	expired: {
		from: []State{Queued},
		when: func(c *command, _ *entry) bool { return c.grant == "" },
		to:   func(c *command, _ *entry) State { return c.ended(Expired) },
	},
	timedOut: {
		from: open,
		when: func(c *command, e *entry) bool {
			return e.Basis == c.rev && (c.state != Queued || c.grant != "")
		},
		to: become(TimedOut),
	},
	cancel: {
		from: open,
		when: func(c *command, e *entry) bool { return !c.cancelAsked || e.Gone && !c.gone },
		to: func(c *command, _ *entry) State {
			if c.state == Queued && c.grant == "" {
				return c.ended(Cancelled)
			}
			return c.state
		},
	},
	approve: {
		from: []State{Queued},
		when: func(c *command, e *entry) bool {
			return c.awaiting() && e.Actor != "" && e.Actor != c.actor && !c.cancelAsked
		},
		to: stay,
	},
}

// outcome is the state that a result leads to. After a time-out it is succeeded or failed, whatever the code.
func outcome(now State, a *answer) State {
	switch {
	case a == nil:
		return Failed
	case a.OK:
		return Succeeded
	case now == TimedOut || a.Error == nil:
		return Failed
	}
	switch a.Error.Code {
	case "unknown_command", "invalid_params", "rejected", unsupported:
		return Rejected
	case "cancelled":
		return Cancelled
	}
	return Failed
}

// legal reports whether e would change c.
func (c *command) legal(e *entry) bool {
	m, ok := moves[e.Kind]
	return ok && slices.Contains(m.from, c.state) && m.when(c, e)
}

// apply folds e into c and reports whether it had an effect.
func (c *command) apply(e *entry) bool {
	if !c.legal(e) {
		return false
	}
	before := c.state
	c.state = moves[e.Kind].to(c, e)
	c.rev++
	detail := e.Detail
	switch e.Kind {
	case sending:
		if c.grant != "" {
			c.taken++ // the node that had the grant may have written it, and not have said so yet
			c.cleared(c.grant)
			c.doubt = append(c.doubt, c.grant)
		}
		c.grant, c.since = e.Node, e.Time
	case unsent:
		c.giveBack(e.Node)
	case sent:
		c.doubt = nil
		c.attempt, c.session, c.grant, c.since = e.Attempt, e.Session, e.Node, e.Time
	case accept, progress, result:
		if e.Try < c.try {
			detail = c.answeredLate(e)
		} else {
			c.answered(e, before)
		}
	case timedOut:
		c.fault = nil
	case cancel:
		c.cancelAsked, c.gone = true, c.gone || e.Gone
		if detail == "" {
			detail = c.cancelDetail()
		}
	case approve:
		c.approver, detail = e.Actor, "approved"
	}
	if c.tryable(e, before) {
		detail = c.again(e)
	}
	c.note(e, detail)
	return true
}

// cleared takes a node out of those that may have written the frame.
func (c *command) cleared(node string) {
	c.doubt = slices.DeleteFunc(c.doubt, func(n string) bool { return n == node })
}

// giveBack folds that a node has not written the frame. One that had the grant before, and may have, has it again.
func (c *command) giveBack(node string) {
	c.cleared(node)
	if c.grant != node {
		return
	}
	c.grant = ""
	if last := len(c.doubt) - 1; last >= 0 {
		c.grant, c.doubt = c.doubt[last], c.doubt[:last]
	}
}

func (c *command) answered(e *entry, before State) {
	c.since, c.late = e.Time, before == TimedOut
	if c.begun == 0 {
		c.begun = e.Time
	}
	c.evidence = e.Evidence
	if c.attempt == 0 {
		c.attempt = 1 // it answers, so it has it
	}
	if e.Answer == nil {
		return
	}
	switch e.Kind {
	case progress:
		c.progress = e.Answer.progress()
	case result:
		c.result, c.fault = e.Answer.Result, e.Answer.Error
		c.answers |= 1 << c.try
	}
}

// note adds e to the events that operators see. Of progress beyond maxEvents only the last is kept.
func (c *command) note(e *entry, detail string) {
	v := Event{
		Time: e.Time, State: c.state, Node: e.Node, Session: e.Session, Epoch: e.Epoch,
		Actor: e.Actor, Evidence: e.Evidence, Detail: detail,
	}
	if n := len(c.events); e.Kind == progress && n >= maxEvents && c.events[n-1].State == Running {
		c.events[n-1] = v
		return
	}
	c.events = append(c.events, v)
	c.size += e.size()
}

// begin is the command that a created entry makes.
func begin(device string, seq uint64, e *entry) *command {
	c := &command{
		id: formatID(seq, e.Order.Suffix), device: device, seq: seq, order: *e.Order,
		actor: e.Actor, node: e.Node, created: e.Time,
		state: Queued, grant: e.Order.Grant, since: e.Time, notBefore: e.Order.NotBefore,
	}
	c.note(e, e.Detail)
	return c
}

// gap is how long the log keeps no other progress after one, in milliseconds.
func (c *command) gap() int64 { return max(progressGap.Milliseconds(), c.order.TimeoutMS/4) }

// recordsProgress reports whether progress at a time goes into the log. What does not changes nothing of the command:
// any node, and this one after a restart, knows only what the log has.
func (c *command) recordsProgress(now int64) bool {
	return c.state != Running || now-c.since >= c.gap()
}

// end is when c ends whatever progress the device reports, in Unix milliseconds: the longest that any command may take,
// from the first answer on.
func (c *command) end(longest time.Duration) int64 {
	if c.begun == 0 {
		return math.MaxInt64
	}
	return c.begun + max(longest.Milliseconds(), c.order.TimeoutMS)
}

// deadline is when the present state ends by itself, in Unix milliseconds.
func (c *command) deadline() int64 {
	answer := c.since + c.order.TimeoutMS
	switch {
	case c.state == Running: // the device may have spoken until the gap was over
		return answer + c.gap()
	case c.state != Queued:
		return answer
	case c.grant == "":
		return c.order.Expires
	}
	return max(c.order.Expires, answer)
}

// overdue is the entry that ends c at its deadline.
func (c *command) overdue(now int64, node string) entry {
	e := entry{Kind: timedOut, ID: c.id, Time: now, Node: node, Basis: c.rev, Detail: "no answer in time"}
	switch {
	case c.state == Queued && c.grant == "":
		e.Kind, e.Basis, e.Detail = expired, 0, "the device was not there in time"
		if c.awaiting() {
			e.Detail = "nobody approved it in time"
		}
	case c.state == Queued:
		e.Detail = "it is not known whether node " + c.grant + " wrote it to the socket; no answer in time"
	}
	return e
}

// settled reports that nothing can change c any more.
func (c *command) settled() bool { return c.state.Final() && c.state != TimedOut }

// view is c as operators see it.
func (c *command) view(withEvents bool) Command {
	v := Command{
		ID: c.id, Device: c.device, Name: c.order.Name, Params: c.order.Params, State: c.state, Late: c.late,
		Evidence: c.evidence, Actor: c.actor, Created: c.created, Expires: c.order.Expires, Attempt: c.attempt,
		Progress: c.progress, Result: c.result, Error: c.fault,
		NotBefore: c.order.NotBefore, Priority: c.priority(), Awaiting: c.state == Queued && c.awaiting(), ApprovedBy: c.approver, Job: c.order.Job,
	}
	if c.order.Tries > 1 {
		v.Retry = &RetryPolicy{Attempts: c.order.Tries, Delay: (time.Duration(c.order.DelayMS) * time.Millisecond).String()}
	}
	if withEvents {
		v.Events = slices.Clone(c.events)
	}
	return v
}
