package bus

import "github.com/fairlead-hub/fairlead/devices/wire"

// Subjects are built here and nowhere else, from checked ids: an over-long or wild subject would close the hub's own
// connection or reach into another device's.

// TelemetrySubject is the subject of every telemetry batch; order is the stream's.
const TelemetrySubject = "telemetry.batch"

// The subject filters of the streams and of the live events.
const (
	deadletterPrefix = "deadletter."
	commandPrefix    = "commands."
	auditSubject     = "audit.record"

	presencePrefix  = "event.presence."
	telemetryPrefix = "event.telemetry."
	commandEvents   = "event.command."
	statePrefix     = "event.state."
	tracePrefix     = "event.trace."
	markPrefix      = "mark."
	pointedPrefix   = "pointed."
)

// DeadletterSubject is where refused points of one device go.
func DeadletterSubject(device string) (string, error) { return deviceSubject(deadletterPrefix, device) }

// CommandSubject is where the events of one device's commands are kept.
func CommandSubject(device string) (string, error) { return deviceSubject(commandPrefix, device) }

// AuditSubject is where audit records are kept.
func AuditSubject() string { return auditSubject }

// PresenceEvent is the live subject of one device's presence; "*" means every device.
func PresenceEvent(device string) (string, error) { return eventSubject(presencePrefix, device) }

// TelemetryEvent is the live subject of one device's points; "*" means every device.
func TelemetryEvent(device string) (string, error) { return eventSubject(telemetryPrefix, device) }

// CommandEvent is the live subject of one device's command changes; "*" means every device.
func CommandEvent(device string) (string, error) { return eventSubject(commandEvents, device) }

// StateEvent is the live subject of one device's twin changes; "*" means every device.
func StateEvent(device string) (string, error) { return eventSubject(statePrefix, device) }

// TraceEvent is the live subject of one device's frames; "*" means every device.
func TraceEvent(device string) (string, error) { return eventSubject(tracePrefix, device) }

// NodePointed is where a node hears that telemetry of a device that it has came to another one.
func NodePointed(node string) (string, error) { return deviceSubject(pointedPrefix, node) }

func eventSubject(prefix, device string) (string, error) {
	if device == "*" {
		return prefix + "*", nil
	}
	return deviceSubject(prefix, device)
}

func deviceSubject(prefix, device string) (string, error) {
	if err := wire.CheckID(device); err != nil {
		return "", err
	}
	return prefix + device, nil
}
