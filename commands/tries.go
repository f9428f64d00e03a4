package commands

import (
	"fmt"
	"time"
)

// ripe reports whether the present try may be written at a time: its hour has come, and who must agree has.
func (c *command) ripe(now int64) bool { return now >= c.notBefore && !c.awaiting() }

// awaiting reports whether a second operator must agree first.
func (c *command) awaiting() bool { return c.order.Approval && c.approver == "" }

// sleeps reports whether nothing but a time is between c and its writing.
func (c *command) sleeps(now int64) bool {
	return c.state == Queued && c.grant == "" && !c.awaiting() && now < c.notBefore
}

func (c *command) priority() int { return DefaultPriority + c.order.Urgency }

// takes reports whether a result says something new: one of the present try always does, one of an earlier try once.
func (c *command) takes(e *entry) bool {
	switch {
	case e.Try < 0 || e.Try > c.try:
		return false
	case e.Try == c.try:
		return true
	case c.answers>>e.Try&1 == 1:
		return false
	case c.state == TimedOut:
		return e.Answer != nil && e.Answer.OK
	}
	return true
}

// concluded is the state that a result leads to. That an earlier try succeeded after all ends the command, unless a later
// one is on its way: then that one decides.
func (c *command) concluded(e *entry) State {
	if e.Try == c.try {
		return outcome(c.state, e.Answer)
	}
	if e.Answer != nil && e.Answer.OK && (c.state == TimedOut || c.state == Queued && c.grant == "") {
		return Succeeded
	}
	return c.state
}

// ended is the final state of a command that is not written any more: s, or if there were tries, how the last one ended.
func (c *command) ended(s State) State {
	if c.try > 0 {
		return c.last
	}
	return s
}

func (c *command) cancelDetail() string {
	switch {
	case !c.state.Final():
		return "cancel asked"
	case c.state != Cancelled:
		return "cancelled before the next try"
	}
	return ""
}

// answeredLate folds the result of an earlier try.
func (c *command) answeredLate(e *entry) string {
	c.answers |= 1 << e.Try
	said := "failed"
	switch {
	case e.Answer != nil && e.Answer.OK:
		said = "succeeded"
	case e.Answer != nil && e.Answer.Error != nil:
		said = "failed: " + e.Answer.Error.Code
	}
	if c.state == Succeeded {
		c.since, c.late, c.evidence = e.Time, true, e.Evidence
		c.result, c.fault = e.Answer.Result, nil
	}
	return fmt.Sprintf("try %d answered late: %s", e.Try+1, said)
}

// tryable reports whether e has ended a try and another may follow.
func (c *command) tryable(e *entry, before State) bool {
	ends := e.Kind == timedOut || e.Kind == result && e.Try == c.try
	return ends && (c.state == Failed || c.state == TimedOut) && !before.Final() && !c.cancelAsked &&
		c.try+1 < min(c.order.Tries, maxTries) && e.Time+c.order.DelayMS < c.order.Expires
}

// again puts c back into the queue for its next try and returns what to say of it.
func (c *command) again(e *entry) string {
	said := "timed out"
	if c.state == Failed {
		said = "failed"
		if c.fault != nil {
			said += ": " + c.fault.Code
		}
	}
	c.try++
	c.last, c.state, c.grant, c.doubt, c.progress = c.state, Queued, "", nil, nil
	c.since, c.begun, c.notBefore = e.Time, 0, e.Time+c.order.DelayMS
	return fmt.Sprintf("try %d of %d %s; the next in %s", c.try, c.order.Tries, said, time.Duration(c.order.DelayMS)*time.Millisecond)
}

// detail is what the first event says.
func (o *order) detail() string {
	switch {
	case o.Approval:
		return "awaiting approval"
	case o.NotBefore > 0:
		return "not before " + time.UnixMilli(o.NotBefore).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return ""
}

// checkCourse checks when, how urgently and how often a command shall be sent, and puts it into its order.
func (r *Router) checkCourse(q *Request, o *order) error {
	start := time.Now()
	if q.NotBefore.After(start) {
		start = q.NotBefore
	}
	later := q.NotBefore.After(time.Now()) || q.Retry.Attempts > 1
	switch {
	case q.Priority != nil && (*q.Priority < 0 || *q.Priority > MaxPriority):
		return invalid("/priority", fmt.Sprintf("must be from 0 to %d", MaxPriority))
	case q.Retry.Attempts < 0 || q.Retry.Attempts > maxTries:
		return invalid("/retry/attempts", fmt.Sprintf("must be at most %d", maxTries))
	case q.Retry.Delay < 0 || q.Retry.Delay > maxRetryDelay:
		return invalid("/retry/delay", fmt.Sprintf("must be at most %s", maxRetryDelay))
	case q.OnlineOnly && later:
		return invalid("/ttl", "0 means now or never, which goes with neither not_before nor retry")
	case time.Until(start.Add(r.ttl(q))) > r.cfg.Keep:
		return invalid("/not_before", fmt.Sprintf("it would end after %s, for which commands are kept", r.cfg.Keep))
	}
	if q.Priority != nil {
		o.Urgency = *q.Priority - DefaultPriority
	}
	if q.Retry.Attempts > 1 {
		o.Tries, o.DelayMS = q.Retry.Attempts, q.Retry.Delay.Milliseconds()
	}
	return nil
}
