package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/ingest/influx"
)

// deviceTelemetry is the committer as devices see it.
type deviceTelemetry struct{ *ingest.Committer }

func (t deviceTelemetry) Open(device string, labels map[string]string, w devices.Waiter) devices.TelemetrySource {
	return deviceSource{t.Committer.Open(device, labels, w)}
}

// bridgeTelemetry is the committer as the bridge sees it.
type bridgeTelemetry struct {
	*ingest.Committer
	presence *devices.Presence
	records  *devices.Records
}

// Open has the labels of the record become tags: the bridge knows only those that it made itself.
func (t bridgeTelemetry) Open(device string, labels map[string]string, w bridge.Waiter) bridge.TelemetrySource {
	if rec, ok := t.records.Record(device); ok {
		labels = rec.Labels
	}
	return heardSource{bridgeSource{t.Committer.Open(device, labels, w)}, device, t.presence}
}

// heardSource tells presence that telemetry came.
type heardSource struct {
	bridge.TelemetrySource
	device   string
	presence *devices.Presence
}

func (s heardSource) Append(t *wire.Telemetry) error {
	err := s.TelemetrySource.Append(t)
	if err == nil {
		s.presence.Pointed(s.device)
	}
	return err
}

// liveTelemetry publishes the points of watched devices for viewers.
func liveTelemetry(nc *nats.Conn, log *slog.Logger) func(string, *wire.Telemetry) {
	return func(device string, t *wire.Telemetry) {
		event := api.TelemetryEvent{Event: api.TelemetryKind, Device: device, Points: make([]api.Point, len(t.Points))}
		for i := range t.Points {
			event.Points[i] = livePoint(&t.Points[i])
		}
		if err := api.Publish(nc, api.TelemetryKind, device, event); err != nil {
			log.Debug("publish live telemetry", "device_id", device, "err", err)
		}
	}
}

func livePoint(p *wire.Point) api.Point {
	out := api.Point{Measurement: string(p.Measurement), Time: p.Time / 1e6, Fields: make(map[string]any, len(p.Fields))}
	for _, f := range p.Fields {
		out.Fields[string(f.Key)] = jsonValue(f.Kind, string(f.Value))
	}
	if len(p.Tags) > 0 {
		out.Tags = make(map[string]string, len(p.Tags))
		for _, t := range p.Tags {
			out.Tags[string(t.Key)] = string(t.Value)
		}
	}
	return out
}

func jsonValue(k wire.Kind, v string) any {
	switch k {
	case wire.Bool:
		return v == "true"
	case wire.Text:
		return v
	}
	return json.Number(v)
}

// lastValues are the last values of a device by measurement.field.
func lastValues(c *ingest.Committer, device string) map[string]api.Value {
	last := c.Device(device)
	if len(last) == 0 {
		return nil
	}
	out := make(map[string]api.Value, len(last))
	for _, l := range last {
		out[l.Measurement+"."+l.Field] = api.Value{Time: l.Time / 1e6, Value: jsonValue(l.Kind, l.Value)}
	}
	return out
}

// history is the store as the API sees it.
type history struct{ store *influx.Store }

func (h history) Telemetry(ctx context.Context, q api.HistoryQuery) (api.HistoryAnswer, error) {
	got, err := h.store.History(ctx, influx.HistoryRequest{
		Device: q.Device, Measurement: q.Measurement, Fields: q.Fields, From: q.From, To: q.To, Every: q.Every, Fn: q.Fn,
	})
	if errors.Is(err, influx.ErrBadRequest) {
		return api.HistoryAnswer{}, &api.Invalid{Detail: err.Error()}
	}
	if errors.Is(err, influx.ErrNoHistory) {
		return api.HistoryAnswer{}, &api.Invalid{
			Code: "history_not_supported", Status: http.StatusNotImplemented, Detail: err.Error(),
			Hint: "ask VictoriaMetrics itself, by MetricsQL: {device=\"" + q.Device + "\"}",
		}
	}
	if err != nil {
		return api.HistoryAnswer{}, errors.Join(api.ErrUnavailable, err)
	}
	out := api.HistoryAnswer{Every: got.Every, Fn: got.Fn, Series: make([]api.Series, len(got.Series))}
	for i, s := range got.Series {
		values := make([]any, len(s.Values))
		for j, v := range s.Values {
			values[j] = v
		}
		out.Series[i] = api.Series{Measurement: s.Measurement, Field: s.Field, Tags: s.Tags, Times: s.Times, Values: values}
	}
	return out, nil
}

// deadletters are the refused points as the API sees them.
type deadletters struct {
	dead  *ingest.Deadletters
	store ingest.Store
}

func (d deadletters) List(ctx context.Context, q api.DeadletterQuery) (api.DeadletterPage, error) {
	before := uint64(0)
	if q.Cursor != "" {
		n, err := strconv.ParseUint(q.Cursor, 36, 64)
		if err != nil || n == 0 {
			return api.DeadletterPage{}, api.ErrInvalidCursor
		}
		before = n
	}
	letters, err := d.dead.List(ctx, q.Device, before, q.Limit)
	if err != nil {
		return api.DeadletterPage{}, err
	}
	page := api.DeadletterPage{}
	if len(letters) == q.Limit {
		page.Cursor = strconv.FormatUint(letters[len(letters)-1].Seq, 36)
	}
	for _, l := range letters {
		if q.Visible == nil || q.Visible(l.Device) {
			page.Deadletters = append(page.Deadletters, api.Deadletter{ID: l.Seq, Time: l.Time, Device: l.Device, Reason: l.Reason, Line: l.Line})
		}
	}
	return page, nil
}

// replayPage is how many dead letters are put back at a time.
const replayPage = 500

func (d deadletters) Replay(ctx context.Context, device string, ids []uint64) (took int, err error) {
	if len(ids) > 0 {
		took, _, err = d.dead.Replay(ctx, d.store, ids)
		return took, err
	}
	for before := uint64(0); ; {
		letters, err := d.dead.List(ctx, device, before, replayPage)
		if err != nil || len(letters) == 0 {
			return took, err
		}
		ids = ids[:0]
		for i := len(letters) - 1; i >= 0; i-- { // oldest first, as they were sent
			ids = append(ids, letters[i].Seq)
		}
		n, _, err := d.dead.Replay(ctx, d.store, ids)
		took += n
		if err != nil {
			return took, err
		}
		if before = letters[len(letters)-1].Seq; before <= 1 {
			return took, nil
		}
	}
}

// outlet is a cursor in the log as the bridge sees it.
type outlet struct{ *ingest.Outlet }

func (o outlet) Next(ctx context.Context) (bridge.OutBatch, error) {
	points, done, err := o.Outlet.Next(ctx)
	if err != nil {
		return bridge.OutBatch{}, err
	}
	batch := bridge.OutBatch{Points: make([]bridge.OutPoint, len(points)), Done: done}
	for i, p := range points {
		batch.Points[i] = bridge.OutPoint(p)
	}
	return batch, nil
}
