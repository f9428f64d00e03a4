package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/commands/twin"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// fleet is the device records, presence and last values as the API sees them.
type fleet struct {
	records   *devices.Records
	presence  *devices.Presence
	minter    *auth.Minter
	committer *ingest.Committer
	twin      *twin.Twin
}

// faultCodes are the codes of faults that the API finds itself too.
var faultCodes = map[string]string{"id": "invalid_id", "labels": "invalid_label", "keys": "invalid_key", "expect_every": "invalid_duration"}

func deviceRefusal(err error) error {
	var fault *devices.Fault
	switch {
	case err == nil:
		return nil
	case errors.Is(err, devices.ErrUnknown):
		return errors.Join(api.ErrDeviceNotFound, err)
	case errors.Is(err, devices.ErrExists):
		return errors.Join(api.ErrDeviceExists, err)
	case errors.As(err, &fault):
		part, _, _ := strings.Cut(fault.Path, ".")
		return &api.Invalid{Code: faultCodes[part], Path: fault.Path, Detail: fault.Detail}
	case errors.Is(err, devices.ErrInvalid):
		return &api.Invalid{Detail: err.Error()}
	}
	return err
}

func (f fleet) List(_ context.Context, q api.DeviceQuery) (api.DevicePage, error) {
	sel, err := selector.Parse(q.Selector)
	if err != nil {
		return api.DevicePage{}, &api.Invalid{Path: "selector", Detail: err.Error()}
	}
	query := devices.Query{Selector: sel, Status: devices.Status(q.Status), Search: q.Text, Cursor: q.Cursor, Limit: q.Limit}
	if q.Silent != nil {
		query.Silent = func(device string) bool { return f.presence.Silent(device) == *q.Silent }
	}
	page, err := f.records.List(query, f.presence.Status)
	if err != nil {
		return api.DevicePage{}, errors.Join(api.ErrInvalidCursor, err)
	}
	out := api.DevicePage{Cursor: page.Cursor, Devices: make([]api.Device, 0, len(page.Records))}
	for _, rec := range page.Records {
		out.Devices = append(out.Devices, f.device(rec))
	}
	return out, nil
}

func (f fleet) Find(_ context.Context, id string) (api.Device, error) {
	rec, ok := f.records.Record(id)
	if !ok {
		return api.Device{}, api.ErrDeviceNotFound
	}
	return f.device(rec), nil
}

func (f fleet) Labels(id string) (map[string]string, bool) {
	rec, ok := f.records.Record(id)
	if !ok {
		return nil, false
	}
	return rec.Labels, true
}

