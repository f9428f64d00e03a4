package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The labels that the bridge sets on each of its devices.
const (
	labelName       = "name" // what the fleet calls the device
	labelConnection = "mqtt" // the connection it is reached by
)

// Bounds of registering.
const (
	defaultMaxDevices = 10_000
	ensureFirstPause  = 100 * time.Millisecond
	ensureMaxPause    = 5 * time.Second
	refusedAgain      = time.Minute // a refused device is asked for again after this
)

// device is one bridged device: the fleet's name on one side, an id on the other.
type device struct {
	// static after claim
	id   string
	name string
	conn *connection
	via  fleets.Profile // nil: topic maps

	// owned by the connection's worker
	source TelemetrySource
	seq    uint64
	card   uint64 // hash of what was last registered

	trace atomic.Pointer[func(Frame)] // nil: nobody looks at its messages

	changed atomic.Bool // its record, since it was last asked for
	refused atomic.Bool // its record says that it may not be in the hub
	relabel atomic.Bool // its labels are others than those that source was opened with

	// telling is held while a change of presence is told, so that the last told is the last that happened.
	telling sync.Mutex

	mu      sync.Mutex
	pending []appended // guarded by mu, oldest first
	online  bool       // guarded by mu
	known   bool       // guarded by mu: something was said about online
	paused  bool       // guarded by mu: it was on line when the link was lost
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

// settleCheck is how often settle looks.
const settleCheck = 5 * time.Millisecond

// settle waits until nothing of the device is on its way into the log: a source that is closed tells nobody any more.
func (d *device) settle(ctx context.Context) error {
	tick := time.NewTicker(settleCheck)
	defer tick.Stop()
	for {
		d.mu.Lock()
		settled := len(d.pending) == 0
		d.mu.Unlock()
		if settled {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Canceled
		case <-tick.C:
		}
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

// owner names a device of a connection.
type owner struct{ connection, name string }

// directory gives ids to bridged devices, one for each, and remembers whose they are.
type directory struct {
	// static after newDirectory
	parts Parts
	limit int
	seed  maphash.Seed

	tracing atomic.Int64 // devices whose messages somebody looks at

	mu      sync.Mutex
	byID    map[string]*device      // guarded by mu
	byOwner map[owner]*device       // guarded by mu
	refused map[owner]time.Time     // guarded by mu: when
	traced  map[string]*func(Frame) // guarded by mu: who looks, by id
}

func newDirectory(parts Parts, limit int) *directory {
	if limit <= 0 {
		limit = defaultMaxDevices
	}
	return &directory{
		parts: parts, limit: limit, seed: maphash.MakeSeed(),
		byID: make(map[string]*device), byOwner: make(map[owner]*device), refused: make(map[owner]time.Time),
		traced: make(map[string]*func(Frame)),
	}
}

func (r *directory) find(id string) *device {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

func (r *directory) of(c *connection) []*device {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*device
	for _, d := range r.byID {
		if d.conn == c {
			list = append(list, d)
		}
	}
	return list
}

// recordChanged hears of the record of a device that may be bridged here.
func (r *directory) recordChanged(id string, c Change) {
	d := r.find(id)
	if d == nil {
		return
	}
	if c.Relabelled {
		d.relabel.Store(true)
	}
	d.changed.Store(true)
	switch was := d.refused.Swap(c.Refused); {
	case c.Refused && !was:
		d.shut(r.parts.Presence)
	case was && !c.Refused:
		d.reopen()
	}
}

// identity is what a device says of itself.
type identity struct {
	name   string
	labels map[string]string
	hello  wire.Hello
	via    fleets.Profile
}

// anonymous reports whether the message named the device and said nothing of it.
func (i identity) anonymous() bool {
	return len(i.labels) == 0 && i.hello.Firmware == "" && i.hello.Model == "" && len(i.hello.Commands) == 0
}

// claim returns the device that c calls by the name, registering it if it is new or has changed. It returns a
// *fleets.Drop if the device may not be in the hub, and blocks while records cannot be kept.
func (r *directory) claim(ctx context.Context, c *connection, who identity) (*device, error) {
	labels := maps.Clone(who.labels)
	if labels == nil {
		labels = make(map[string]string, 2)
	}
	labels[labelName] = fleets.CleanText(who.name, maxTagBytes)
	labels[labelConnection] = c.name
	card := r.hash(labels, who.hello)
	key := owner{c.name, who.name}
	r.mu.Lock()
	d, refusedAt, full := r.byOwner[key], r.refused[key], len(r.byID)+len(r.refused) >= r.limit
	r.mu.Unlock()
	if who.anonymous() && d != nil {
		card = d.card
	}
	switch {
	case d != nil && d.refused.Load():
		return nil, &fleets.Drop{Reason: reasonRefused, Detail: who.name}
	case d != nil && d.card == card && !d.changed.Load():
		return d, nil
	case d != nil:
		return d, r.update(ctx, d, labels, who.hello, card)
	case !refusedAt.IsZero() && time.Since(refusedAt) < refusedAgain:
		return nil, &fleets.Drop{Reason: reasonRefused, Detail: who.name}
	case full && refusedAt.IsZero():
		return nil, &fleets.Drop{Reason: fleets.TooMany, Detail: fmt.Sprintf("the bridge holds at most %d", r.limit)}
	}
	d = &device{name: who.name, conn: c, via: who.via, card: card}
	for _, id := range candidates(c.name, who.name) {
		err := r.ensure(ctx, c, id, labels, who.hello)
		if err == nil && r.enter(id, key, d) {
			d.source = r.parts.Sink.Open(id, labels, d)
			return d, nil
		}
		if err != nil && !errors.Is(err, ErrDeviceTaken) {
			return nil, r.refuse(key, err)
		}
	}
	return nil, r.refuse(key, ErrDeviceTaken)
}

// candidates are the ids that a name may get, best first: its clean form, and where another name has it that form with
// a mark of the name, then of name and connection.
func candidates(connection, name string) []string {
	clean := wire.CleanID(name)
	with := func(mark string) string {
		mark = "-" + mark
		return clean[:min(len(clean), wire.MaxID-len(mark))] + mark
	}
	return []string{clean, with(fleets.Mark(name)), with(fleets.Mark(connection + "/" + name))}
}

func (r *directory) enter(id string, key owner, d *device) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[id] != nil {
		return false
	}
	d.id = id
	d.trace.Store(r.traced[id])
	d.changed.Store(true) // it may have, before this was there to hear of it
	r.byID[id], r.byOwner[key] = d, d
	delete(r.refused, key)
	return true
}

func (r *directory) refuse(key owner, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	r.mu.Lock()
	r.refused[key] = time.Now()
	r.mu.Unlock()
	return &fleets.Drop{Reason: reasonRefused, Detail: fmt.Sprintf("%s: %v", key.name, err)}
}

func (r *directory) update(ctx context.Context, d *device, labels map[string]string, hello wire.Hello, card uint64) error {
	d.changed.Store(false)
	err := r.ensure(ctx, d.conn, d.id, labels, hello)
	if errors.Is(err, context.Canceled) {
		return err
	}
	d.card = card
	if err != nil {
		d.changed.Store(true) // and so asked for again
		return &fleets.Drop{Reason: reasonRefused, Detail: fmt.Sprintf("%s: %v", d.name, err)}
	}
	if !d.relabel.Swap(false) {
		return nil
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	d.source.Close()
	d.source = r.parts.Sink.Open(d.id, labels, d)
	return nil
}

// ensure asks for the record until there is an answer.
func (r *directory) ensure(ctx context.Context, c *connection, id string, labels map[string]string, hello wire.Hello) error {
	r.mu.Lock()
	other := r.byID[id]
	r.mu.Unlock()
	if other != nil && (other.conn != c || fleets.CleanText(other.name, maxTagBytes) != labels[labelName]) {
		return ErrDeviceTaken
	}
	for pause := ensureFirstPause; ; pause = min(2*pause, ensureMaxPause) {
		err := r.parts.Devices.Ensure(id, labels, hello)
		if err == nil || errors.Is(err, ErrDeviceTaken) || errors.Is(err, ErrDeviceRefused) {
			return err
		}
		c.status.fail(fmt.Errorf("register device %s: %w", id, err))
		select {
		case <-ctx.Done():
			return context.Canceled
		case <-time.After(pause):
		}
	}
}

func (r *directory) hash(labels map[string]string, hello wire.Hello) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	enc := json.NewEncoder(&h) // sorts the labels; a hash takes every write
	_ = enc.Encode(labels)
	_ = enc.Encode(hello)
	return h.Sum64()
}
