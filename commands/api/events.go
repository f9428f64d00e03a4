package api

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Kind is a kind of live events.
type Kind string

// The kinds of live events.
const (
	PresenceKind  Kind = "presence"
	TelemetryKind Kind = "telemetry"
	CommandKind   Kind = "command"
	StateKind     Kind = "state"
	TraceKind     Kind = "trace"
)

// Kinds lists every Kind. A viewer that names none gets all but the frames of devices, which are for looking closely.
var (
	Kinds      = []Kind{PresenceKind, TelemetryKind, CommandKind, StateKind, TraceKind}
	usualKinds = Kinds[:4]
)

// lossy reports whether a slow viewer loses the oldest events of a kind, rather than its view.
func (k Kind) lossy() bool { return k == TelemetryKind || k == TraceKind }

// The frames of the live socket, and so the payloads on the bus: whoever publishes an event publishes the frame, and the
// fan-out passes it on as it is.
type (
	// PresenceEvent says that a device came or went.
	PresenceEvent struct {
		Event  Kind   `json:"event"`
		Device string `json:"device"`
		Status Status `json:"status"`
		Cause  string `json:"cause,omitempty"`
		Since  int64  `json:"since"`

		Link        string `json:"link,omitempty"`
		Node        string `json:"node,omitempty"`
		Address     string `json:"address,omitempty"`
		Flaps       int    `json:"flaps,omitempty"`
		Conflict    bool   `json:"conflict,omitempty"`
		Silent      bool   `json:"silent,omitempty"`
		SilentSince int64  `json:"silent_since,omitempty"`
	}
	// ConflictEvent says that two devices use one identity. Who hears presence hears it.
	ConflictEvent struct {
		Event     string   `json:"event"` // identity_conflict
		Device    string   `json:"device"`
		Flaps     int      `json:"flaps"`
		Addresses []string `json:"addresses"`
		Since     int64    `json:"since"`
		Node      string   `json:"node"`
	}
	// TelemetryEvent carries points of one device.
	TelemetryEvent struct {
		Event  Kind    `json:"event"`
		Device string  `json:"device"`
		Points []Point `json:"points"`
	}
	// CommandChange carries a command without its events.
	CommandChange struct {
		Event   Kind    `json:"event"`
		Command Command `json:"command"`
	}
	// StateEvent carries a device's whole state after a change.
	StateEvent struct {
		Event  Kind   `json:"event"`
		Device string `json:"device"`
		TwinState
	}
	// TraceEvent carries one frame of a device. Dropped is how many before it were lost on the way to the viewers.
	TraceEvent struct {
		Event  Kind   `json:"event"`
		Device string `json:"device"`
		TraceFrame
		Dropped int64 `json:"dropped,omitempty"`
	}
)

// subject is where events of a kind are on the bus.
func subject(k Kind, device string) (string, error) {
	switch k {
	case PresenceKind:
		return bus.PresenceEvent(device)
	case TelemetryKind:
		return bus.TelemetryEvent(device)
	case CommandKind:
		return bus.CommandEvent(device)
	case StateKind:
		return bus.StateEvent(device)
	case TraceKind:
		return bus.TraceEvent(device)
	}
	return "", fmt.Errorf("event kind %q", k)
}

// Publish puts an event on the bus. It is fire and forget, as live events are: what must not be lost is in a stream.
func Publish(nc *nats.Conn, k Kind, device string, event any) error {
	to, err := subject(k, device)
	if err != nil {
		return err
	}
	data, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode %s event: %w", k, err)
	}
	if err := nc.Publish(to, data); err != nil {
		return fmt.Errorf("publish %s event: %w", k, err)
	}
	return nil
}

// The bounds of what the bus keeps for the fan-out. Beyond them it drops, and the views are told as of any gap.
const (
	pendingEvents     = 65_536
	pendingEventBytes = 64 << 20
)

// subscribe hears all events of a kind. f runs on one goroutine of the bus.
func subscribe(nc *nats.Conn, k Kind, f func(device string, payload []byte)) (*nats.Subscription, error) {
	all, err := subject(k, "*")
	if err != nil {
		return nil, err
	}
	prefix := strings.TrimSuffix(all, "*")
	sub, err := nc.Subscribe(all, func(m *nats.Msg) { f(strings.TrimPrefix(m.Subject, prefix), m.Data) })
	if err != nil {
		return nil, fmt.Errorf("hear %s events: %w", k, err)
	}
	if err := sub.SetPendingLimits(pendingEvents, pendingEventBytes); err != nil {
		return nil, fmt.Errorf("bound %s events: %w", k, err)
	}
	return sub, nil
}
