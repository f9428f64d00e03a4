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
	sweepEvery        = time.Second // while it is full, it is looked that often for places of devices that are gone
)

// The bounds of what a record takes [device-protocol, hello].
const (
	maxHelloText = 128
	maxCommands  = 64
)

// owner names a device of a connection; own is one that speaks for itself.
type owner struct {
	connection, name string
	own              bool
}

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
	swept   time.Time               // guarded by mu
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
	d.gone.Store(c.Deleted)
	d.changed.Store(true)
	refused := c.Refused || c.Keyed && !d.own
	switch was := d.refused.Swap(refused); {
	case refused && !was:
		d.shut(r.parts.Presence)
	case was && !refused:
		d.reopen()
	}
}

// identity is what a device says of itself.
type identity struct {
	name   string
	labels map[string]string
	hello  wire.Hello
	via    fleets.Profile
	author string // its id, if it speaks for itself
}

// anonymous reports whether the message named the device and said nothing of it.
func (i identity) anonymous() bool {
	return len(i.labels) == 0 && i.hello.Firmware == "" && i.hello.Model == "" && len(i.hello.Commands) == 0
}

// cleaned returns the labels of a device, and brings what else it says of itself into the form that its record takes:
// whatever a fleet calls a device, the device has a record.
func (i *identity) cleaned() map[string]string {
	labels := make(map[string]string, len(i.labels)+2)
	for k, v := range i.labels {
		if v = cleanTag(v); v != "" {
			labels[k] = v
		}
	}
	labels[labelName] = cleanName(i.name)
	i.hello.Model = fleets.CleanText(i.hello.Model, maxHelloText)
	i.hello.Firmware = fleets.CleanText(i.hello.Firmware, maxHelloText)
	i.hello.Commands = i.hello.Commands[:min(len(i.hello.Commands), maxCommands)]
	return labels
}

// cleanName is what a device is called in its record.
func cleanName(name string) string {
	if clean := cleanTag(name); clean != "" {
		return clean
	}
	return "_"
}

// claim returns the device that c calls by the name, registering it if it is new or has changed. It returns a
// *fleets.Drop if the device may not be in the hub, and blocks while records cannot be kept.
func (r *directory) claim(ctx context.Context, c *connection, who identity) (*device, error) {
	if who.author != "" {
		return r.own(ctx, c, who)
	}
	labels := who.cleaned()
	labels[labelConnection] = c.name
	card := r.hash(labels, who.hello)
	key := owner{c.name, who.name, false}
	r.mu.Lock()
	d, refusedAt, full := r.byOwner[key], r.refused[key], len(r.byID)+len(r.refused) >= r.limit
	r.mu.Unlock()
	if who.anonymous() && d != nil {
		card = d.card
	}
	if d != nil {
		switch err := r.update(ctx, d, labels, who.hello, card); {
		case err == nil && d.refused.Load():
			return nil, &fleets.Drop{Reason: reasonRefused, Detail: who.name}
		case !errors.Is(err, ErrDeviceTaken):
			return d, err
		}
		if err := r.leave(ctx, key, d); err != nil { // its id is another's by now: it gets a new one
			return nil, err
		}
	}
	switch {
	case !refusedAt.IsZero() && time.Since(refusedAt) < refusedAgain:
		return nil, &fleets.Drop{Reason: reasonRefused, Detail: who.name}
	case full && refusedAt.IsZero() && d == nil && !r.sweep(ctx, c):
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

// sweep makes room in a full directory: devices of c that were deleted and not heard since leave it, and so does who was
// refused long ago. It reports whether there is room now.
func (r *directory) sweep(ctx context.Context, c *connection) bool {
	r.mu.Lock()
	if time.Since(r.swept) < sweepEvery {
		r.mu.Unlock()
		return false
	}
	r.swept = time.Now()
	maps.DeleteFunc(r.refused, func(_ owner, at time.Time) bool { return time.Since(at) >= refusedAgain })
	var gone []*device
	for _, d := range r.byID {
		if d.conn == c && d.gone.Load() {
			gone = append(gone, d)
		}
	}
	r.mu.Unlock()
	for _, d := range gone {
		if r.leave(ctx, d.key(), d) != nil {
			return false // the connection ends
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byID)+len(r.refused) < r.limit
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

// leave gives the id of d back. Nothing is told of its presence: the id speaks for its new owner.
func (r *directory) leave(ctx context.Context, key owner, d *device) error {
	if err := d.settle(ctx); err != nil {
		return err
	}
	d.source.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, d.id)
	delete(r.byOwner, key)
	return nil
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

// update asks for the record of d anew if that or what the device says of itself has changed. It returns ErrDeviceTaken
// as it is if the record is another device's by now.
func (r *directory) update(ctx context.Context, d *device, labels map[string]string, hello wire.Hello, card uint64) error {
	if d.card == card && !d.changed.Load() {
		return nil
	}
	d.changed.Store(false)
	ask := r.ensure
	if d.own {
		ask = r.adopt
	}
	err := ask(ctx, d.conn, d.id, labels, hello)
	if errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, ErrDeviceTaken) {
		return err
	}
	d.card = card
	d.gone.Store(false)
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
	if other != nil && (other.own || other.conn != c || cleanName(other.name) != labels[labelName]) {
		return ErrDeviceTaken
	}
	return r.persist(ctx, c, id, func() error { return r.parts.Devices.Ensure(id, labels, hello) })
}

// adopt asks for the record of a device that speaks for itself.
func (r *directory) adopt(ctx context.Context, c *connection, id string, labels map[string]string, hello wire.Hello) error {
	return r.persist(ctx, c, id, func() error { return r.parts.Devices.Adopt(id, labels, hello) })
}

func (r *directory) persist(ctx context.Context, c *connection, id string, ask func() error) error {
	for pause := ensureFirstPause; ; pause = min(2*pause, ensureMaxPause) {
		err := ask()
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
