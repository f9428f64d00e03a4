package ingest

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// types is the type registry: InfluxDB keeps the first type of a field per shard and refuses others, so the hub does so
// before the ack, where the device can still learn of it. It also counts the fields, which bounds it.
type types struct {
	mu     sync.RWMutex
	kinds  map[string]map[string]kind // measurement -> field -> kind; guarded by mu
	fields int                        // guarded by mu
	series atomic.Int64
	limit  int
}

func newTypes(limit int) *types { return &types{kinds: make(map[string]map[string]kind), limit: limit} }

// claim settles the type of a field: the first one wins. It returns the type that holds.
func (t *types) claim(measurement, field string, k kind) (kind, error) {
	t.mu.RLock()
	have := t.kinds[measurement][field]
	t.mu.RUnlock()
	if have != 0 {
		return have, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fields := t.kinds[measurement]
	if have := fields[field]; have != 0 {
		return have, nil
	}
	if t.fields >= t.limit {
		return 0, fmt.Errorf("the hub holds %d different fields, its limit (ingest.total_series)", t.fields)
	}
	if fields == nil {
		fields = make(map[string]kind)
		t.kinds[measurement] = fields
	}
	fields[field] = k
	t.fields++
	return k, nil
}

// addSeries counts one more series, if there is room.
func (t *types) addSeries() bool {
	if t.series.Add(1) > int64(t.limit) {
		t.series.Add(-1)
		return false
	}
	return true
}
