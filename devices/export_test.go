package devices

import "time"

// Impatient is an uplink that waits no longer than d for the log.
func Impatient(h *Handler, d time.Duration) *Uplink {
	u := NewUplink(h)
	u.wait = d
	return u
}
