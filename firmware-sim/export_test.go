package sim

import "time"

// Forget makes the device not send again what was sent without an ack: the negative control of the tests of resending.
func (d *Device) Forget() { d.forget = true }

// Forget does the same for the device of a replay.
func (r *Replay) Forget() { r.device.Forget() }

// Wait is the time before a try.
func (b Backoff) Wait(try int, asked time.Duration) time.Duration {
	return b.withDefaults().wait(try, asked)
}

// ParseTime reads a time as a CSV file has it.
func ParseTime(s string) (time.Time, error) { return parseTime(s) }
