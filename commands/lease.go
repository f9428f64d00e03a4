package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Lease says who alone may command a device, and until when. Times are Unix milliseconds.
type Lease struct {
	Device string `json:"device"`
	Holder string `json:"holder"`
	Since  int64  `json:"since"`
	Until  int64  `json:"until"`
}

// The bounds of a lease.
const (
	MinLease     = time.Second
	MaxLease     = 24 * time.Hour
	DefaultLease = 10 * time.Minute
	leaseTries   = 8 // against others who change the same lease
)

// ErrNoLease says that nobody holds the device.
var ErrNoLease = errors.New("nobody holds the device")

// HeldError says who holds a device. It is ErrHeld.
type HeldError struct{ Lease Lease }

// Error names the holder and the end.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s holds %s until %s", e.Lease.Holder, e.Lease.Device, time.UnixMilli(e.Lease.Until).UTC().Format(time.RFC3339))
}

// Unwrap returns ErrHeld.
func (e *HeldError) Unwrap() error { return ErrHeld }

// leases are all leases, durable in a bucket that every node watches into memory. A lease ends by the clock of the node
// that is asked; between two nodes a new one may be known some milliseconds later.
type leases struct {
	// static after open
	kv  jetstream.KeyValue
	log *slog.Logger

	mu   sync.Mutex
	held map[string]leased // by device; guarded by mu
}

type leased struct {
	Lease
	rev uint64
}

func openLeases(ctx context.Context, b *bus.Bus, log *slog.Logger) (*leases, error) {
	kv, err := b.Bucket(ctx, bus.BucketControl)
	if err != nil {
		return nil, err
	}
	return &leases{kv: kv, log: log, held: make(map[string]leased)}, nil
}

// watch follows the bucket until ctx ends and closes loaded once what is there is in memory.
func (l *leases) watch(ctx context.Context, loaded chan<- struct{}) {
	for ctx.Err() == nil {
		if err := l.watchOnce(ctx, &loaded); err != nil && ctx.Err() == nil {
			l.log.Warn("watch leases", "err", err)
		}
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
		}
	}
}

func (l *leases) watchOnce(ctx context.Context, loaded *chan<- struct{}) error {
	w, err := l.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch leases: %w", err)
	}
	defer w.Stop()
	sweep := time.NewTicker(DefaultLease)
	defer sweep.Stop()
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return errors.New("watch ended")
			case e != nil:
				l.heard(e)
			case *loaded != nil:
				close(*loaded)
				*loaded = nil
			}
		case <-sweep.C:
			l.sweep(time.Now())
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *leases) heard(e jetstream.KeyValueEntry) {
	device, err := bus.KeyDevice(e.Key())
	if err != nil {
		return
	}
	v := leased{rev: e.Revision()}
	if e.Operation() == jetstream.KeyValuePut && json.Unmarshal(e.Value(), &v.Lease) != nil {
		return
	}
	l.keep(device, v)
}

// keep takes what is younger than what is known; a lease without holder is one that was given back.
func (l *leases) keep(device string, v leased) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v.rev > l.held[device].rev {
		l.held[device] = v
	}
}

// sweep forgets leases that have ended.
func (l *leases) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for device, v := range l.held {
		if v.Until < now.UnixMilli() {
			delete(l.held, device)
		}
	}
}

// of returns the lease on a device, if it has not ended.
func (l *leases) of(device string, now time.Time) (Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.held[device]
	return v.Lease, v.Holder != "" && now.UnixMilli() < v.Until
}

// stored reads the lease on a device and the revision to change it at; 0 is none.
func (l *leases) stored(ctx context.Context, key string) (v leased, err error) {
	e, err := l.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return v, nil
	case err != nil:
		return v, fmt.Errorf("read lease: %w", err)
	}
	v.rev = e.Revision()
	if err := json.Unmarshal(e.Value(), &v.Lease); err != nil {
		return v, fmt.Errorf("read lease: %w", err)
	}
	return v, nil
}

