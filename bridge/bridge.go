// Package bridge brings MQTT devices into the hub and the hub's telemetry and commands to MQTT.
//
// One connection per configured broker, over paho. A message comes in, a topic map or a fleet profile says which
// device and points it means, and the points go the same way as those of any device; the broker gets its PUBACK only
// when they are on disk. What is on its way is bounded by a window; when it is full the broker is slowed by not being
// read. Commands go out at QoS 1, never retained, and what shows that they were obeyed comes back as an answer with
// its evidence. Chosen telemetry goes out from a durable cursor.
//
//	broker -> link -> window -> topic map or profile -> device -> TelemetrySource
//	                    |                                             |
//	broker <- PUBACK <- +------------------------- Stored <-----------+
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// TelemetrySink is the way into the durable log.
type TelemetrySink interface {
	// Open returns the way of one device's points into the log. w is told what is on disk.
	Open(device string, labels map[string]string, w Waiter) TelemetrySource
}

// Waiter is told what is stored. It does not block.
type Waiter interface {
	// Stored says that everything appended with seq at or below is on disk, or was rejected.
	Stored(seq uint64)
}

// TelemetrySource takes the points of one device.
type TelemetrySource interface {
	// Append takes t whole, or refuses it whole with a *wire.Reject. Any other error says that the log takes nothing
	// more in this process. It blocks while the log is slow.
	Append(t *wire.Telemetry) error
	// Close ends the source; nobody is told of what is still on its way.
	Close()
}

// AnswerSink takes what became of a command. It does not block; recorded is called when the answer is durable.
type AnswerSink interface {
	Answered(device string, ans *wire.Answer, evidence string, recorded func(error))
}

// StateSink takes what bridged devices say they are, as a merge patch of their reported state. It does not block; an error
// says that it was not taken.
type StateSink interface {
	Reported(device string, r *wire.StateReport) error
}

// ErrDeviceTaken is what Devices.Ensure returns if the id is not this device's: its record has another label "name" or
// "mqtt", or is of a device with a socket of its own. The bridge then makes another id from the name.
var ErrDeviceTaken = errors.New("device id belongs to another device")

// ErrDeviceRefused is what Devices.Ensure returns if the device may not be in the hub, as when it is disabled.
var ErrDeviceRefused = errors.New("device is refused")

// Devices keeps the records.
type Devices interface {
	// Ensure makes the record of a bridged device, or brings it up to date. Labels hold "name", what the fleet calls the
	// device, and "mqtt", the connection. Other errors than the two above are retried for ever.
	Ensure(id string, labels map[string]string, hello wire.Hello) error
	// Adopt brings up to date the record of a device that connects to the embedded broker with a token of its own. It makes
	// none: without a record the device is refused.
	Adopt(id string, labels map[string]string, hello wire.Hello) error
	// Name returns what the fleet of a connection calls the device of a record that the bridge made for it; empty if the bridge
	// did not make the record. It reports false if there is none.
	Name(id, connection string) (name string, known bool)
}

// Presence is told who is there. It does not block for long; link is "mqtt:<connection>".
type Presence interface {
	Set(device string, online bool, cause, link string)
}

// Parts are what a bridge works with.
type Parts struct {
	Node     string
	Sink     TelemetrySink
	Answers  AnswerSink
	States   StateSink // nil: reported states are not kept
	Devices  Devices
	Presence Presence
	// Out opens the durable cursor of one connection's outgoing telemetry; it is asked only of connections with out maps.
	Out func(connection string) OutSource
	// Embedded is how to reach the hub's own broker, if it runs.
	Embedded Endpoint
	// MaxAge and MaxAhead are ingest's window: times outside are wrong clocks.
	MaxAge, MaxAhead time.Duration
	Log              *slog.Logger
	Metrics          prometheus.Registerer
}

// Endpoint is a broker and how to log in.
type Endpoint struct {
	URL      string
	Username string
	Password configs.Secret
	// Subscribed is called when all connections to the embedded broker have subscribed for the first time; nil: nobody waits for it.
	Subscribed func()
	// Author parts a topic as the embedded broker hands it to the hub: the device that published there, if it was one, and where.
	Author func(topic string) (device, original string)
}

// Bridge is all connections.
type Bridge struct {
	connections []*connection
	directory   *directory
	links       *Links
}

// New builds the connections of cfg, whose passwords the caller has read from their files. It returns every fault of
// cfg at once.
func New(cfg configs.Bridge, parts Parts) (*Bridge, error) {
	if err := errors.Join(Check(cfg)...); err != nil {
		return nil, err
	}
	for _, c := range cfg.Connections {
		if len(c.Out) > 0 && parts.Out == nil {
			return nil, fmt.Errorf("bridge connection %q: out maps need a source of stored telemetry", c.Name)
		}
	}
	m := newMetrics(parts.Metrics)
	b := &Bridge{directory: newDirectory(parts, cfg.MaxDevices)}
	b.links = &Links{directory: b.directory, answers: parts.Answers}
	for _, cc := range cfg.Connections {
		c, err := newConnection(cc, parts, b.directory, m)
		if err != nil {
			return nil, fmt.Errorf("bridge connection %q: %w", cc.Name, err)
		}
		b.connections = append(b.connections, c)
	}
	b.tellSubscribed(cfg, parts.Embedded.Subscribed)
	for i, c := range b.connections {
		for j, other := range b.connections {
			if i != j && brokerOf(cfg, cfg.Connections[i]) == brokerOf(cfg, cfg.Connections[j]) {
				c.sharers = append(c.sharers, other)
			}
		}
	}
	return b, nil
}

// tellSubscribed has tell called when the last connection to the embedded broker has subscribed.
func (b *Bridge) tellSubscribed(cfg configs.Bridge, tell func()) {
	var left atomic.Int32
	for i, c := range b.connections {
		if tell == nil || cfg.Connections[i].URL != configs.EmbeddedBroker {
			continue
		}
		left.Add(1)
		c.subscribed = sync.OnceFunc(func() {
			if left.Add(-1) == 0 {
				tell()
			}
		})
	}
}

// Links returns the way of commands to bridged devices.
func (b *Bridge) Links() *Links { return b.links }

// Change is what has become of a device's record.
type Change struct {
	Refused    bool // the device may not be in the hub: nothing is taken from it, and nothing sent to it
	Keyed      bool // it has a key of its own: nobody but itself speaks for it
	Relabelled bool // its labels are others
	Deleted    bool // it is there no more, until the device is heard again
}

// RecordChanged hears that the record of a device was made, changed or deleted. It does not block.
func (b *Bridge) RecordChanged(id string, c Change) { b.directory.recordChanged(id, c) }

// Run keeps every connection until ctx is done and all of them have ended.
func (b *Bridge) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range b.connections {
		g.Go(func() error { return c.run(ctx) })
	}
	g.Go(func() error { <-ctx.Done(); return nil }) // also with no connection at all
	return g.Wait()
}

// Status tells of every connection.
func (b *Bridge) Status() []Status {
	all := make([]Status, 0, len(b.connections))
	for _, c := range b.connections {
		all = append(all, c.status.snapshot())
	}
	return all
}
