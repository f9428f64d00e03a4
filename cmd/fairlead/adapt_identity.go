package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/enroll"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// enrollAudit puts what devices do with enrollments into the operators' audit log.
type enrollAudit struct{ h *hub }

func (a enrollAudit) Enrolled(ctx context.Context, e enroll.Event) error {
	return a.h.api.RecordEnroll(ctx, api.Record{
		Actor: actorOf(e.Enrollment), Remote: e.Remote, Target: e.Device, Outcome: e.Outcome, Status: e.Status,
	})
}

// actorOf names an enrollment as the actor of an audit record; empty for one that is not known.
func actorOf(enrollment string) string {
	if enrollment == "" {
		return ""
	}
	return "enrollment:" + enrollment
}

// enroller is the enrollments as the API sees them.
type enroller struct {
	*enroll.Enrollments
	fleet fleet
}

func enrollRefusal(err error) error {
	switch {
	case errors.Is(err, enroll.ErrUnknown):
		return errors.Join(api.ErrEnrollmentNotFound, err)
	case errors.Is(err, enroll.ErrTooMany):
		return errors.Join(api.ErrTooManyEnrollments, err)
	case errors.Is(err, enroll.ErrNotPending):
		return errors.Join(api.ErrNotPending, err)
	}
	return deviceRefusal(err)
}

func (e enroller) Create(ctx context.Context, n api.NewEnrollment) (api.Enrollment, string, error) {
	made, secret, err := e.Enrollments.Create(ctx, enroll.New{
		Labels: n.Labels, Prefix: n.Prefix, MaxDevices: n.MaxDevices, TTL: n.TTL, Approve: n.Approve, Actor: n.Actor,
	})
	if err != nil {
		return api.Enrollment{}, "", enrollRefusal(err)
	}
	return enrollment(made), secret, nil
}

func (e enroller) List(ctx context.Context) ([]api.Enrollment, error) {
	list, err := e.Enrollments.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]api.Enrollment, len(list))
	for i, en := range list {
		out[i] = enrollment(en)
	}
	return out, nil
}

func (e enroller) Delete(ctx context.Context, id string) error {
	return enrollRefusal(e.Enrollments.Delete(ctx, id))
}

func (e enroller) Pending(_ context.Context, p api.Page) (api.DevicePage, error) {
	page, err := e.Enrollments.Pending(p.Cursor, p.Limit)
	if err != nil {
		return api.DevicePage{}, errors.Join(api.ErrInvalidCursor, err)
	}
	out := api.DevicePage{Cursor: page.Cursor}
	for _, rec := range page.Records {
		out.Devices = append(out.Devices, e.fleet.device(rec))
	}
	return out, nil
}

func (e enroller) Approve(ctx context.Context, id, device string) (api.Device, error) {
	rec, err := e.Enrollments.Approve(ctx, id, device)
	if err != nil {
		return api.Device{}, enrollRefusal(err)
	}
	return e.fleet.device(rec), nil
}

