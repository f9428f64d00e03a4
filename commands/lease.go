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

// leased is a lease as it is stored. It is on one device: the next of the id is free.
type leased struct {
	Lease
	Born int64 `json:"born,omitempty"` // when the device's record was made; 0 of a hub that did not note it
	rev  uint64
}

// live reports whether v holds the device whose record was made at born.
func (v *leased) live(born int64, now time.Time) bool {
	return v.Holder != "" && now.UnixMilli() < v.Until && (v.Born == 0 || v.Born == born)
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
	if e.Operation() == jetstream.KeyValuePut && json.Unmarshal(e.Value(), &v) != nil {
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

// of returns the lease on the device whose record was made at born, if it has not ended.
func (l *leases) of(device string, born int64, now time.Time) (Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.held[device]
	return v.Lease, v.live(born, now)
}

// unmarked are the devices whose lease does not say which device of the id it is on.
func (l *leases) unmarked() (devices []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for device, v := range l.held {
		if v.Holder != "" && v.Born == 0 {
			devices = append(devices, device)
		}
	}
	return devices
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
	if err := json.Unmarshal(e.Value(), &v); err != nil {
		return v, fmt.Errorf("read lease: %w", err)
	}
	return v, nil
}

// put stores a lease if it still has the revision; ok is false if somebody else was first.
func (l *leases) put(ctx context.Context, key string, next leased, rev uint64) (ok bool, err error) {
	data, err := json.Marshal(next)
	if err != nil {
		return false, fmt.Errorf("store lease: %w", err)
	}
	if rev == 0 {
		next.rev, err = l.kv.Create(ctx, key, data)
	} else {
		next.rev, err = l.kv.Update(ctx, key, data, rev)
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("store lease: %w", err)
	}
	l.keep(next.Device, next)
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
	born, known := r.devices.Born(device)
	if !known {
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
		switch live := old.live(born, now); {
		case live && old.Holder == actor:
			lease.Since = old.Since
		case live && !takeOver:
			return old.Lease, "", &HeldError{old.Lease}
		case live:
			from = old.Holder
		}
		if ok, err := r.leases.put(ctx, key, leased{Lease: lease, Born: born}, old.rev); ok || err != nil {
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
	born, _ := r.devices.Born(device)
	for range leaseTries {
		old, err := r.leases.stored(ctx, key)
		switch {
		case err != nil:
			return Lease{}, err
		case !old.live(born, time.Now()):
			return Lease{}, ErrNoLease
		case old.Holder != actor && !force:
			return old.Lease, &HeldError{old.Lease}
		}
		if ok, err := r.leases.end(ctx, key, old); ok || err != nil {
			return old.Lease, err
		}
	}
	return Lease{}, ErrOverloaded
}

// end stores that a lease is over: as one that has ended, so that revisions go on; the bucket forgets it.
func (l *leases) end(ctx context.Context, key string, old leased) (ok bool, err error) {
	rev := old.rev
	old.Until = time.Now().UnixMilli()
	return l.put(ctx, key, old, rev)
}

// endLease ends the lease on a device that was deleted. Whoever was first to change it meanwhile, for the next device of
// the id or for the same reason, was right.
func (r *Router) endLease(ctx context.Context, d remains) error {
	if _, ok := r.leases.of(d.device, d.born, time.Now()); !ok { // so far as this node knows: most devices never are held
		return nil
	}
	key, err := bus.DeviceKey(d.device)
	if err != nil {
		return nil //nolint:nilerr // nobody holds what cannot be
	}
	old, err := r.leases.stored(ctx, key)
	if err != nil {
		return err
	}
	if old.Born != 0 && old.Born != d.born || !old.live(old.Born, time.Now()) {
		return nil
	}
	_, err = r.leases.end(ctx, key, old)
	return err
}

// Lease returns who holds a device, or ErrNoLease.
func (r *Router) Lease(ctx context.Context, device string) (Lease, error) {
	if err := r.awaitReady(ctx); err != nil {
		return Lease{}, err
	}
	born, known := r.devices.Born(device)
	l, ok := r.leases.of(device, born, time.Now())
	if !ok || !known {
		return Lease{}, ErrNoLease
	}
	return l, nil
}

// checkLease refuses a command to a device that another operator holds.
func (r *Router) checkLease(q *Request, born int64) error {
	if l, ok := r.leases.of(q.Device, born, time.Now()); ok && l.Holder != q.Actor {
		return &HeldError{l}
	}
	return nil
}
