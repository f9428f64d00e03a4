package enroll

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/devices"
)

const (
	// changeTries bounds the tries against other nodes that change the same enrollment.
	changeTries = 32
	changeWait  = 4 * time.Millisecond
)

// Enrollments are the enrollments of a bucket, as all nodes see them.
type Enrollments struct {
	// static after NewEnrollments
	kv      jetstream.KeyValue
	records *devices.Records
	now     func() time.Time

	turn chan struct{} // holds one: who changes an enrollment; only other nodes then are in the way
}

// NewEnrollments returns the enrollments of a bucket, whose devices get records; a nil clock is the system's.
func NewEnrollments(kv jetstream.KeyValue, records *devices.Records, now func() time.Time) *Enrollments {
	if now == nil {
		now = time.Now
	}
	return &Enrollments{kv: kv, records: records, now: now, turn: make(chan struct{}, 1)}
}

// Create makes an enrollment. The secret is told this once.
func (e *Enrollments) Create(ctx context.Context, n New) (made *Enrollment, secret string, err error) {
	have, err := e.List(ctx)
	if err != nil {
		return nil, "", err
	}
	if len(have) >= MaxEnrollments {
		return nil, "", fmt.Errorf("create enrollment: %w", ErrTooMany)
	}
	made, secret, err = newEnrollment(n, e.now())
	if err != nil {
		return nil, "", fmt.Errorf("create enrollment: %w", err)
	}
	value, err := json.Marshal(made)
	if err != nil {
		return nil, "", fmt.Errorf("create enrollment: %w", err)
	}
	if _, err := e.kv.Create(ctx, made.ID, value); err != nil {
		return nil, "", fmt.Errorf("create enrollment: %w", err)
	}
	return made, secret, nil
}

// List returns all enrollments, newest first.
func (e *Enrollments) List(ctx context.Context) ([]*Enrollment, error) {
	keys, err := e.kv.Keys(ctx)
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list enrollments: %w", err)
	}
	var out []*Enrollment
	for _, id := range keys {
		en, err := e.find(ctx, id)
		if errors.Is(err, ErrUnknown) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list enrollments: %w", err)
		}
		out = append(out, en)
	}
	slices.SortFunc(out, func(a, b *Enrollment) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// Delete ends an enrollment: its secret is worthless from now on. Its devices stay.
func (e *Enrollments) Delete(ctx context.Context, id string) error {
	if _, err := e.find(ctx, id); err != nil {
		return fmt.Errorf("delete enrollment %s: %w", id, err)
	}
	if err := e.kv.Purge(ctx, id); err != nil {
		return fmt.Errorf("delete enrollment %s: %w", id, err)
	}
	return nil
}

// Approve lets a device that waits come on line.
func (e *Enrollments) Approve(ctx context.Context, id, device string) (*devices.Record, error) {
	rec, err := e.records.Update(ctx, device, 0, func(r *devices.Record) (bool, error) {
		if r.Enrollment != id || !r.Pending {
			return false, ErrNotPending
		}
		r.Pending = false
		return true, nil
	})
	if errors.Is(err, devices.ErrUnknown) {
		err = ErrNotPending
	}
	if err != nil {
		return nil, fmt.Errorf("approve %s: %w", device, err)
	}
	return rec, nil
}

// Pending returns a page of the devices that wait.
func (e *Enrollments) Pending(cursor string, limit int) (devices.Page, error) {
	return e.records.List(devices.Query{Pending: true, Cursor: cursor, Limit: limit}, nil)
}

func (e *Enrollments) find(ctx context.Context, id string) (*Enrollment, error) {
	if !checkID(id) {
		return nil, ErrUnknown
	}
	entry, err := e.kv.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("read enrollment: %w", err)
	}
	en := &Enrollment{revision: entry.Revision()}
	if err := json.Unmarshal(entry.Value(), en); err != nil {
		return nil, fmt.Errorf("read enrollment: %w", err)
	}
	return en, nil
}

// change changes an enrollment by fn, against whoever else does so.
func (e *Enrollments) change(ctx context.Context, id string, fn func(*Enrollment) error) error {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for range changeTries {
		en, err := e.find(ctx, id)
		if err != nil {
			return err
		}
		if err := fn(en); err != nil {
			return err
		}
		value, err := json.Marshal(en)
		if err != nil {
			return fmt.Errorf("change enrollment: %w", err)
		}
		_, err = e.kv.Update(ctx, id, value, en.revision)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return fmt.Errorf("change enrollment: %w", err)
		}
		select {
		case <-time.After(rand.N(changeWait)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errBusy
}

// take takes a slot for a device and returns its number. A device that asks twice at once gets one.
func (e *Enrollments) take(ctx context.Context, id string, s slot) (number uint64, err error) {
	err = e.change(ctx, id, func(en *Enrollment) error {
		if err := e.settle(ctx, en); err != nil {
			return err
		}
		if at := en.at(s.Device); at >= 0 {
			if en.Taking[at].Key != s.Key {
				return errTaken
			}
			en.Taking[at].Since = s.Since
			number = en.Taking[at].Number
			return nil
		}
		if !e.now().Before(en.Expires) {
			return errExpired
		}
		switch {
		case en.Used >= en.MaxDevices && len(en.Taking) > 0:
			return errBusy // one of those under way may come to nothing
		case en.Used >= en.MaxDevices:
			return errExhausted
		case len(en.Taking) >= maxTaking:
			return errBusy
		}
		en.Used++
		en.Last++
		s.Number, number = en.Last, en.Last
		en.Taking = append(en.Taking, s)
		return nil
	})
	return number, err
}

// giveBack returns a slot that led to no record.
func (e *Enrollments) giveBack(ctx context.Context, id string, number uint64) error {
	err := e.change(ctx, id, func(en *Enrollment) error {
		if at := slices.IndexFunc(en.Taking, func(s slot) bool { return s.Number == number }); at >= 0 {
			en.Taking = slices.Delete(en.Taking, at, at+1)
			en.Used--
		}
		return nil
	})
	if errors.Is(err, ErrUnknown) {
		return nil // deleted meanwhile
	}
	return err
}

// settle closes the books on slots that were taken before: a record says that its slot is used, and a slot that has
// none for long was given to a node that died.
func (e *Enrollments) settle(ctx context.Context, en *Enrollment) error {
	var open []slot
	for _, s := range en.Taking {
		rec, ok := e.records.Record(s.Device)
		if ok && en.spent(s, rec) {
			continue
		}
		if e.now().Sub(s.Since) <= takingGrace {
			open = append(open, s)
			continue
		}
		rec, err := e.records.Refresh(ctx, s.Device)
		if err != nil && !errors.Is(err, devices.ErrUnknown) {
			return fmt.Errorf("look into slot of %s: %w", s.Device, err)
		}
		if err != nil || !en.spent(s, rec) {
			en.Used--
		}
	}
	en.Taking = open
	return nil
}
