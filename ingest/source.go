package ingest

import (
	"bytes"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Waiter is told that what it appended is stored.
type Waiter interface {
	// Stored says that everything appended with seq at or below is on disk. It must not block.
	Stored(seq uint64)
}

// Source is the way of one device's points into the log. One goroutine uses it.
type Source struct {
	c      *Committer
	dev    *device
	waiter Waiter
	labels []wire.Tag // sorted; device and the configured labels
	static []byte     // ",device=...,site=..." rendered

	// owned by the goroutine that appends
	*rendering
	long  bool // the frame before needed more than a source keeps
	fresh []freshField

	// guarded by c.mu
	batch uint64 // the batch that holds a note of this source
	note  int    // its index there
	held  bool   // the ack of an earlier batch waits for that one
}

// freshField is a field that the device has not sent before.
type freshField struct {
	point, field int // indices in the frame
	slot         int // index in slots
	kind         kind
}

// Open returns the way of one device's points into the log. w hears what is stored; nil hears nothing. Labels that are
// not configured as tags are left out.
func (c *Committer) Open(id string, labels map[string]string, w Waiter) *Source {
	return c.source(c.device(id), labels, w)
}

// OpenApart is Open for what is said about a device by others: it is no last value of the device, is not seen live with
// its telemetry, and counts for none of its limits. Nobody hears that it is stored.
func (c *Committer) OpenApart(id string, labels map[string]string) *Source {
	d := newDevice(id)
	d.apart = true
	return c.source(d, labels, nil)
}

func (c *Committer) source(d *device, labels map[string]string, w Waiter) *Source {
	id := d.id
	s := &Source{c: c, dev: d, waiter: w}
	s.labels = append(s.labels, wire.Tag{Key: []byte(deviceTag), Value: []byte(id)})
	for _, key := range c.tags {
		v := []byte(labels[key])
		if len(v) > 0 && key != deviceTag && nameFault([]byte(key)) == "" && textFault(v, maxTagValue) == "" && v[len(v)-1] != '\\' {
			s.labels = append(s.labels, wire.Tag{Key: []byte(key), Value: v})
		}
	}
	sort.Slice(s.labels, func(i, j int) bool { return bytes.Compare(s.labels[i].Key, s.labels[j].Key) < 0 })
	s.static = appendTags(nil, s.labels)
	return s
}

// Close ends the way; what is appended still commits, but nobody is told.
func (s *Source) Close() { s.c.forget(s) }

// Append takes a frame whole into the open batch, or returns a *wire.Reject and takes nothing of it. It blocks while
// the log has no room, which is how the hub slows a device down, and fails with ErrClosed when the hub stops.
func (s *Source) Append(t *wire.Telemetry) error {
	s.borrow()
	defer s.giveBack()
	now := s.c.now().UnixNano()
	rej := s.render(t, now)
	for rej == errUnsettled {
		// No lock is held while new types are settled; then the frame is rendered again.
		if err := s.settleTypes(t); err != nil {
			return err
		}
		rej = s.render(t, now)
	}
	if rej != nil {
		s.c.metrics.rejected(rej.Code)
		return rej
	}
	if err := s.c.add(s, len(t.Points), t.Seq, now); err != nil {
		return err
	}
	s.fresh = nil // a device seldom brings new fields, and holds room for them meanwhile
	if s.dev.watched.Load() || s.c.watchAll.Load() {
		s.c.live(s.dev.id, t)
	}
	return nil
}

// render checks the frame and writes its lines to s.buf.
func (s *Source) render(t *wire.Telemetry, now int64) *wire.Reject {
	if len(t.Points) > s.c.rules.points {
		return t.NewReject(wire.TooManyPoints, -1, "points", strconv.Itoa(len(t.Points))+" points, at most "+strconv.Itoa(s.c.rules.points)+" a frame")
	}
	s.buf, s.slots, s.fresh = s.buf[:0], s.slots[:0], s.fresh[:0]
	s.dev.mu.Lock()
	defer s.dev.mu.Unlock()
	for i := range t.Points {
		p := &t.Points[i]
		if !p.HasTime {
			p.Time, p.HasTime = s.dev.tickLocked(now), true
		}
		if rej := s.point(t, i, now); rej != nil {
			return rej
		}
		if len(s.buf) > maxFrame {
			return t.NewReject(wire.TooManyPoints, -1, "points", "more than "+strconv.Itoa(maxFrame)+" bytes of line protocol; send fewer points a frame")
		}
	}
	if rej := s.admitLocked(t); rej != nil {
		return rej
	}
	next := 0
	for i := range t.Points {
		p := &t.Points[i]
		for j := range p.Fields {
			s.slots[next].set(p.Fields[j].Value, p.Time)
			next++
		}
	}
	return nil
}

// point checks one point and writes its line.
func (s *Source) point(t *wire.Telemetry, i int, now int64) *wire.Reject {
	p := &t.Points[i]
	shape := s.dev.shapeLocked(p.Measurement)
	if shape == nil { // one that is known was checked
		if why := nameFault(p.Measurement); why != "" {
			return t.NewReject(wire.InvalidMeasurement, i, "measurement", why)
		}
	}
	switch {
	case p.Time > now+int64(s.c.rules.maxAhead):
		return t.NewReject(wire.InvalidTime, i, "time", "is more than "+s.c.rules.maxAhead.String()+" ahead of the hub; set the clock by welcome.time")
	case p.Time < now-int64(s.c.rules.maxAge):
		return t.NewReject(wire.InvalidTime, i, "time", "is older than "+s.c.rules.ageBound+" allows")
	}
	s.buf = append(s.buf, p.Measurement...)
	if len(p.Tags) == 0 {
		s.buf = append(s.buf, s.static...)
	} else if rej := s.tagged(t, i); rej != nil {
		return rej
	}
	if rej := s.fieldSet(t, i, shape); rej != nil {
		return rej
	}
	s.buf = append(s.buf, ' ')
	s.buf = strconv.AppendInt(s.buf, p.Time, 10)
	s.buf = append(s.buf, '\n')
	return nil
}

// tagged checks the point's tags and writes them among the device's, sorted by key as InfluxDB likes them best.
func (s *Source) tagged(t *wire.Telemetry, i int) *wire.Reject {
	p := &t.Points[i]
	if len(p.Tags) > wire.MaxTags {
		return t.NewReject(wire.InvalidTag, i, "tags", "at most 8 a point")
	}
	s.tags = append(s.tags[:0], s.labels...)
	for _, tag := range p.Tags {
		place := func() string { return "tags." + string(tag.Key) }
		if why := nameFault(tag.Key); why != "" {
			return t.NewReject(wire.InvalidTag, i, place(), why)
		}
		if why := tagFault(tag.Value); why != "" {
			return t.NewReject(wire.InvalidTag, i, place(), why)
		}
		at := len(s.tags)
		for at > 0 && bytes.Compare(s.tags[at-1].Key, tag.Key) >= 0 {
			at--
		}
		if at < len(s.tags) && bytes.Equal(s.tags[at].Key, tag.Key) {
			why := "is there twice"
			if s.isLabel(tag.Key) {
				why = "is set by the hub; choose another name"
			}
			return t.NewReject(wire.InvalidTag, i, place(), why)
		}
		s.tags = append(s.tags, wire.Tag{})
		copy(s.tags[at+1:], s.tags[at:])
		s.tags[at] = tag
	}
	s.buf = appendTags(s.buf, s.tags)
	return nil
}

// setsTag reports whether the hub adds a tag of that name, to the points of this device or of others.
func (c *Committer) setsTag(key []byte) bool {
	return string(key) == deviceTag || slices.Contains(c.tags, string(key))
}

func (s *Source) isLabel(key []byte) bool {
	for _, l := range s.labels {
		if bytes.Equal(l.Key, key) {
			return true
		}
	}
	return false
}

func tagFault(v []byte) string {
	if len(v) == 0 {
		return "must not be empty"
	}
	if v[len(v)-1] == '\\' {
		return "must not end in a backslash"
	}
	return textFault(v, maxTagValue)
}

func appendTags(dst []byte, tags []wire.Tag) []byte {
	for _, t := range tags {
		dst = append(append(append(dst, ','), t.Key...), '=')
		dst = appendTagValue(dst, t.Value)
	}
	return dst
}

// fieldSet checks the point's fields and writes them.
func (s *Source) fieldSet(t *wire.Telemetry, i int, shape *shape) *wire.Reject {
	p := &t.Points[i]
	if len(p.Fields) == 0 {
		return t.NewReject(wire.InvalidField, i, "fields", "at least one that is not null")
	}
	if len(p.Fields) > maxFields {
		return t.NewReject(wire.TooManyFields, i, "fields", strconv.Itoa(len(p.Fields))+" fields, at most "+strconv.Itoa(maxFields)+" a point")
	}
	from := len(s.buf)
	usual := true // all fields so far are the shape's, in its order; so none is there twice
	for j := range p.Fields {
		f := &p.Fields[j]
		known, at := shape.slot(f.Key, j)
		usual = usual && at == j
		if known == nil || !usual {
			if rej := s.checkField(t, i, j, known); rej != nil {
				return rej
			}
		}
		k := s.kindOf(p, f, known)
		if known != nil && known.kind != k {
			return s.conflict(t, i, j, known.kind, k)
		}
		if known != nil {
			s.buf = append(s.buf, known.label...)
		} else {
			s.buf = append(append(append(s.buf, ','), f.Key...), '=')
		}
		if why := s.value(f, k); why != "" {
			return t.NewReject(wire.InvalidField, i, "fields."+string(f.Key), why)
		}
		s.slots = append(s.slots, known)
	}
	s.buf[from] = ' ' // the first field follows a blank, not a comma
	return nil
}

// checkField checks a field's name, and remembers one that is new.
func (s *Source) checkField(t *wire.Telemetry, i, j int, known *slot) *wire.Reject {
	p := &t.Points[i]
	f := &p.Fields[j]
	if known == nil {
		why := nameFault(f.Key)
		if why == "" && s.c.setsTag(f.Key) {
			// InfluxDB would take the field for the tag, for every device that has the measurement.
			why = "is a tag that the hub sets; choose another name"
		}
		if why != "" {
			return t.NewReject(wire.InvalidField, i, "fields."+string(f.Key), why)
		}
		s.fresh = append(s.fresh, freshField{i, j, len(s.slots), s.kindOf(p, f, nil)})
	}
	for _, other := range p.Fields[:j] {
		if bytes.Equal(other.Key, f.Key) {
			return t.NewReject(wire.InvalidField, i, "fields."+string(f.Key), "is there twice")
		}
	}
	return nil
}

func (s *Source) conflict(t *wire.Telemetry, i, j int, have, got kind) *wire.Reject {
	p := &t.Points[i]
	return t.NewReject(wire.TypeConflict, i, "fields."+string(p.Fields[j].Key),
		"is "+kindNames[got]+", but "+string(p.Measurement)+"."+string(p.Fields[j].Key)+" is stored as "+kindNames[have])
}

// kindOf is the type as which a field would be stored. A settled number keeps its flavour; the patterns of integer_fields
// say only how one is settled.
func (s *Source) kindOf(p *wire.Point, f *wire.Field, known *slot) kind {
	if f.Kind == wire.Number {
		have := kind(0)
		if known != nil {
			have = known.kind
		} else {
			have = s.c.types.of(p.Measurement, f.Key)
		}
		if have == kindFloat || have == kindInteger {
			return have
		}
	}
	return kindOf(f.Kind, f.Kind == wire.Number && len(s.c.rules.integers) > 0 && s.c.rules.integer(string(f.Key)))
}

func (s *Source) value(f *wire.Field, k kind) (why string) {
	switch k {
	case kindText:
		if why := textFault(f.Value, maxText); why != "" {
			return why
		}
		s.buf = appendText(s.buf, f.Value)
	case kindInteger:
		s.buf, why = appendInteger(s.buf, f.Value)
	default:
		s.buf = append(s.buf, f.Value...)
	}
	return why
}

// Device returns the last values of a device; none if it sent nothing since the hub started.
func (c *Committer) Device(id string) []Last {
	c.devMu.RLock()
	d := c.devices[id]
	c.devMu.RUnlock()
	if d == nil {
		return nil
	}
	return d.lastValues()
}

func (c *Committer) device(id string) *device {
	c.devMu.Lock()
	defer c.devMu.Unlock()
	d := c.devices[id]
	if d == nil {
		d = newDevice(id)
		d.watched.Store(c.watched[id])
		c.devices[id] = d
	}
	return d
}

// Forget drops what is in memory of a device whose record was deleted: what it measured is in the log and the store, and a
// device that gets its id is another one. A Source that is open stays good, and ends without a trace.
func (c *Committer) Forget(id string) {
	c.devMu.Lock()
	d := c.devices[id]
	delete(c.devices, id)
	c.devMu.Unlock()
	if d == nil {
		return
	}
	d.mu.Lock()
	d.apart = true
	series := len(d.series)
	d.mu.Unlock()
	c.types.dropSeries(series)
}

// Watch switches live telemetry of a device, or of every device under "*", on or off; it costs nothing while off. The
// device need not be here, or exist.
func (c *Committer) Watch(id string, on bool) {
	if id == "*" {
		c.watchAll.Store(on)
		return
	}
	c.devMu.Lock()
	defer c.devMu.Unlock()
	if on {
		c.watched[id] = true
	} else {
		delete(c.watched, id)
	}
	if d := c.devices[id]; d != nil {
		d.watched.Store(on)
	}
}

// clockNow is the clock of a hub.
func clockNow() time.Time { return time.Now() }
