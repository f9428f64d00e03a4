package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// types is the type registry: InfluxDB keeps the first type of a field and refuses others, too late for a device to learn
// of it. So the first type wins here, before the ack, for all nodes and across restarts: it is kept in a bucket that every
// node watches into memory. It also counts fields and series, which bounds them.
type types struct {
	bucket  jetstream.KeyValue // nil: this process alone
	limit   int
	changed func(measurement, field string) // a settled type is another now, or none
	series  atomic.Int64

	mu     sync.RWMutex
	kinds  map[string]map[string]settled // measurement -> field; guarded by mu
	fields int                           // that have a type; guarded by mu
}

// settled is the type of a field, 0 of one that an operator forgot, and the revision of the bucket that says so.
type settled struct {
	kind kind
	at   uint64
}

func newTypes(bucket jetstream.KeyValue, limit int) *types {
	return &types{bucket: bucket, kinds: make(map[string]map[string]settled), limit: limit, changed: func(string, string) {}}
}

// errTooManyFields says that the registry is full.
var errTooManyFields = errors.New("the hub holds as many different fields as ingest.total_series allows")

// of returns the settled type of a field, 0 if there is none. It does not allocate.
func (t *types) of(measurement, field []byte) kind {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.kinds[string(measurement)][string(field)].kind
}

// claimTimeout bounds one write to the bucket.
const claimTimeout = 5 * time.Second

// claim settles the type of a field that has none: the first claim of all nodes wins.
func (t *types) claim(ctx context.Context, measurement, field string, k kind) error {
	t.mu.RLock()
	full := t.fields >= t.limit
	t.mu.RUnlock()
	if full {
		return errTooManyFields
	}
	at := uint64(0)
	if t.bucket != nil {
		ctx, cancel := context.WithTimeout(ctx, claimTimeout)
		defer cancel()
		key := typeKey(measurement, field)
		var err error
		at, err = t.bucket.Create(ctx, key, writeKind(k))
		if errors.Is(err, jetstream.ErrKeyExists) {
			var e jetstream.KeyValueEntry
			if e, err = t.bucket.Get(ctx, key); err == nil {
				k, at = readKind(e.Value()), e.Revision()
			}
		}
		if err != nil {
			return fmt.Errorf("settle the type of %s.%s: %w", measurement, field, err)
		}
	}
	t.settle(measurement, field, settled{k, at})
	return nil
}

// settle takes a type into memory, unless a later one is there.
func (t *types) settle(measurement, field string, now settled) {
	t.mu.Lock()
	fields := t.kinds[measurement]
	if fields == nil {
		fields = make(map[string]settled)
		t.kinds[measurement] = fields
	}
	was := fields[field]
	if now.at < was.at {
		t.mu.Unlock()
		return
	}
	fields[field] = now
	switch {
	case was.kind == 0 && now.kind != 0:
		t.fields++
	case was.kind != 0 && now.kind == 0:
		t.fields--
	}
	t.mu.Unlock()
	if was.kind != 0 && was.kind != now.kind {
		t.changed(measurement, field)
	}
}

// set changes the type of a field, for all nodes.
func (t *types) set(ctx context.Context, measurement, field string, k kind) error {
	at := uint64(0)
	if t.bucket != nil {
		ctx, cancel := context.WithTimeout(ctx, claimTimeout)
		defer cancel()
		var err error
		if at, err = t.bucket.Put(ctx, typeKey(measurement, field), writeKind(k)); err != nil {
			return fmt.Errorf("set the type of %s.%s: %w", measurement, field, err)
		}
	}
	t.settle(measurement, field, settled{k, at})
	return nil
}

// forget leaves the type of a field to whoever sends it next, on all nodes.
func (t *types) forget(ctx context.Context, measurement, field string) error {
	if t.bucket != nil {
		ctx, cancel := context.WithTimeout(ctx, claimTimeout)
		defer cancel()
		if err := t.bucket.Delete(ctx, typeKey(measurement, field)); err != nil {
			return fmt.Errorf("forget the type of %s.%s: %w", measurement, field, err)
		}
	}
	t.mu.RLock()
	at := t.kinds[measurement][field].at
	t.mu.RUnlock()
	t.settle(measurement, field, settled{0, at}) // what follows the bucket brings the revision of the removal
	return nil
}

// typeKey names a field in the bucket. Names of points hold neither slash nor equals sign. A key of the bucket may not end in
// a dot nor have two in a row, as names may: then its dots are written as equals signs.
func typeKey(measurement, field string) string {
	key := measurement + "/" + field
	if strings.HasSuffix(key, ".") || strings.Contains(key, "..") {
		return strings.ReplaceAll(key, ".", "=")
	}
	return key
}

func writeKind(k kind) []byte { return []byte{byte('0' + k)} }

func readKind(v []byte) kind {
	if len(v) == 1 && v[0] > '0' && v[0] <= '0'+byte(kindText) {
		return kind(v[0] - '0')
	}
	return kindFloat
}

// watch keeps the registry as the bucket is. known is called once it holds all.
func (t *types) watch(ctx context.Context, known func()) error {
	if t.bucket == nil {
		known()
		<-ctx.Done()
		return nil
	}
	w, err := t.bucket.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch types: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return ctx.Err()
			case e == nil:
				known()
			default:
				t.take(e)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *types) take(e jetstream.KeyValueEntry) {
	m, f, ok := strings.Cut(strings.ReplaceAll(e.Key(), "=", "."), "/")
	if !ok {
		return
	}
	now := settled{at: e.Revision()}
	if e.Operation() == jetstream.KeyValuePut {
		now.kind = readKind(e.Value())
	}
	t.settle(m, f, now)
}

// addSeries counts one more series, if there is room.
func (t *types) addSeries() bool {
	if t.series.Add(1) > int64(t.limit) {
		t.series.Add(-1)
		return false
	}
	return true
}

// dropSeries counts that many fewer.
func (t *types) dropSeries(n int) { t.series.Add(-int64(n)) }
