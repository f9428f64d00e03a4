package ingest

import (
	"errors"
	"strconv"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// admitLocked lets the frame's new fields and series in, or refuses the frame. Most frames have none.
func (s *Source) admitLocked(t *wire.Telemetry) *wire.Reject {
	for i := range t.Points {
		p := &t.Points[i]
		shape := s.dev.shapeLocked(p.Measurement)
		plain := len(p.Tags) == 0 && shape != nil
		if plain && shape.plain {
			continue
		}
		key := seriesKey(p)
		if _, ok := s.dev.series[key]; ok {
			if plain {
				shape.plain = true
			}
			continue
		}
		if len(s.dev.series) >= s.c.deviceSeries {
			return t.NewReject(wire.TooManySeries, i, "tags", "this device has "+strconv.Itoa(len(s.dev.series))+" series, its limit; use fields for values that change")
		}
		if !s.dev.apart && !s.c.types.addSeries() {
			return t.NewReject(wire.TooManySeries, i, "tags", "the hub has reached ingest.total_series")
		}
		s.dev.series[key] = struct{}{}
	}
	if len(s.fresh) == 0 {
		return nil
	}
	if s.dev.fields+len(s.fresh) > s.c.deviceFields && s.dev.fields+s.freshNames(t) > s.c.deviceFields {
		f := s.fresh[0]
		return t.NewReject(wire.TooManyFields, f.point, "fields", "this device has "+strconv.Itoa(s.dev.fields)+" fields, its limit (ingest.device_fields)")
	}
	for _, f := range s.fresh {
		if rej := s.admitFieldLocked(t, f); rej != nil {
			return rej
		}
	}
	return nil
}

// freshNames counts the frame's new fields: each of many points may bring the same ones.
func (s *Source) freshNames(t *wire.Telemetry) int {
	names := make(map[string]struct{}, len(s.fresh))
	for _, f := range s.fresh {
		p := &t.Points[f.point]
		names[string(p.Measurement)+"/"+string(p.Fields[f.field].Key)] = struct{}{} // no name holds a slash
	}
	return len(names)
}

// errUnsettled says that a frame has fields whose types nobody has settled yet. It never leaves this file.
var errUnsettled = &wire.Reject{Message: "unsettled"}

// admitFieldLocked makes room for a new field of the device, whose type must be the settled one.
func (s *Source) admitFieldLocked(t *wire.Telemetry, f freshField) *wire.Reject {
	p := &t.Points[f.point]
	name := p.Fields[f.field].Key
	have := s.c.types.of(p.Measurement, name)
	if have == 0 || have != f.kind && p.Fields[f.field].Kind == wire.Number && have.wire() == wire.Number {
		return errUnsettled // or changed since the frame was rendered
	}
	if have != f.kind {
		return s.conflict(t, f.point, f.field, have, f.kind)
	}
	// Two points of one frame may bring the same new field.
	known, _ := s.dev.shapeLocked(p.Measurement).slot(name, f.field)
	if known == nil {
		known = s.dev.addSlotLocked(p.Measurement, name, f.kind)
	}
	s.slots[f.slot] = known
	return nil
}

// settleTypes claims the types of the frame's new fields. The bus may be away: then it waits, as for the log itself.
func (s *Source) settleTypes(t *wire.Telemetry) error {
	for _, f := range s.fresh {
		p := &t.Points[f.point]
		name := p.Fields[f.field].Key
		if s.c.types.of(p.Measurement, name) != 0 {
			continue
		}
		if err := s.c.settleType(string(p.Measurement), string(name), f.kind); err != nil {
			if errors.Is(err, errTooManyFields) {
				s.c.metrics.rejected(wire.TooManySeries)
				return t.NewReject(wire.TooManySeries, f.point, "fields."+string(name), err.Error())
			}
			return err
		}
	}
	return nil
}
