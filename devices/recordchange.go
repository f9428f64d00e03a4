package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Create stores a new record. It fails with ErrExists or ErrInvalid.
func (r *Records) Create(ctx context.Context, rec *Record) (*Record, error) {
	rec = rec.Clone()
	rec.born(time.Now())
	if err := errors.Join(rec.check(), rec.prepare(nil)); err != nil {
		return nil, fmt.Errorf("create device: %w", err)
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("create device: %w", err)
	}
	rev, err := r.kv.Create(ctx, rec.key(), value)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("create device %s: %w", rec.ID, ErrExists)
	}
	if err != nil {
		return nil, fmt.Errorf("create device %s: %w", rec.ID, err)
	}
	rec.Revision = rev
	r.store(rec.ID, rec, rev)
	return rec, nil
}

// Update changes a record by fn. With a revision it fails with ErrConflict if the record has another one; with zero it
// tries again on the newer record. An fn that returns false changes nothing; one that fails ends the update.
func (r *Records) Update(ctx context.Context, id string, revision uint64, fn func(*Record) (bool, error)) (*Record, error) {
	for range updateTries {
		old, ok := r.Record(id)
		if !ok {
			return nil, fmt.Errorf("update device %s: %w", id, ErrUnknown)
		}
		if revision != 0 && old.Revision != revision {
			return nil, fmt.Errorf("update device %s: %w", id, ErrConflict)
		}
		rec, err := r.update(ctx, old, fn)
		if err == nil {
			return rec, nil
		}
		if !errors.Is(err, ErrConflict) || revision != 0 {
			return nil, fmt.Errorf("update device %s: %w", id, err)
		}
		if err := r.refresh(ctx, id); err != nil {
			return nil, fmt.Errorf("update device %s: %w", id, err)
		}
	}
	return nil, fmt.Errorf("update device %s: %w", id, ErrConflict)
}

func (r *Records) update(ctx context.Context, old *Record, fn func(*Record) (bool, error)) (*Record, error) {
	rec := old.Clone()
	change, err := fn(rec)
	if err != nil || !change {
		return old, err
	}
	rec.ID, rec.Created = old.ID, old.Created
	if err := errors.Join(rec.check(), rec.prepare(old)); err != nil {
		return nil, err
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	rev, err := r.kv.Update(ctx, rec.key(), value, old.Revision)
	if changedMeanwhile(err) {
		return nil, ErrConflict
	}
	if err != nil {
		return nil, err
	}
	rec.Revision = rev
	r.store(rec.ID, rec, rev)
	return rec, nil
}

// Refresh returns a device's record as the bucket has it now, whether the watch has brought it yet or not.
func (r *Records) Refresh(ctx context.Context, id string) (*Record, error) {
	if err := r.refresh(ctx, id); err != nil {
		return nil, fmt.Errorf("read device %s: %w", id, err)
	}
	rec, ok := r.Record(id)
	if !ok {
		return nil, fmt.Errorf("read device %s: %w", id, ErrUnknown)
	}
	return rec, nil
}

// refresh reads one record from the bucket instead of waiting for the watch.
func (r *Records) refresh(ctx context.Context, id string) error {
	key, err := bus.DeviceKey(id)
	if err != nil {
		return err
	}
	e, err := r.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return ErrUnknown
	}
	if err != nil {
		return err
	}
	r.take(e)
	return nil
}

// changedMeanwhile reports a wrong last revision, which a server alone and a replicated one name differently.
func changedMeanwhile(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch)
}

// Delete removes a record. A live session of the device ends within a second, on any node.
func (r *Records) Delete(ctx context.Context, id string, revision uint64) error {
	rec, ok := r.Record(id)
	if !ok {
		return fmt.Errorf("delete device %s: %w", id, ErrUnknown)
	}
	var opts []jetstream.KVDeleteOpt
	if revision != 0 {
		opts = append(opts, jetstream.LastRevision(revision))
	}
	err := r.kv.Delete(ctx, rec.key(), opts...)
	if changedMeanwhile(err) {
		return fmt.Errorf("delete device %s: %w", id, ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("delete device %s: %w", id, err)
	}
	// The deletion's own revision is not told, the watch brings it. Until then nothing up to the record's may come back.
	r.store(id, nil, rec.Revision+1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.byID[id]; !ok {
		r.gone[id] = rec.Revision
	}
	return nil
}

// Revoke makes every token of the device that was issued before now worthless, and those that were dated ahead, to when
// the record was made or its tokens were revoked.
func (r *Records) Revoke(ctx context.Context, id string, now time.Time) (*Record, error) {
	return r.Update(ctx, id, 0, func(rec *Record) (bool, error) {
		at, least := now.UTC().Truncate(time.Millisecond), rec.TokensFrom().Add(time.Millisecond)
		if at.Before(least) {
			at = least
		}
		rec.TokensNotBefore = at
		return true, nil
	})
}
