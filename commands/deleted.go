package commands

import (
	"context"
	"time"
)

// deletedBy and deletedDetail say of a cancel that it follows from the deletion of the device.
const (
	deletedBy     = "hub"
	deletedDetail = "the device was deleted"
)

// foreign reports whether t is for an earlier device of its id than the one whose record was made at born: it is never
// written to that one's socket. Of a command of a hub that did not note it, only the node that took it back can tell.
func (t *tracked) foreign(born int64, known bool) bool {
	return !known || t.orphan || t.order.Born != 0 && t.order.Born != born
}

// Deleted takes back what waits for a device whose record, made at born, was deleted, and ends the lease on it: who gets its id next is
// another device, nobody asked that one for anything, and nobody holds it. What a session has in hand ends by its answer
// or its time. It does not block; what cannot be recorded now is tried again until it is.
func (r *Router) Deleted(device string, born int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started { // serve looks at all devices
		return
	}
	if p := r.pipes[device]; p != nil {
		r.takeBackLocked(p, true)
		r.kickLocked(p)
	}
	r.remainsLocked(device, born)
}

// takeBackLocked cancels what waits in a pipe for an earlier device of its id; deleted says that a record of the id went
// just now. Of several nodes the one that made a command does it: that one has seen the record come and go before, so it
// cannot mistake a command for the next device of the id. The others do not write it to that one's socket.
func (r *Router) takeBackLocked(p *pipe, deleted bool) {
	born, known := r.devices.Born(p.device)
	for _, t := range p.open {
		mine := t.node == r.node || r.alone
		if mine && !t.gone && !t.leaving && (t.foreign(born, known) || deleted && t.order.Born == 0) {
			r.cancelGoneLocked(t)
		}
	}
}

func (r *Router) cancelGoneLocked(t *tracked) {
	e := r.entry(cancel, t.id)
	e.Actor, e.Detail, e.Gone = deletedBy, deletedDetail, true
	t.orphan, t.leaving = true, true
	err := r.propose(&proposal{device: t.device, entry: e, done: func(_ *tracked, _ bool, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.leftLocked(t, err)
	}}, true)
	if err != nil {
		r.leftLocked(t, err)
	}
}

// leftLocked ends a try to take t back. One that is not in the log, which is full or away, is made again.
func (r *Router) leftLocked(t *tracked, err error) {
	t.leaving = false
	if err != nil {
		r.metrics.notTakenBack.Inc()
		r.log.Debug("command of a deleted device not taken back, trying again", "device_id", t.device, "command", t.id, "err", err)
		r.remainsLocked(t.device, t.order.Born)
	}
}

// remainsLocked has somebody look at what remains of a device whose record was made at born.
func (r *Router) remainsLocked(device string, born int64) {
	r.remains[remains{device, born}] = struct{}{}
	signal(r.leftOver)
}

// remains names a device that was deleted, and of which something is still to be taken back.
type remains struct {
	device string
	born   int64
}

// clearAway takes back what remains of deleted devices until all of it is, and rests between two rounds.
func (r *Router) clearAway(ctx context.Context) {
	for {
		select {
		case <-r.leftOver:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		gone := r.remains
		r.remains = make(map[remains]struct{})
		for d := range gone {
			if p := r.pipes[d.device]; p != nil {
				r.takeBackLocked(p, false)
			}
		}
		r.mu.Unlock()
		for d := range gone {
			if err := r.endLease(ctx, d); err != nil && ctx.Err() == nil {
				r.log.Warn("lease on a deleted device not ended, trying again", "device_id", d.device, "err", err)
				r.mu.Lock()
				r.remainsLocked(d.device, d.born)
				r.mu.Unlock()
			}
		}
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
			return
		}
	}
}
