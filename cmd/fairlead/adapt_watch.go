package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// watching carries what viewers look at to every node: whichever has the device's socket publishes for them.
type watching struct {
	telemetry, frames *bus.Marks
	trace             *tracing
	recent            *recent
}

func (h *hub) buildWatching(context.Context) (err error) {
	h.watching.trace = newTracing(h.registry, h.bridge, h.bus.Conn(), h.log)
	if h.watching.telemetry, err = h.bus.Marks("telemetry", 0, h.committer.Watch); err != nil {
		return err
	}
	if h.watching.frames, err = h.bus.Marks("trace", 0, h.watching.trace.look); err != nil {
		return err
	}
	h.watching.recent = &recent{records: h.records, nc: h.bus.Conn(), marks: h.watching.frames, kept: map[string]*lately{}}
	return nil
}

// Watch hears from the API.
func (w *watching) Watch(k api.Kind, device string, on bool) {
	switch k {
	case api.TelemetryKind:
		w.telemetry.Mark(device, on)
	case api.TraceKind:
		w.frames.Mark(device, on)
	}
}

// tracedFrames bounds the frames on their way to the bus. Sessions do not wait for it: what is too much is counted.
const tracedFrames = 1024

// tracing publishes the frames of devices that somebody looks at.
type tracing struct {
	registry *devices.Registry
	bridge   *bridge.Bridge
	nc       *nats.Conn
	log      *slog.Logger
	frames   chan devices.TracedFrame
	dropped  atomic.Int64

	mu   sync.Mutex
	stop map[string]func() // guarded by mu
}

func newTracing(r *devices.Registry, b *bridge.Bridge, nc *nats.Conn, log *slog.Logger) *tracing {
	return &tracing{registry: r, bridge: b, nc: nc, log: log, frames: make(chan devices.TracedFrame, tracedFrames), stop: map[string]func(){}}
}

// look begins and ends to trace a device. It does not block.
func (t *tracing) look(device string, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if stop := t.stop[device]; stop != nil {
		delete(t.stop, device)
		stop()
	}
	if on {
		socket, broker := t.registry.Trace(device, t.take), t.bridge.Trace(device, t.takeMQTT)
		t.stop[device] = func() { socket(); broker() }
	}
}

// takeMQTT takes a message of a bridged device.
func (t *tracing) takeMQTT(f bridge.Frame) {
	kind := "mqtt"
	if f.End {
		kind = "end"
	}
	t.take(devices.TracedFrame{
		Time: f.Time, Device: f.Device, Session: f.Link, Out: f.Out, Type: kind, Bytes: f.Bytes, Text: f.Text, Fate: f.Fate,
	})
}

func (t *tracing) take(f devices.TracedFrame) {
	select {
	case t.frames <- f:
	default:
		t.dropped.Add(1)
	}
}

// run publishes frames until ctx ends.
func (t *tracing) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-t.frames:
			event := api.TraceEvent{Event: api.TraceKind, Device: f.Device, TraceFrame: traceFrame(f), Dropped: t.dropped.Swap(0)}
			if err := api.Publish(t.nc, api.TraceKind, f.Device, event); err != nil {
				t.log.Debug("publish frame", "device_id", f.Device, "err", err)
			}
		}
	}
}

func traceFrame(f devices.TracedFrame) api.TraceFrame {
	out := api.TraceFrame{
		Time: f.Time.UnixMilli(), Direction: "in", Session: f.Session, Type: f.Type, Bytes: f.Bytes, Fate: f.Fate, Frame: f.Text,
	}
	if f.Out {
		out.Direction = "out"
	}
	return out
}