func enrollment(e *enroll.Enrollment) api.Enrollment {
	out := api.Enrollment{
		ID: e.ID, Labels: e.Labels, Prefix: e.Prefix, MaxDevices: e.MaxDevices, Used: e.Used, Approve: e.Approve, Actor: e.Actor,
		Created: e.Created.UnixMilli(), Expires: e.Expires.UnixMilli(), Expired: !time.Now().Before(e.Expires),
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

// deviceKeys are the keys that sign device tokens.
type deviceKeys struct{ *auth.HubKeys }

func (k deviceKeys) List() []api.HubKey {
	var out []api.HubKey
	for _, key := range k.HubKeys.List() {
		out = append(out, hubKey(key))
	}
	return out
}

func (k deviceKeys) Rotate() (api.HubKey, error) {
	kid, err := k.Add(time.Now())
	if err != nil {
		return api.HubKey{}, err
	}
	for _, key := range k.HubKeys.List() {
		if key.KID == kid {
			return hubKey(key), nil
		}
	}
	return api.HubKey{}, api.ErrUnavailable // somebody removed it at once
}

func (k deviceKeys) Remove(kid string) error {
	err := k.HubKeys.Remove(kid)
	switch {
	case errors.Is(err, auth.ErrNoKey):
		return api.ErrHubKeyNotFound
	case errors.Is(err, auth.ErrMints):
		return api.ErrHubKeyMints
	}
	return err
}

func hubKey(k auth.HubKey) api.HubKey {
	return api.HubKey{KID: k.KID, Kind: api.DeviceKeys, Alg: k.Alg, Created: k.Made.UnixMilli(), Mints: k.Mints}
}

// transfer moves records in and out.
type transfer struct {
	records  *devices.Records
	importer *devices.Importer
}

func (t transfer) Export(_ context.Context, q api.DeviceQuery, each func(api.DeviceRecord) bool) error {
	sel, err := selector.Parse(q.Selector)
	if err != nil {
		return &api.Invalid{Path: "selector", Detail: err.Error()}
	}
	query := devices.Query{Selector: sel, Search: strings.ToLower(q.Text)}
	t.records.All(query.Fits, func(rec *devices.Record) bool { return each(deviceRecord(rec)) })
	return nil
}

func deviceRecord(rec *devices.Record) api.DeviceRecord {
	created := rec.Created.UnixMilli()
	d := api.DeviceRecord{ID: rec.ID, Labels: rec.Labels, Created: &created}
	for _, k := range rec.Keys {
		d.Keys = append(d.Keys, api.NewKey{KID: k.KID, PublicKey: k.PEM})
	}
	if rec.Disabled {
		d.Disabled = &rec.Disabled
	}
	if rec.Pending {
		d.Pending = &rec.Pending
	}
	for _, text := range []struct {
		from string
		to   **string
	}{{rec.Notes, &d.Notes}, {rec.Model, &d.Model}, {rec.Firmware, &d.Firmware}} {
		if text.from != "" {
			*text.to = &text.from
		}
	}
	if rec.ExpectEvery != 0 {
		every := expectText(rec.ExpectEvery)
		d.ExpectEvery = &every
	}
	if !rec.TokensNotBefore.IsZero() {
		since := rec.TokensNotBefore.UnixMilli()
		d.TokensNotBefore = &since
	}
	return d
}

func (t transfer) Import(ctx context.Context, all []api.DeviceRecord) []api.Imported {
	in := make([]devices.Import, len(all))
	for i := range all {
		d := &all[i]
		in[i] = devices.Import{ID: d.ID, Apply: func(r *devices.Record, made bool) error { return applyRecord(r, d, made) }}
	}
	out := make([]api.Imported, len(all))
	for i, done := range t.importer.Import(ctx, in) {
		out[i] = api.Imported{Made: done.Made, Changed: done.Changed, Err: deviceRefusal(done.Err)}
	}
	return out
}

// applyRecord makes a record what a line of an import says. What the line leaves out stays.
func applyRecord(r *devices.Record, d *api.DeviceRecord, made bool) error {
	if d.Labels != nil {
		r.Labels = maps.Clone(d.Labels)
	}
	if d.Keys != nil {
		r.Keys = make([]devices.Key, 0, len(d.Keys))
		for i, k := range d.Keys {
			key, err := newKey(fmt.Sprintf("keys[%d].", i), k)
			if err != nil {
				return err
			}
			r.Keys = append(r.Keys, key)
		}
	}
	for _, b := range []struct{ from, to *bool }{{d.Disabled, &r.Disabled}, {d.Pending, &r.Pending}} {
		if b.from != nil {
			*b.to = *b.from
		}
	}
	for _, s := range []struct{ from, to *string }{{d.Notes, &r.Notes}, {d.Model, &r.Model}, {d.Firmware, &r.Firmware}} {
		if s.from != nil {
			*s.to = *s.from
		}
	}
	if d.ExpectEvery != nil {
		every, err := expectEvery(*d.ExpectEvery)
		if err != nil {
			return err
		}
		r.ExpectEvery = every
	}
	if made && d.Created != nil {
		r.Created = time.UnixMilli(*d.Created).UTC()
	}
	if d.TokensNotBefore != nil { // a revocation is never taken back
		if at := time.UnixMilli(*d.TokensNotBefore).UTC(); at.After(r.TokensNotBefore) {
			r.TokensNotBefore = at
		}
	}
	return nil
}