// put stores a lease if it still has the revision; ok is false if somebody else was first.
func (l *leases) put(ctx context.Context, key string, next Lease, rev uint64) (ok bool, err error) {
	data, err := json.Marshal(next)
	if err != nil {
		return false, fmt.Errorf("store lease: %w", err)
	}
	var made uint64
	if rev == 0 {
		made, err = l.kv.Create(ctx, key, data)
	} else {
		made, err = l.kv.Update(ctx, key, data, rev)
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("store lease: %w", err)
	}
	l.keep(next.Device, leased{next, made})
	return true, nil
}

// Hold gives actor the lease on a device for ttl, or prolongs it: others' commands are refused until it ends, with
// ErrHeld. If somebody else has it, it is theirs (HeldError) unless takeOver says otherwise; from names whom it was taken
// from.
func (r *Router) Hold(ctx context.Context, device, actor string, ttl time.Duration, takeOver bool) (lease Lease, from string, err error) {
	if ttl < MinLease || ttl > MaxLease {
		return lease, "", invalid("/ttl", fmt.Sprintf("must be from %s to %s", MinLease, MaxLease))
	}
	if err := r.awaitReady(ctx); err != nil {
		return lease, "", err
	}
	if !r.devices.Known(device) {
		return lease, "", ErrUnknownDevice
	}
	key, err := bus.DeviceKey(device)
	if err != nil {
		return lease, "", ErrUnknownDevice
	}
	for range leaseTries {
		old, err := r.leases.stored(ctx, key)
		if err != nil {
			return lease, "", err
		}
		now := time.Now()
		lease, from = Lease{Device: device, Holder: actor, Since: now.UnixMilli(), Until: now.Add(ttl).UnixMilli()}, ""
		switch live := now.UnixMilli() < old.Until; {
		case live && old.Holder == actor:
			lease.Since = old.Since
		case live && !takeOver:
			return old.Lease, "", &HeldError{old.Lease}
		case live:
			from = old.Holder
		}
		if ok, err := r.leases.put(ctx, key, lease, old.rev); ok || err != nil {
			return lease, from, err
		}
	}
	return lease, "", ErrOverloaded
}

// Release ends actor's lease on a device, or anybody's if force says so. It returns the lease that ended.
func (r *Router) Release(ctx context.Context, device, actor string, force bool) (Lease, error) {
	if err := r.awaitReady(ctx); err != nil {
		return Lease{}, err
	}
	key, err := bus.DeviceKey(device)
	if err != nil {
		return Lease{}, ErrUnknownDevice
	}
	for range leaseTries {
		old, err := r.leases.stored(ctx, key)
		switch {
		case err != nil:
			return Lease{}, err
		case time.Now().UnixMilli() >= old.Until:
			return Lease{}, ErrNoLease
		case old.Holder != actor && !force:
			return old.Lease, &HeldError{old.Lease}
		}
		// Kept as one that has ended, so that revisions go on; the bucket forgets it.
		ended := Lease{Device: device, Holder: old.Holder, Since: old.Since, Until: time.Now().UnixMilli()}
		if ok, err := r.leases.put(ctx, key, ended, old.rev); ok || err != nil {
			return old.Lease, err
		}
	}
	return Lease{}, ErrOverloaded
}

// Lease returns who holds a device, or ErrNoLease.
func (r *Router) Lease(ctx context.Context, device string) (Lease, error) {
	if err := r.awaitReady(ctx); err != nil {
		return Lease{}, err
	}
	l, ok := r.leases.of(device, time.Now())
	if !ok {
		return Lease{}, ErrNoLease
	}
	return l, nil
}

// checkLease refuses a command to a device that another operator holds.
func (r *Router) checkLease(q *Request) error {
	if l, ok := r.leases.of(q.Device, time.Now()); ok && l.Holder != q.Actor {
		return &HeldError{l}
	}
	return nil
}
