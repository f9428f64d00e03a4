package bridge

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// device is one bridged device: the fleet's name on one side, an id on the other.
type device struct {
	// static after claim
	id   string
	name string
	conn *connection
	via  fleets.Profile // nil: topic maps
	own  bool           // it publishes with a token of its own, and nobody speaks for it

	// owned by the connection's worker
	source TelemetrySource
	seq    uint64
	card   uint64 // hash of what was last registered

	trace atomic.Pointer[func(Frame)] // nil: nobody looks at its messages

	changed atomic.Bool // its record, since it was last asked for
	refused atomic.Bool // its record says that it may not be in the hub
	gone    atomic.Bool // its record was deleted, and it was not heard since
	relabel atomic.Bool // its labels are others than those that source was opened with

	// telling is held while a change of presence is told, so that the last told is the last that happened.
	telling sync.Mutex

	mu      sync.Mutex
	pending []appended    // guarded by mu, oldest first
	settled chan struct{} // guarded by mu: closed once nothing is pending; nil: nobody waits for it
	online  bool          // guarded by mu
	known   bool          // guarded by mu: something was said about online
	paused  bool          // guarded by mu: it was on line when the link was lost
}

// appended is one telemetry frame on its way into the log.
type appended struct {
	seq   uint64
	of    *delivery
	frame *Frame // nil: nobody looks
}

// Stored implements Waiter.
func (d *device) Stored(seq uint64) {
	d.mu.Lock()
	n := 0
	for n < len(d.pending) && d.pending[n].seq <= seq {
		n++
	}
	done := d.pending[:n:n]
	d.pending = d.pending[n:]
	if len(d.pending) == 0 && d.settled != nil {
		close(d.settled)
		d.settled = nil
	}
	d.mu.Unlock()
	for _, a := range done {
		a.frame.show(fateStored)
		a.of.release()
	}
}

// append gives points to the log on behalf of a message, which is not finished before they are stored.
func (d *device) append(of *delivery, points []wire.Point, frame *Frame) error {
	d.seq++
	of.hold()
	d.mu.Lock()
	d.pending = append(d.pending, appended{seq: d.seq, of: of, frame: frame})
	d.mu.Unlock()
	err := d.source.Append(&wire.Telemetry{Seq: d.seq, Points: points})
	if err != nil {
		d.withdraw(d.seq)
	}
	return err
}

// settle waits until nothing of the device is on its way into the log: a source that is closed tells nobody any more.
func (d *device) settle(ctx context.Context) error {
	settled := make(chan struct{})
	d.mu.Lock()
	if len(d.pending) == 0 {
		close(settled)
	} else {
		d.settled = settled
	}
	d.mu.Unlock()
	select {
	case <-ctx.Done():
		return context.Canceled
	case <-settled:
		return nil
	}
}

func (d *device) withdraw(seq uint64) {
	d.mu.Lock()
	last := len(d.pending) - 1
	if last < 0 || d.pending[last].seq != seq {
		d.mu.Unlock()
		return // already told as stored
	}
	of := d.pending[last].of
	d.pending = d.pending[:last]
	d.mu.Unlock()
	of.release()
}

// setOnline remembers and tells a change of presence.
func (d *device) setOnline(online bool, cause string, p Presence) {
	d.telling.Lock()
	defer d.telling.Unlock()
	if d.refused.Load() {
		return
	}
	d.mu.Lock()
	changed := !d.known || d.online != online
	d.known, d.online, d.paused = true, online, false
	d.mu.Unlock()
	if changed {
		p.Set(d.id, online, cause, d.conn.link())
	}
}

// pause takes the device off line because its link is lost; resume undoes it.
func (d *device) pause(cause string, p Presence) {
	d.telling.Lock()
	defer d.telling.Unlock()
	d.mu.Lock()
	was := d.known && d.online
	if was {
		d.online, d.paused = false, true
	}
	d.mu.Unlock()
	if was {
		p.Set(d.id, false, cause, d.conn.link())
	}
}

func (d *device) resume(p Presence) {
	d.telling.Lock()
	defer d.telling.Unlock()
	d.mu.Lock()
	was := d.paused
	if was {
		d.online, d.paused = true, false
	}
	d.mu.Unlock()
	if was {
		p.Set(d.id, true, "link_restored", d.conn.link())
	}
}

// shut takes the device off line because it is refused; reopen lets it come back.
func (d *device) shut(p Presence) {
	d.telling.Lock()
	defer d.telling.Unlock()
	d.mu.Lock()
	was := d.known && d.online
	d.known, d.online, d.paused = true, false, false
	d.mu.Unlock()
	if was {
		p.Set(d.id, false, "revoked", d.conn.link())
	}
}

func (d *device) reopen() {
	d.mu.Lock()
	d.known = false
	d.mu.Unlock()
	d.conn.welcome() // those that are only sent commands say nothing by themselves
}

func (d *device) isOffline() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known && !d.online
}
