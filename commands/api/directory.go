package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/selector"
)

// The kinds of records in the operators bucket, by the first part of their key.
const (
	operatorPrefix = "operator." // + base64url of the name
	sessionPrefix  = "session."  // + SHA-256 of the cookie's secret
	linkPrefix     = "link."     // + SHA-256 of the sign-in secret
	keyPrefix      = "key."      // + kind + "." + kid of a signing key that was removed
)

// withdrawnFor is how long all nodes refuse a removed key by its name: a shared directory shows them that the file is gone
// within that time, however it is shared.
const withdrawnFor = 24 * time.Hour

// Operator is who may use the API.
type Operator struct {
	Name            string `json:"name"`
	Role            Role   `json:"role"`
	Selector        string `json:"selector,omitempty"`
	Disabled        bool   `json:"disabled"`
	Created         int64  `json:"created"`
	TokensNotBefore int64  `json:"tokens_not_before,omitempty"`
}

// sessionRecord is a console session; whoever holds the secret that its key is the hash of is the operator.
type sessionRecord struct {
	Operator string `json:"operator"`
	Selector string `json:"selector,omitempty"` // of the token it was made with
	// SignedBy is the key of that token; it is empty after a sign-in link.
	SignedBy signedBy `json:"signed_by,omitzero"`
	Created  int64    `json:"created"`
	Expires  int64    `json:"expires"`
}

// linkRecord is a sign-in link that nobody has used.
type linkRecord struct {
	Operator string `json:"operator"`
	Created  int64  `json:"created"`
	Expires  int64  `json:"expires"`
}

// withdrawnKey tells every node at once that a signing key was removed.
type withdrawnKey struct {
	Expires int64 `json:"expires"`
}

// stored is what memory knows of one key.
type stored struct {
	rev   uint64
	value any // *Operator, *sessionRecord, *linkRecord or *withdrawnKey; nil: deleted at goneAt
	at    time.Time
}

// directory is the operators bucket, watched into memory. Changes of this node are seen at once, those of others when
// the watch brings them.
type directory struct {
	// static after New
	kv      jetstream.KeyValue
	now     func() time.Time
	changed func(operator string) // an operator's rights or sessions changed
	keyGone func()                // a signing key was removed

	mu    sync.RWMutex
	byKey map[string]stored // guarded by mu
}

// tombstoneKeep is how long memory remembers a deletion, so that an older watch event cannot bring the record back.
const tombstoneKeep = 10 * time.Minute

func openDirectory(ctx context.Context, kv jetstream.KeyValue, now func() time.Time) (*directory, error) {
	d := &directory{kv: kv, now: now, changed: func(string) {}, keyGone: func() {}, byKey: map[string]stored{}}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("read operators: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read operators: %w", ctx.Err())
		case e, ok := <-w.Updates():
			if !ok {
				return nil, errors.New("read operators: the watch ended")
			}
			if e == nil {
				return d, nil
			}
			d.apply(e)
		}
	}
}

// watch keeps memory as the bucket is, until ctx ends.
func (d *directory) watch(ctx context.Context) error {
	w, err := d.kv.WatchAll(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch operators: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return errors.New("watch operators: the watch ended")
			}
			if e != nil {
				d.apply(e)
			}
		}
	}
}

func (d *directory) apply(e jetstream.KeyValueEntry) {
	var value any
	if e.Operation() == jetstream.KeyValuePut {
		value = decodeRecord(e.Key(), e.Value())
	}
	d.remember(e.Key(), e.Revision(), value)
}

// decodeRecord returns nil, that is nobody, for what this version cannot read.
func decodeRecord(key string, data []byte) any {
	var v any
	switch {
	case strings.HasPrefix(key, operatorPrefix):
		v = &Operator{}
	case strings.HasPrefix(key, sessionPrefix):
		v = &sessionRecord{}
	case strings.HasPrefix(key, linkPrefix):
		v = &linkRecord{}
	case strings.HasPrefix(key, keyPrefix):
		v = &withdrawnKey{}
	default:
		return nil
	}
	if json.Unmarshal(data, v) != nil {
		return nil
	}
	return v
}

// remember takes a revision unless memory has a newer one, and tells whose rights changed.
func (d *directory) remember(key string, rev uint64, value any) {
	d.mu.Lock()
	old, known := d.byKey[key]
	newer := !known || rev > old.rev
	if newer {
		d.byKey[key] = stored{rev: rev, value: value, at: d.now()}
	}
	d.mu.Unlock()
	if !newer {
		return
	}
	for _, v := range []any{old.value, value} {
		switch v := v.(type) {
		case *Operator:
			d.changed(v.Name)
		case *sessionRecord:
			d.changed(v.Operator)
		case *withdrawnKey:
			d.keyGone()
		}
	}
}

