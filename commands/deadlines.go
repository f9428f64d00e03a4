package commands

import (
	"container/heap"
	"context"
	"time"
)

// deadlines orders open commands by when something ends by itself, so that nobody polls them. It is a container/heap.
type deadlines []*tracked

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].due < d[j].due }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i]; d[i].index, d[j].index = i, j }

// Push is for container/heap.
func (d *deadlines) Push(x any) {
	t := x.(*tracked)
	t.index = len(*d)
	*d = append(*d, t)
}

// Pop is for container/heap.
func (d *deadlines) Pop() any {
	old := *d
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	t.index = -1
	return t
}

func (d *deadlines) set(t *tracked, due int64) {
	t.due = due
	if t.index < 0 {
		heap.Push(d, t)
	} else {
		heap.Fix(d, t.index)
	}
}

func (d *deadlines) remove(t *tracked) {
	if t.index >= 0 {
		heap.Remove(d, t.index)
	}
}

// deadline is when t ends by itself.
func (r *Router) deadline(t *tracked) int64 { return min(t.deadline(), t.end(r.cfg.MaxTimeout)) }

// scheduleLocked sets the alarm for t's present state.
func (r *Router) scheduleLocked(t *tracked) {
	due := r.deadline(t)
	switch now := time.Now().UnixMilli(); {
	case r.unwritten(t):
		due = t.order.Expires
	case t.sleeps(now):
		due = min(t.notBefore, due)
	}
	r.timers.set(t, due)
	if t.index == 0 {
		signal(r.alarm)
	}
}

// watchDeadlines ends commands whose time is over.
func (r *Router) watchDeadlines(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-r.alarm:
		case <-ctx.Done():
			return
		}
		due, next := r.dueNow(time.Now().UnixMilli())
		for _, t := range due {
			r.overdue(t)
		}
		if next >= 0 {
			timer.Reset(time.Duration(next) * time.Millisecond)
		}
	}
}

// dueNow takes some commands that are due, and says in how many milliseconds the next one is; -1 means never. Each
// is set again, for the case that its end cannot be recorded.
func (r *Router) dueNow(now int64) (due []*tracked, next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.timers) > 0 && len(due) < dueAtOnce && r.timers[0].due <= now {
		t := r.timers[0]
		due = append(due, t)
		r.timers.set(t, now+retryDelay.Milliseconds())
	}
	if len(r.timers) == 0 {
		return due, -1
	}
	return due, max(r.timers[0].due-now, 0)
}

// overdue ends one command, if that is this node's to do: the node that has the device on line does it, else the one
// that created the command, else, a little later, any.
func (r *Router) overdue(t *tracked) {
	mine := r.alone
	if !mine {
		node, online := r.presence.Node(t.device)
		mine = online && node == r.node || !online && t.node == r.node
	}
	now := time.Now().UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.deadline(t)
	switch {
	case t.state.Final():
	case r.unwritten(t) && now >= t.order.Expires:
		r.unsendLocked(t) // then it expires
	case t.sleeps(now):
		r.timers.set(t, min(t.notBefore, at))
	case now < at:
		r.timers.set(t, at)
		if p := r.pipes[t.device]; p != nil { // its time has come
			r.kickLocked(p)
		}
	case !mine && now < at+takeover.Milliseconds():
		r.timers.set(t, at+takeover.Milliseconds())
	default:
		if t.delivering {
			return // the write has a deadline of its own, and the alarm is set again
		}
		e := t.overdue(now, r.node)
		if now < t.deadline() {
			e.Detail = "it ran for as long as a command may"
		}
		if err := r.propose(&proposal{device: t.device, entry: e}, false); err != nil {
			r.log.Debug("end command", "device_id", t.device, "command", t.id, "err", err)
		}
	}
}
