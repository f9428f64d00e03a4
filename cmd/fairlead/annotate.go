package main

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
)

// annotationMeasurement is where commands stand among telemetry, so that a graph shows who pressed what. It is the
// hub's own: a device that sends it is refused, or it could write that somebody commanded it.
const annotationMeasurement = "command"

// maxAnnotations wait for the log; what comes when it is full is left out and counted. A command never waits for its
// annotation.
const maxAnnotations = 16_384

// annotations writes when commands began and ended into the telemetry log: one point each, with the device as tag and
// id, name, state and actor as fields.
type annotations struct {
	committer *ingest.Committer
	labels    func(device string) (map[string]string, bool)
	log       *slog.Logger
	queue     chan commands.Command
	dropped   prometheus.Counter
}

func newAnnotations(c *ingest.Committer, labels func(string) (map[string]string, bool), log *slog.Logger, reg prometheus.Registerer) *annotations {
	a := &annotations{
		committer: c, labels: labels, log: log, queue: make(chan commands.Command, maxAnnotations),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "fairlead", Subsystem: "commands", Name: "annotations_dropped_total",
			Help: "Annotations of commands that were left out because too many waited or the log refused them.",
		}),
	}
	reg.MustRegister(a.dropped)
	return a
}

// Annotate hands c to Run. It does not block.
func (a *annotations) Annotate(c commands.Command) {
	select {
	case a.queue <- c:
	default:
		a.dropped.Inc()
	}
}

// annotateEvery is how long annotations wait for company. Each by itself would cost the disk a sync of its own, just when
// the command that it speaks of needs one; they carry their own times.
const annotateEvery = 200 * time.Millisecond

// Run writes until ctx ends, and then what waits.
func (a *annotations) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case c := <-a.queue:
			select {
			case <-time.After(annotateEvery):
			case <-ctx.Done():
			}
			a.write(c)
			a.writeAll()
		case <-ctx.Done():
		}
	}
	a.writeAll()
	return nil
}

// writeAll writes what waits now.
func (a *annotations) writeAll() {
	for {
		select {
		case c := <-a.queue:
			a.write(c)
		default:
			return
		}
	}
}

func (a *annotations) write(c commands.Command) {
	labels, _ := a.labels(c.Device)
	source := a.committer.OpenApart(c.Device, labels)
	defer source.Close()
	if err := source.Append(&wire.Telemetry{Points: []wire.Point{annotation(c)}}); err != nil {
		a.dropped.Inc()
		a.log.Debug("annotate command", "device_id", c.Device, "command", c.ID, "err", err)
	}
}

// annotation is the point of a command that was created or has ended just now. The last digits of its time, below the
// millisecond, are made of the command's id, so that two commands of one millisecond stay two points.
func annotation(c commands.Command) wire.Point {
	p := wire.Point{Measurement: []byte(annotationMeasurement), HasTime: true, Fields: []wire.Field{
		wire.NewText("id", c.ID), wire.NewText("name", c.Name), wire.NewText("state", string(c.State)), wire.NewText("actor", c.Actor),
	}}
	if len(c.Events) > 0 {
		p.Time = c.Events[0].Time*1e6 + within(c.ID)
	}
	return p
}

// within spreads ids over the nanoseconds of a millisecond.
func within(id string) int64 {
	h := uint32(2166136261) // FNV-1a
	for i := range len(id) {
		h = (h ^ uint32(id[i])) * 16777619
	}
	return int64(h % 1_000_000)
}

// reserved refuses a device's points of the hub's own measurement.
func reserved(t *wire.Telemetry) error {
	for i := range t.Points {
		if string(t.Points[i].Measurement) == annotationMeasurement {
			path := "points[" + strconv.Itoa(i) + "].measurement"
			return &wire.Reject{
				Seq: t.Seq, Code: wire.InvalidMeasurement, Path: path,
				Message: path + ": " + annotationMeasurement + " is the hub's own; choose another name",
			}
		}
	}
	return nil
}

// deviceSource and bridgeSource are ways into the log that refuse the hub's own measurement.
type deviceSource struct{ devices.TelemetrySource }

func (s deviceSource) Append(t *wire.Telemetry) error {
	if err := reserved(t); err != nil {
		return err
	}
	return s.TelemetrySource.Append(t)
}

type bridgeSource struct{ bridge.TelemetrySource }

func (s bridgeSource) Append(t *wire.Telemetry) error {
	if err := reserved(t); err != nil {
		return err
	}
	return s.TelemetrySource.Append(t)
}