// withdraw tells every node that a signing key was removed.
func (d *directory) withdraw(ctx context.Context, kind, kid string) error {
	err := d.put(ctx, withdrawnName(kind, kid), 0, &withdrawnKey{d.now().Add(withdrawnFor).UnixMilli()})
	if errors.Is(err, errConflict) {
		return nil // told already
	}
	return err
}

// withdrawn reports whether a signing key was removed by a node a short while ago.
func (d *directory) withdrawn(kind, kid string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.byKey[withdrawnName(kind, kid)].value != nil
}

func withdrawnName(kind, kid string) string { return keyPrefix + kind + "." + kid }

// knows reports whether lookup finds a key, or that it is gone, in memory.
func (d *directory) knows(key string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, known := d.byKey[key]
	return known
}

// lookup finds a record in memory, or, since another node may just have made it, in the bucket.
func (d *directory) lookup(ctx context.Context, key string) (any, uint64, error) {
	d.mu.RLock()
	s, known := d.byKey[key]
	d.mu.RUnlock()
	if known {
		return s.value, s.rev, nil
	}
	e, err := d.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read operators: %w: %w", ErrUnavailable, err)
	}
	d.apply(e)
	return decodeRecord(key, e.Value()), e.Revision(), nil
}

// put writes a record if the key is at revision rev; 0 means that it must not be there.
func (d *directory) put(ctx context.Context, key string, rev uint64, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	var now uint64
	if rev == 0 {
		now, err = d.kv.Create(ctx, key, data)
	} else {
		now, err = d.kv.Update(ctx, key, data, rev)
	}
	if err != nil {
		return asConflict(err)
	}
	d.remember(key, now, v)
	return nil
}

// remove deletes a record if the key is at revision rev.
func (d *directory) remove(ctx context.Context, key string, rev uint64) error {
	if err := d.kv.Delete(ctx, key, jetstream.LastRevision(rev)); err != nil {
		return asConflict(err)
	}
	d.remember(key, rev+1, nil) // the marker's own revision is at least that
	return nil
}

// errConflict says that somebody else changed the record first.
var errConflict = errors.New("the record was changed meanwhile")

func asConflict(err error) error {
	var api *jetstream.APIError
	if errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return errConflict
	}
	return fmt.Errorf("write operators: %w: %w", ErrUnavailable, err)
}

// each calls f for every record of memory whose key has the prefix, until f returns false.
func (d *directory) each(prefix string, f func(key string, s stored) bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for key, s := range d.byKey {
		if s.value != nil && strings.HasPrefix(key, prefix) && !f(key, s) {
			return
		}
	}
}

// sweep deletes what has expired, and forgets old deletions.
func (d *directory) sweep(ctx context.Context) error {
	now := d.now()
	expired := map[string]uint64{}
	d.mu.Lock()
	for key, s := range d.byKey {
		if s.value == nil {
			if now.Sub(s.at) > tombstoneKeep {
				delete(d.byKey, key)
			}
		} else if end, ends := endOf(s.value); ends && end <= now.UnixMilli() {
			expired[key] = s.rev
		}
	}
	d.mu.Unlock()
	for key, rev := range expired {
		if err := d.remove(ctx, key, rev); err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
	if err := d.kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(time.Hour)); err != nil {
		return fmt.Errorf("purge deleted operator records: %w", err)
	}
	return nil
}

// endOf is when a record expires, if it does.
func endOf(v any) (at int64, ends bool) {
	switch v := v.(type) {
	case *sessionRecord:
		return v.Expires, true
	case *linkRecord:
		return v.Expires, true
	case *withdrawnKey:
		return v.Expires, true
	}
	return 0, false
}

func operatorKey(name string) string {
	return operatorPrefix + base64.RawURLEncoding.EncodeToString([]byte(name))
}

// operator returns the record of name, or ErrOperatorNotFound.
func (d *directory) operator(ctx context.Context, name string) (*Operator, uint64, error) {
	if checkName(name) != nil {
		return nil, 0, ErrOperatorNotFound
	}
	v, rev, err := d.lookup(ctx, operatorKey(name))
	if err != nil {
		return nil, 0, err
	}
	op, ok := v.(*Operator)
	if !ok {
		return nil, rev, ErrOperatorNotFound
	}
	return op, rev, nil
}

// bound parses selectors that were checked when they were stored.
func bound(selectors ...string) ([]selector.Selector, error) {
	var out []selector.Selector
	for _, s := range selectors {
		sel, err := selector.Parse(s)
		if err != nil {
			return nil, err
		}
		if !sel.Empty() {
			out = append(out, sel)
		}
	}
	return out, nil
}
