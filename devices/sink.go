package devices

import "github.com/fairlead-hub/fairlead/devices/wire"

// TelemetrySink takes what devices measure.
type TelemetrySink interface {
	// Open returns the way of one device's points into the durable log. w is told, never blocking, what is stored.
	Open(device string, labels map[string]string, w Waiter) TelemetrySource
}

// Waiter waits for points to be stored.
type Waiter interface {
	// Stored says that everything appended with seq at or below is on disk. It does not block.
	Stored(seq uint64)
}

// TelemetrySource is one device's way into the log.
type TelemetrySource interface {
	// Append takes a frame whole (nil), refuses it whole (*wire.Reject), or fails for good because the log takes no
	// more. It blocks when the log is slower than the device.
	Append(t *wire.Telemetry) error
	// Close ends the source. What was appended is still stored, but nobody is told.
	Close()
}

// Attachment names one session of a device.
type Attachment struct {
	Device  string
	Session string
	Epoch   uint64
	Node    string
}

// CommandSink hears of sessions that can take commands, and what devices answer.
type CommandSink interface {
	// Announced hears how a device describes its commands. It does not block; an error, which the device is told, says that
	// the parameters of one cannot be checked.
	Announced(specs []wire.CommandSpec) error
	// Attached says that a session is ready to take commands. It does not block.
	Attached(a Attachment)
	// Answered hands over an answer. It does not block; recorded is called once with nil when the answer is durable.
	Answered(a Attachment, ans *wire.Answer, recorded func(error))
}

// StateSink hears the states that devices report.
type StateSink interface {
	// Reported hands over a report. It does not block; an error, which the device is told, says that it was not taken.
	Reported(a Attachment, r *wire.StateReport) error
}
