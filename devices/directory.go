package devices

import (
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Directory answers what operators and commands ask about devices: records and presence together. It is from memory.
type Directory struct {
	Records  *Records
	Presence *Presence
}

// Listed is one device of a list.
type Listed struct {
	Record *Record
	State  State
}

// List returns a page of the devices that fit a query.
func (d Directory) List(q Query) (devices []Listed, cursor string, err error) {
	page, err := d.Records.List(q, d.Presence.Status)
	if err != nil {
		return nil, "", err
	}
	devices = make([]Listed, len(page.Records))
	for i, rec := range page.Records {
		devices[i] = Listed{Record: rec, State: d.Presence.State(rec.ID)}
	}
	return devices, page.Cursor, nil
}

// Find returns one device.
func (d Directory) Find(id string) (Listed, bool) {
	rec, ok := d.Records.Record(id)
	if !ok {
		return Listed{}, false
	}
	return Listed{Record: rec, State: d.Presence.State(id)}, true
}

// Known reports whether the hub has a record of the device.
func (d Directory) Known(device string) bool {
	_, ok := d.Records.Record(device)
	return ok
}

// Born returns when the device's record was made, in Unix milliseconds.
func (d Directory) Born(device string) (born int64, known bool) {
	rec, ok := d.Records.Record(device)
	if !ok {
		return 0, false
	}
	return rec.Created.UnixMilli(), true
}

// Spec returns what the device announced of a command: whether it announced any, and whether this one.
func (d Directory) Spec(device, command string) (spec wire.CommandSpec, announced, known bool) {
	rec, ok := d.Records.Record(device)
	if !ok {
		return wire.CommandSpec{}, false, false
	}
	spec, known = rec.Spec(command)
	return spec, rec.Announced, known
}
