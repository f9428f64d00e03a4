package devices

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

var (
	// ErrUnknown says that the hub has no such device.
	ErrUnknown = errors.New("device is not known")
	// ErrExists says that the hub already has a device of that id.
	ErrExists = errors.New("device exists already")
	// ErrConflict says that the record was changed by somebody else meanwhile.
	ErrConflict = errors.New("record was changed meanwhile")
)

const (
	// updateTries is how often an update without a revision is tried again when others change the record too.
	updateTries = 8
	rewatchWait = time.Second
)

// Records are the durable device records: a bucket that every node watches into memory. Reads are from memory and see
// what this node wrote itself at once; what other nodes wrote comes within milliseconds.
type Records struct {
	// static after NewRecords
	kv    jetstream.KeyValue
	log   *slog.Logger
	ready chan struct{}

	once    sync.Once
	changes atomic.Uint64 // rises with each change of any record, once it is in memory

	mu        sync.RWMutex // guards all below
	byID      map[string]*Record
	gone      map[string]uint64 // last revisions of records this node deleted, until the watch shows that
	sorted    []*Record         // by id, except for what unsorted holds
	unsorted  map[string]struct{}
	observers []func(old, now *Record)
}

// NewRecords returns the records of a bucket. They fill once Run runs.
func NewRecords(kv jetstream.KeyValue, log *slog.Logger) *Records {
	return &Records{
		kv: kv, log: log, ready: make(chan struct{}), byID: make(map[string]*Record),
		gone: make(map[string]uint64), unsorted: make(map[string]struct{}),
	}
}

// Ready is closed once every record of the bucket is in memory.
func (r *Records) Ready() <-chan struct{} { return r.ready }

// Observe calls fn for each change of a record from now on: old is nil for a new one, now is nil for a deleted one. fn
// must not block.
func (r *Records) Observe(fn func(old, now *Record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observers = append(r.observers, fn)
}

// OnDelete calls fn for each record that is deleted from now on, on whichever node. fn must not block.
func (r *Records) OnDelete(fn func(id string)) {
	r.Observe(func(old, now *Record) {
		if now == nil {
			fn(old.ID)
		}
	})
}

// Run watches the bucket until ctx ends.
func (r *Records) Run(ctx context.Context) error {
	for {
		err := r.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.log.Warn("device records: watch ended, trying again", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatchWait):
		}
	}
}

func (r *Records) watch(ctx context.Context) error {
	w, err := r.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch device records: %w", err)
	}
	defer w.Stop()
	seen := make(map[string]struct{})
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				return errors.New("watch device records: closed")
			}
			if e == nil {
				r.forget(seen)
				seen = nil
				r.once.Do(func() { close(r.ready) })
				continue
			}
			if seen != nil {
				seen[e.Key()] = struct{}{}
			}
			r.take(e)
		}
	}
}

// forget drops what a fresh watch did not show: it was deleted, and its marker gone, while nobody watched.
func (r *Records) forget(seen map[string]struct{}) {
	r.mu.Lock()
	var lost []*Record
	for id, rec := range r.byID {
		if key, err := bus.DeviceKey(id); err == nil {
			if _, ok := seen[key]; !ok {
				lost = append(lost, rec)
			}
		}
	}
	r.mu.Unlock()
	for _, rec := range lost {
		if _, err := r.kv.Get(context.Background(), rec.key()); errors.Is(err, jetstream.ErrKeyNotFound) {
			r.store(rec.ID, nil, rec.Revision+1)
		}
	}
}

func (r *Records) take(e jetstream.KeyValueEntry) {
	id, err := bus.KeyDevice(e.Key())
	if err != nil {
		r.log.Warn("device records: not a device", "key", e.Key())
		return
	}
	if e.Operation() != jetstream.KeyValuePut {
		r.store(id, nil, e.Revision())
		return
	}
	rec := &Record{}
	if err := json.Unmarshal(e.Value(), rec); err != nil || rec.ID != id {
		r.log.Error("device records: unreadable record", "device_id", id, "err", err)
		return
	}
	rec.Revision = e.Revision()
	old, _ := r.Record(id)
	if err := rec.prepare(old); err != nil {
		// A key that this version does not take must not lock the whole device out of the list.
		r.log.Error("device records: bad key", "device_id", id, "err", err)
	}
	r.store(id, rec, e.Revision())
}

// store puts a record, or its absence, into memory unless memory is newer, and tells the observers.
func (r *Records) store(id string, rec *Record, revision uint64) {
	r.mu.Lock()
	old := r.byID[id]
	if old != nil && old.Revision >= revision || r.gone[id] >= revision {
		r.mu.Unlock()
		return
	}
	delete(r.gone, id)
	if rec == nil {
		delete(r.byID, id)
		r.cut(id)
	} else {
		r.byID[id] = rec
		r.place(old, rec)
	}
	r.changes.Add(1)
	observers := r.observers
	r.mu.Unlock()
	if old == nil && rec == nil {
		return
	}
	for _, fn := range observers {
		fn(old, rec)
	}
}

// place puts rec into the sorted list, at once if it only takes the place of an older one. Called with mu held.
func (r *Records) place(old, rec *Record) {
	if old != nil {
		if i, ok := r.find(rec.ID); ok {
			r.sorted[i] = rec
			return
		}
	}
	r.unsorted[rec.ID] = struct{}{}
}

// cut takes a record out of the sorted list. Called with mu held.
func (r *Records) cut(id string) {
	delete(r.unsorted, id)
	if i, ok := r.find(id); ok {
		r.sorted = slices.Delete(r.sorted, i, i+1)
	}
}

func (r *Records) find(id string) (int, bool) {
	return slices.BinarySearchFunc(r.sorted, id, func(rec *Record, id string) int { return strings.Compare(rec.ID, id) })
}

// ordered returns all records by id. What it returns is not changed afterwards: place and cut would, so it is cloned
// under the lock, which costs less than holding the lock while a list is filtered.
func (r *Records) ordered(from string) []*Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unsorted) > 0 {
		for id := range r.unsorted {
			r.sorted = append(r.sorted, r.byID[id])
		}
		clear(r.unsorted)
		slices.SortFunc(r.sorted, func(a, b *Record) int { return cmp.Compare(a.ID, b.ID) })
	}
	i, found := r.find(from)
	if found {
		i++
	}
	return slices.Clone(r.sorted[i:])
}

// Record returns a device's record. It is shared: do not change it.
func (r *Records) Record(id string) (*Record, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	rec, ok := r.byID[id]
	return rec, ok
}

// All calls each for every record that fits, by id, until it returns false. What changes meanwhile may be seen or not.
func (r *Records) All(fits func(*Record) bool, each func(*Record) bool) {
	for _, rec := range r.ordered("") {
		if fits(rec) && !each(rec) {
			return
		}
	}
}

// Len is the number of records.
func (r *Records) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byID)
}

// Account answers the token verifier.
func (r *Records) Account(device string) (auth.Account, bool) {
	rec, ok := r.Record(device)
	if !ok {
		return auth.Account{}, false
	}
	return auth.Account{
		Disabled: rec.Disabled, Pending: rec.Pending, Created: rec.Created, NotBefore: rec.TokensNotBefore, Keys: rec.keys,
	}, true
}

func (r *Record) key() string {
	key, _ := bus.DeviceKey(r.ID) // the id was checked when the record came to be
	return key
}
