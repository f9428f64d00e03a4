package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// fleet is a handful of devices in memory.
type fleet struct {
	mu      sync.Mutex
	devices map[string]api.Device
}

func newFleet() *fleet {
	f := &fleet{devices: map[string]api.Device{}}
	for _, d := range []api.Device{
		{
			ID: "pump-7", Labels: map[string]string{"site": "plant-7"}, Model: "pump", Created: 1, Link: "websocket", Status: api.Online, Since: 2,
			Commands: []api.CommandSpec{{Name: "start", Params: json.RawMessage(`{"type":"object"}`)}},
			Keys:     []api.Key{{KID: "k1", Alg: "EdDSA"}}, Last: map[string]api.Value{"env.temp": {Time: 3, Value: 21.5}},
		},
		{ID: "pump-8", Labels: map[string]string{"site": "plant-8"}, Created: 1, Status: api.Never},
		{ID: "plug-1", Labels: map[string]string{"site": "plant-7"}, Created: 1, Status: api.Offline, Link: "mqtt:embedded"},
	} {
		f.devices[d.ID] = d
	}
	return f
}

func (f *fleet) List(_ context.Context, q api.DeviceQuery) (api.DevicePage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for id, d := range f.devices {
		if q.Match(d.Labels) && (q.Status == "" || q.Status == d.Status) && (q.Silent == nil || *q.Silent == d.Silent) && strings.Contains(id, q.Text) && id > q.Cursor {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	var p api.DevicePage
	for i, id := range ids {
		if i == q.Limit {
			p.Cursor = ids[i-1]
			break
		}
		p.Devices = append(p.Devices, f.devices[id])
	}
	return p, nil
}

func (f *fleet) Find(_ context.Context, id string) (api.Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.devices[id]
	if !ok {
		return d, fmt.Errorf("find %s: %w", id, api.ErrDeviceNotFound)
	}
	return d, nil
}

func (f *fleet) Labels(id string) (map[string]string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.devices[id]
	return d.Labels, ok
}

func (f *fleet) Create(_ context.Context, n api.NewDevice) (api.Device, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.devices[n.ID]; ok {
		return api.Device{}, "", api.ErrDeviceExists
	}
	d := api.Device{ID: n.ID, Labels: n.Labels, Created: 1}
	for _, k := range n.Keys {
		d.Keys = append(d.Keys, api.Key{KID: k.KID, Alg: "EdDSA"})
	}
	f.devices[n.ID] = d
	if len(n.Keys) > 0 {
		return d, "", nil
	}
	return d, "a.device.token", nil
}

func (f *fleet) Patch(_ context.Context, id string, p api.DevicePatch) (api.Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.devices[id]
	if !ok {
		return d, api.ErrDeviceNotFound
	}
	labels := map[string]string{}
	for k, v := range d.Labels {
		labels[k] = v
	}
	for k, v := range p.Labels {
		if delete(labels, k); v != nil {
			labels[k] = *v
		}
	}
	d.Labels = labels
	if p.Disabled != nil {
		d.Disabled = *p.Disabled
	}
	if p.ExpectEvery != nil {
		d.ExpectEvery = *p.ExpectEvery
	}
	f.devices[id] = d
	return d, nil
}

func (f *fleet) Delete(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.devices[id]; !ok {
		return api.ErrDeviceNotFound
	}
	delete(f.devices, id)
	return nil
}

func (f *fleet) MintToken(ctx context.Context, id string, ttl time.Duration) (string, time.Time, error) {
	_, err := f.Find(ctx, id)
	return "a.device.token", time.UnixMilli(ttl.Milliseconds()), err
}

func (f *fleet) RevokeTokens(ctx context.Context, id string) error {
	_, err := f.Find(ctx, id)
	return err
}

func (f *fleet) AddKey(ctx context.Context, id string, k api.NewKey) (api.Key, error) {
	_, err := f.Find(ctx, id)
	return api.Key{KID: k.KID, Alg: "ES256"}, err
}

func (f *fleet) RemoveKey(_ context.Context, _, kid string) error {
	if kid != "k1" {
		return api.ErrKeyNotFound
	}
	return nil
}

// orders are commands that end when a test says so.
type orders struct {
	mu    sync.Mutex
	asked []api.NewCommand
	all   map[string]*order
	waits int // of callers, under way
}

type order struct {
	api.Command
	ended chan struct{}
}

func (o *orders) Create(_ context.Context, n api.NewCommand) (api.Command, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, n)
	switch n.Name {
	case "full":
		return api.Command{}, api.ErrQueueFull
	case "offline":
		return api.Command{}, api.ErrDeviceOffline
	case "reused":
		return api.Command{}, api.ErrIdempotencyReuse
	case "misfit":
		return api.Command{}, &api.Invalid{Status: 422, Code: "invalid_params", Path: "/params/steps/2", Detail: "/params/steps/2: want a number"}
	case "broken":
		return api.Command{}, fmt.Errorf("a secret of the inside")
	case "dangerous":
		if n.Confirm != n.Device {
			return api.Command{}, api.ErrNotConfirmed
		}
	}
	c := &order{api.Command{
		ID: fmt.Sprintf("c%d", len(o.all)+1), Device: n.Device, Name: n.Name, Params: n.Params, State: "queued", Actor: n.Actor, Created: 1, Expires: 2, Attempt: 1,
		Events: []api.CommandEvent{{Time: 1, State: "queued"}},
	}, make(chan struct{})}
	o.all[c.ID] = c
	if n.Name == "instant" {
		o.endLocked(c)
	}
	return c.Command, nil
}

func (o *orders) endLocked(c *order) {
	c.State, c.Evidence, c.Result = "succeeded", "confirmed", json.RawMessage(`{"ok":1}`)
	close(c.ended)
}

func (o *orders) end(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endLocked(o.all[id])
}

func (o *orders) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waits
}