func (f fleet) device(rec *devices.Record) api.Device {
	st := f.presence.State(rec.ID)
	out := api.Device{
		ID: rec.ID, Labels: rec.Labels, Model: rec.Model, Firmware: rec.Firmware, Disabled: rec.Disabled,
		Pending: rec.Pending, Enrolled: rec.Enrollment,
		Created: rec.Created.UnixMilli(), Link: st.Link, Status: api.Status(st.Status), Since: millis(st.Since),
		LastSeen: millis(st.LastSeen), Cause: st.Cause, Session: st.Session, Epoch: st.Epoch, Node: st.Node,
		Address: st.Address, Flaps: st.Flaps, Conflict: st.Conflict, Silent: st.Silent, SilentSince: millis(st.SilentSince),
		Keys: []api.Key{}, Commands: []api.CommandSpec{}, Last: lastValues(f.committer, rec.ID),
	}
	if st.Expect > 0 {
		out.ExpectEvery = st.Expect.String()
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	for _, k := range rec.Keys {
		out.Keys = append(out.Keys, api.Key{KID: k.KID, Alg: k.Alg})
	}
	for _, c := range rec.Commands {
		out.Commands = append(out.Commands, api.CommandSpec(c))
	}
	return out
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// newKey reads the key that lies at a place of the request.
func newKey(at string, k api.NewKey) (devices.Key, error) {
	text, part := k.PublicKey, "public_key"
	if text == "" {
		text, part = string(k.JWK), "jwk"
	}
	key, err := devices.NewKey(k.KID, text)
	if fault := (*devices.Fault)(nil); errors.As(err, &fault) {
		return devices.Key{}, &api.Invalid{Code: "invalid_key", Path: at + part, Detail: fault.Detail}
	}
	return key, err
}

func (f fleet) Create(ctx context.Context, d api.NewDevice) (api.Device, string, error) {
	rec := &devices.Record{ID: d.ID, Labels: d.Labels}
	for i, k := range d.Keys {
		key, err := newKey(fmt.Sprintf("keys[%d].", i), k)
		if err != nil {
			return api.Device{}, "", err
		}
		rec.Keys = append(rec.Keys, key)
	}
	made, err := f.records.Create(ctx, rec)
	if err != nil {
		return api.Device{}, "", deviceRefusal(err)
	}
	if len(d.Keys) > 0 {
		return f.device(made), "", nil
	}
	token, _, err := f.minter.MintFrom(d.ID, 0, made.TokensFrom())
	return f.device(made), token, err
}

func (f fleet) Patch(ctx context.Context, id string, p api.DevicePatch) (api.Device, error) {
	rec, err := f.records.Update(ctx, id, 0, func(r *devices.Record) (bool, error) {
		for k, v := range p.Labels {
			if v == nil {
				delete(r.Labels, k)
				continue
			}
			if r.Labels == nil {
				r.Labels = make(map[string]string)
			}
			r.Labels[k] = *v
		}
		if p.Disabled != nil {
			r.Disabled = *p.Disabled
		}
		if p.ExpectEvery == nil {
			return true, nil
		}
		var err error
		r.ExpectEvery, err = expectEvery(*p.ExpectEvery)
		return true, err
	})
	if err != nil {
		return api.Device{}, deviceRefusal(err)
	}
	return f.device(rec), nil
}

// expectEvery is what a record holds of an expectation.
func expectEvery(text string) (time.Duration, error) {
	switch text {
	case "":
		return 0, nil
	case api.NeverExpected:
		return -1, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, &api.Invalid{Path: "expect_every", Detail: err.Error()}
	}
	return d, nil
}

// expectText is the expectation of a record as the API says it.
func expectText(every time.Duration) string {
	if every < 0 {
		return api.NeverExpected
	}
	return every.String()
}

// conflicts puts identity conflicts into the audit log.
type conflicts struct{ *hub }

func (c conflicts) Conflict(ctx context.Context, found devices.Conflict) error {
	return c.api.Audit(ctx, api.Record{
		Actor: "hub", Action: "identity_conflict", Target: found.Device, Outcome: "noticed",
		Detail: fmt.Sprintf("%d sessions replaced each other, from %s and %s", found.Flaps, found.Addresses[0], found.Addresses[1]),
	})
}

func (f fleet) Delete(ctx context.Context, id string) error {
	if err := f.records.Delete(ctx, id, 0); err != nil {
		return deviceRefusal(err)
	}
	// Before the caller hears of it, so that a device made anew under this id starts empty. If it fails, the twin, which
	// has heard of the deletion too, tries again.
	_ = f.twin.Remove(ctx, id)
	return nil
}

func (f fleet) MintToken(_ context.Context, id string, ttl time.Duration) (string, time.Time, error) {
	rec, ok := f.records.Record(id)
	if !ok {
		return "", time.Time{}, api.ErrDeviceNotFound
	}
	return f.minter.MintFrom(id, ttl, rec.TokensFrom())
}

func (f fleet) RevokeTokens(ctx context.Context, id string) error {
	_, err := f.records.Revoke(ctx, id, time.Now())
	return deviceRefusal(err)
}

func (f fleet) AddKey(ctx context.Context, id string, k api.NewKey) (api.Key, error) {
	key, err := newKey("", k)
	if err != nil {
		return api.Key{}, err
	}
	_, err = f.records.Update(ctx, id, 0, func(r *devices.Record) (bool, error) {
		if slices.ContainsFunc(r.Keys, func(have devices.Key) bool { return have.KID == key.KID }) {
			return false, api.ErrKeyExists
		}
		if len(r.Keys) >= devices.MaxKeys {
			return false, api.ErrTooManyKeys
		}
		r.Keys = append(r.Keys, key)
		return true, nil
	})
	return api.Key{KID: key.KID, Alg: key.Alg}, deviceRefusal(err)
}

func (f fleet) RemoveKey(ctx context.Context, id, kid string) error {
	_, err := f.records.Update(ctx, id, 0, func(r *devices.Record) (bool, error) {
		at := slices.IndexFunc(r.Keys, func(have devices.Key) bool { return have.KID == kid })
		if at < 0 {
			return false, api.ErrKeyNotFound
		}
		r.Keys = slices.Delete(r.Keys, at, at+1)
		return true, nil
	})
	return deviceRefusal(err)
}

// bridgedDevices makes and keeps the records of bridged devices.
type bridgedDevices struct{ records *devices.Records }

// ensureTimeout bounds a write of a record.
const ensureTimeout = 10 * time.Second

func (b bridgedDevices) Ensure(id string, labels map[string]string, hello wire.Hello) error {
	ctx, cancel := context.WithTimeout(context.Background(), ensureTimeout)
	defer cancel()
	err := b.ensure(ctx, id, labels, hello)
	if errors.Is(err, devices.ErrInvalid) {
		return fmt.Errorf("%w: %w", bridge.ErrDeviceRefused, err) // asked for again it would be no better
	}
	return err
}

func (b bridgedDevices) ensure(ctx context.Context, id string, labels map[string]string, hello wire.Hello) error {
	rec, ok := b.records.Record(id)
	if !ok {
		_, err := b.records.Create(ctx, &devices.Record{
			ID: id, Labels: labels, Model: hello.Model, Firmware: hello.Firmware, Commands: hello.Commands, Announced: len(hello.Commands) > 0,
		})
		if err == nil || !errors.Is(err, devices.ErrExists) {
			return err
		}
		if rec, ok = b.records.Record(id); !ok {
			return err
		}
	}
	if rec.Disabled {
		return bridge.ErrDeviceRefused
	}
	if len(rec.Keys) > 0 || rec.Labels["name"] != labels["name"] {
		return bridge.ErrDeviceTaken
	}
	return b.update(ctx, id, labels, hello)
}

// Adopt keeps the record of a device that connects to the broker by itself.
func (b bridgedDevices) Adopt(id string, labels map[string]string, hello wire.Hello) error {
	rec, ok := b.records.Record(id)
	if !ok || rec.Disabled || rec.Pending {
		return bridge.ErrDeviceRefused
	}
	ctx, cancel := context.WithTimeout(context.Background(), ensureTimeout)
	defer cancel()
	err := b.update(ctx, id, labels, hello)
	if errors.Is(err, devices.ErrInvalid) || errors.Is(err, devices.ErrUnknown) {
		return fmt.Errorf("%w: %w", bridge.ErrDeviceRefused, err)
	}
	return err
}

// Name is what a fleet calls a device whose record the bridge made.
func (b bridgedDevices) Name(id, connection string) (name string, known bool) {
	rec, known := b.records.Record(id)
	if known && rec.Labels["mqtt"] == connection {
		name = rec.Labels["name"]
	}
	return name, known
}

func (b bridgedDevices) update(ctx context.Context, id string, labels map[string]string, hello wire.Hello) error {
	_, err := b.records.Update(ctx, id, 0, func(r *devices.Record) (bool, error) {
		before := r.Clone()
		for k, v := range labels {
			if _, have := r.Labels[k]; !have {
				if r.Labels == nil {
					r.Labels = make(map[string]string)
				}
				r.Labels[k] = v
			}
		}
		if hello.Model != "" {
			r.Model = hello.Model
		}
		if hello.Firmware != "" {
			r.Firmware = hello.Firmware
		}
		if len(hello.Commands) > 0 {
			r.Commands, r.Announced = hello.Commands, true
		}
		return !maps.Equal(before.Labels, r.Labels) || before.Model != r.Model || before.Firmware != r.Firmware ||
			!sameCommands(before.Commands, r.Commands), nil
	})
	return err
}

func sameCommands(a, b []wire.CommandSpec) bool {
	return slices.EqualFunc(a, b, func(x, y wire.CommandSpec) bool {
		return x.Name == y.Name && x.Title == y.Title && x.Dangerous == y.Dangerous && string(x.Params) == string(y.Params)
	})
}
