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
	bucket jetstream.KeyValue // nil: this process alone
	limit  int
	series atomic.Int64

	mu     sync.RWMutex
	kinds  map[string]map[string]kind // measurement -> field -> kind; guarded by mu
	fields int                        // guarded by mu
}

func newTypes(bucket jetstream.KeyValue, limit int) *types {
	return &types{bucket: bucket, kinds: make(map[string]map[string]kind), limit: limit}
}

// errTooManyFields says that the registry is full.
var errTooManyFields = errors.New("the hub holds as many different fields as ingest.total_series allows")

// of returns the settled type of a field, 0 if there is none. It does not allocate.
func (t *types) of(measurement, field []byte) kind {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.kinds[string(measurement)][string(field)]
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
	if t.bucket != nil {
		ctx, cancel := context.WithTimeout(ctx, claimTimeout)
		defer cancel()
		key := typeKey(measurement, field)
		_, err := t.bucket.Create(ctx, key, []byte{byte('0' + k)})
		if errors.Is(err, jetstream.ErrKeyExists) {
			var e jetstream.KeyValueEntry
			if e, err = t.bucket.Get(ctx, key); err == nil {
				k = readKind(e.Value())
			}
		}
		if err != nil {
			return fmt.Errorf("settle the type of %s.%s: %w", measurement, field, err)
		}
	}
	t.settle(measurement, field, k)
	return nil
}

// settle takes a type into memory.
func (t *types) settle(measurement, field string, k kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fields := t.kinds[measurement]
	if fields == nil {
		fields = make(map[string]kind)
		t.kinds[measurement] = fields
	}
	if fields[field] == 0 {
		t.fields++
	}
	fields[field] = k
}

// typeKey names a field in the bucket. Names of points hold no slash.
func typeKey(measurement, field string) string { return measurement + "/" + field }

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
			case e.Operation() == jetstream.KeyValuePut:
				if m, f, ok := strings.Cut(e.Key(), "/"); ok {
					t.settle(m, f, readKind(e.Value()))
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// addSeries counts one more series, if there is room.
func (t *types) addSeries() bool {
	if t.series.Add(1) > int64(t.limit) {
		t.series.Add(-1)
		return false
	}
	return true
}

// FieldType is the type of a field as InfluxDB names it: float, integer, boolean or string.
type FieldType struct{ Measurement, Field, Type string }

// Seed settles the types of fields that the store already holds and the registry does not know. Fields of other programs
// whose names no device may use are left out.
func (c *Committer) Seed(ctx context.Context, stored []FieldType) error {
	for _, f := range stored {
		for k, name := range kindNames {
			if name != f.Type || nameFault([]byte(f.Measurement)) != "" || nameFault([]byte(f.Field)) != "" ||
				c.types.of([]byte(f.Measurement), []byte(f.Field)) != 0 {
				continue
			}
			if err := c.types.claim(ctx, f.Measurement, f.Field, k); err != nil {
				return err
			}
		}
	}
	return nil
}
