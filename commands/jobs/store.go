package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// The keys of one job: ID.job (the record, changed by operators and the driver), ID.progress (the driver's),
// ID.devices.LIST.N and ID.results.N (chunkDevices devices each).
const (
	jobKey       = "job"
	progressKey  = "progress"
	devicesKey   = "devices"
	resultsKey   = "results"
	chunkDevices = 1000
)

// progress is how far the driver has come. It is written before commands are asked for.
type progress struct {
	Started int            `json:"started"`
	Intent  int64          `json:"intent"` // when Started last grew
	Counts  map[string]int `json:"counts,omitempty"`
}

// stored is Result without its device, whose place says it.
type stored struct {
	Command string `json:"c,omitempty"`
	State   string `json:"s,omitempty"`
	Code    string `json:"e,omitempty"`
}

// member is a device of a job: the one that had the id when the job was made.
type member struct {
	ID   string `json:"d"`
	Born int64  `json:"b,omitempty"` // when its record was made; 0 in the list of a hub that did not note it
}

// UnmarshalJSON also reads the bare ids of lists that were stored before.
func (m *member) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &m.ID)
	}
	type plain member
	return json.Unmarshal(data, (*plain)(m))
}

// store keeps jobs in their bucket. Every write names the revision that it replaces: two drivers, one of which does not
// know yet that it lost its lease, cannot overwrite each other.
type store struct {
	bus *bus.Bus
	kv  jetstream.KeyValue
}

// errConflict says that somebody else wrote first.
var errConflict = errors.New("changed by somebody else meanwhile")

func key(id string, parts ...string) string {
	for _, p := range parts {
		id += "." + p
	}
	return id
}

func chunkKey(id, kind string, n int) string { return key(id, kind, strconv.Itoa(n)) }

// put stores v in place of revision rev, 0 for none, and returns the new revision.
func (s *store) put(ctx context.Context, key string, v any, rev uint64) (uint64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", key, err)
	}
	var made uint64
	if rev == 0 {
		made, err = s.kv.Create(ctx, key, data)
	} else {
		made, err = s.kv.Update(ctx, key, data, rev)
	}
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return 0, fmt.Errorf("store %s: %w", key, errConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", key, err)
	}
	return made, nil
}

// get reads v and its revision; 0 is absent.
func (s *store) get(ctx context.Context, key string, v any) (uint64, error) {
	e, err := s.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(e.Value(), v); err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	return e.Revision(), nil
}

// listKey is where chunk n of a job's devices is. Each request for a job stores its list under a name of its own: of two
// with one key, at the same time, only one makes the job, and its list must be its own.
func listKey(id, list string, n int) string {
	if list == "" { // of a job made before lists had names
		return chunkKey(id, devicesKey, n)
	}
	return chunkKey(key(id, devicesKey), list, n)
}

// putDevices stores the list of a new job.
func (s *store) putDevices(ctx context.Context, id, list string, devices []member) error {
	for n := 0; n*chunkDevices < len(devices); n++ {
		part := devices[n*chunkDevices : min((n+1)*chunkDevices, len(devices))]
		data, err := json.Marshal(part)
		if err != nil {
			return fmt.Errorf("store devices: %w", err)
		}
		if _, err := s.kv.Put(ctx, listKey(id, list, n), data); err != nil {
			return fmt.Errorf("store devices: %w", err)
		}
	}
	return nil
}

// devices reads chunk n of a job's list.
func (s *store) devices(ctx context.Context, id, list string, n int) (part []member, err error) {
	rev, err := s.get(ctx, listKey(id, list, n), &part)
	if err == nil && rev == 0 {
		err = fmt.Errorf("devices %d of job %s: %w", n, id, ErrNotFound)
	}
	return part, err
}

// forgetDevices removes a list that no job came to be of.
func (s *store) forgetDevices(ctx context.Context, id, list string) error {
	return s.bus.Forget(ctx, bus.BucketJobs, key(id, devicesKey, list, ">"))
}

// forget removes all of a job, the record last: every node is told of that, and if this one dies before it is done again.
func (s *store) forget(ctx context.Context, id string) error {
	for _, keys := range []string{key(id, devicesKey, ">"), key(id, resultsKey, ">"), key(id, progressKey)} {
		if err := s.bus.Forget(ctx, bus.BucketJobs, keys); err != nil {
			return err
		}
	}
	if err := s.kv.Purge(ctx, key(id, jobKey), jetstream.PurgeTTL(bus.MarkerTTL)); err != nil {
		return fmt.Errorf("forget job %s: %w", id, err)
	}
	return nil
}
