package ingest

import (
	"bytes"
	"hash/fnv"
	"hash/maphash"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// device is what the hub keeps in memory of one device's telemetry: the shape of its points, their last values and the
// last time it gave out. It outlives sessions.
type device struct {
	id      string
	lane    int
	watched atomic.Bool

	mu     sync.Mutex
	apart  bool                // it counts for no limit of the hub; guarded by mu
	last   int64               // newest receive time given to a point; guarded by mu
	shapes []shape             // one per measurement; guarded by mu
	fields int                 // over all shapes; guarded by mu
	series map[uint64]struct{} // hashes of measurement and tags; guarded by mu
}

// shape is a measurement and its fields, in the order in which they were first seen.
type shape struct {
	measurement string
	plain       bool // its series without tags is counted
	slots       []*slot
}

// slot is one field: its type and last value.
type slot struct {
	name  string
	label []byte // ",name=" as it is rendered
	kind  kind
	value []byte
	time  int64
}

// maxLastText bounds a last value of kind text; the whole is in InfluxDB.
const maxLastText = 256

func newDevice(id string) *device {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return &device{id: id, lane: int(h.Sum32() % Lanes), series: make(map[uint64]struct{})}
}

// lastAhead is how far the last time given out may be ahead of the clock: each point of a burst takes a nanosecond, however
// coarse the clock is. If it is further ahead, the clock was set back.
const lastAhead = int64(time.Second)

// tickLocked gives out a time: now, but unique per device, so that no point overwrites another.
func (d *device) tickLocked(now int64) int64 {
	if d.last > now+lastAhead {
		d.last = 0
	}
	d.last = max(d.last+1, now)
	return d.last
}

// shapeLocked returns the shape of a measurement, nil if it is new.
func (d *device) shapeLocked(measurement []byte) *shape {
	for i := range d.shapes {
		if d.shapes[i].measurement == string(measurement) {
			return &d.shapes[i]
		}
	}
	return nil
}

// slot finds a field and its place. Frames of one firmware repeat their order, so position at is tried first.
func (s *shape) slot(name []byte, at int) (f *slot, place int) {
	if s == nil {
		return nil, -1
	}
	if at < len(s.slots) && s.slots[at].name == string(name) {
		return s.slots[at], at
	}
	for i, f := range s.slots {
		if f.name == string(name) {
			return f, i
		}
	}
	return nil, -1
}

// addSlotLocked makes room for a field that was not seen before.
func (d *device) addSlotLocked(measurement, name []byte, k kind) *slot {
	s := d.shapeLocked(measurement)
	if s == nil {
		d.shapes = append(d.shapes, shape{measurement: string(measurement)})
		s = &d.shapes[len(d.shapes)-1]
	}
	f := &slot{name: string(name), label: []byte("," + string(name) + "="), kind: k}
	s.slots = append(s.slots, f)
	d.fields++
	return f
}

// unsettle forgets a field of the device, so that its type is looked up again.
func (d *device) unsettle(measurement, field string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.shapeLocked([]byte(measurement))
	if f, at := s.slot([]byte(field), 0); f != nil {
		s.slots = slices.Delete(s.slots, at, at+1)
		d.fields--
	}
}

var seriesSeed = maphash.MakeSeed()

// seriesKey hashes what makes a series of this device: the measurement and the tags it sent.
func seriesKey(p *wire.Point) uint64 {
	key := maphash.Bytes(seriesSeed, p.Measurement)
	for _, t := range p.Tags {
		// Tags come in any order and make the same series; a sum does not care.
		var h maphash.Hash
		h.SetSeed(seriesSeed)
		_, _ = h.Write(t.Key)
		_ = h.WriteByte('=')
		_, _ = h.Write(t.Value)
		key += h.Sum64()
	}
	return key
}

// Last is the last value of one field.
type Last struct {
	Measurement, Field string
	Kind               wire.Kind
	Value              string
	Time               int64 // Unix nanoseconds
}

func (d *device) lastValues() []Last {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Last, 0, d.fields)
	for _, s := range d.shapes {
		for _, f := range s.slots {
			if f.time != 0 {
				out = append(out, Last{s.measurement, f.name, f.kind.wire(), string(f.value), f.time})
			}
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Measurement != out[j].Measurement {
			return out[i].Measurement < out[j].Measurement
		}
		return out[i].Field < out[j].Field
	})
	return out
}

func (k kind) wire() wire.Kind {
	switch k {
	case kindBool:
		return wire.Bool
	case kindText:
		return wire.Text
	}
	return wire.Number
}

// set keeps v as the last value, unless a newer one is there.
func (f *slot) set(v []byte, time int64) {
	if time < f.time {
		return
	}
	f.time = time
	if len(v) > maxLastText {
		v = bytes.ToValidUTF8(v[:maxLastText], nil)
	}
	f.value = append(f.value[:0], v...)
}