func (o *orders) made() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all)
}

func (o *orders) last() api.NewCommand {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[len(o.asked)-1]
}

func (o *orders) Find(_ context.Context, id string) (api.Command, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c, ok := o.all[id]
	if !ok {
		return api.Command{}, api.ErrCommandNotFound
	}
	return c.Command, nil
}

func (o *orders) Wait(ctx context.Context, id string) (api.Command, error) {
	o.mu.Lock()
	c := o.all[id]
	o.waits++
	o.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-c.ended:
	}
	o.mu.Lock()
	o.waits--
	o.mu.Unlock()
	return o.Find(context.Background(), id)
}

func (o *orders) List(_ context.Context, q api.CommandQuery) (api.CommandPage, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var p api.CommandPage
	for _, c := range o.all {
		if q.Visible == nil || q.Visible(c.Device) {
			short := c.Command
			short.Events = nil
			p.Commands = append(p.Commands, short)
		}
	}
	return p, nil
}

func (o *orders) Cancel(ctx context.Context, id, _ string) (api.Command, error) {
	c, err := o.Find(ctx, id)
	if err == nil && c.Final() {
		err = api.ErrCommandEnded
	}
	return c, err
}

// rest are the parts with little behind them.
type rest struct {
	mu      sync.Mutex
	query   api.HistoryQuery
	version uint64
	watched []string
}

func (r *rest) Telemetry(_ context.Context, q api.HistoryQuery) (api.HistoryAnswer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.query = q
	return api.HistoryAnswer{Every: q.Every, Fn: q.Fn, Series: []api.Series{
		{Measurement: "env", Field: "temp", Times: []int64{1}, Values: []any{1.5}}, {Measurement: "env", Field: "none"},
	}}, nil
}

func (r *rest) State(context.Context, string) (api.TwinState, error) {
	return api.TwinState{Desired: json.RawMessage(`{"a":1}`), DesiredVersion: r.version}, nil
}

func (r *rest) PatchDesired(ctx context.Context, id string, _ json.RawMessage, version *uint64) (api.TwinState, error) {
	if version != nil && *version != r.version {
		return api.TwinState{}, api.ErrVersionMismatch
	}
	return r.State(ctx, id)
}

func (r *rest) Status(context.Context) (api.Bridge, error) {
	return api.Bridge{Connections: []api.BridgeConnection{{Name: "embedded", State: "connected"}}}, nil
}

func (r *rest) Nodes(context.Context) ([]api.Node, error) {
	return []api.Node{{Name: "n1", Self: true}}, nil
}

func (r *rest) Frames(context.Context, string, int) ([]api.TraceFrame, error) {
	return []api.TraceFrame{{Time: 1, Direction: "in", Bytes: 2, Fate: "stored"}}, nil
}

func (r *rest) Watch(k api.Kind, device string, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = append(r.watched, fmt.Sprintf("%s %s %t", k, device, on))
}

func (r *rest) watchLog() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.watched, ", ")
}

type fieldTypes struct{}

func (fieldTypes) List(_ context.Context, _, _ string, limit int) ([]api.FieldType, bool, error) {
	return []api.FieldType{{Measurement: "env", Field: "temp", Type: "float"}}, limit == 1, nil
}

func (fieldTypes) Find(_ context.Context, m, f string) (api.FieldType, error) {
	if f != "temp" {
		return api.FieldType{}, api.ErrTypeNotFound
	}
	return api.FieldType{Measurement: m, Field: f, Type: "float", Stored: []string{"float"}, StoredUntil: 1, Note: "n"}, nil
}

func (fieldTypes) Set(_ context.Context, t api.FieldType, _ bool) (api.FieldType, error) {
	return t, nil
}

func (fieldTypes) Forget(context.Context, string, string, bool) error { return nil }

type letters struct{}

func (letters) List(_ context.Context, q api.DeadletterQuery) (api.DeadletterPage, error) {
	var p api.DeadletterPage
	for i, d := range []string{"pump-7", "pump-8"} {
		if q.Visible == nil || q.Visible(d) {
			p.Deadletters = append(p.Deadletters, api.Deadletter{ID: uint64(i + 1), Device: d, Reason: "type conflict", Line: "m v=1"})
		}
	}
	return p, nil
}

func (letters) Replay(context.Context, string, []uint64) (int, error) { return 2, nil }
