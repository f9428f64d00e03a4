package sim

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Stopped is why a device will not connect again: the hub said so, or refused it too often.
type Stopped struct {
	Device string
	Code   int    // close code, or HTTP status of the refusal; 0: neither
	Reason string // as the hub gave it
}

// Error names the device, the code and the reason.
func (s *Stopped) Error() string {
	if s.Code == 0 {
		return fmt.Sprintf("device %s stopped: %s", s.Device, s.Reason)
	}
	return fmt.Sprintf("device %s stopped by the hub: %d %s", s.Device, s.Code, s.Reason)
}

// Refusal is an HTTP answer to the attempt to connect, other than the upgrade.
type Refusal struct {
	Status     int
	Code       string        // of the problem document
	Detail     string        // of the problem document
	RetryAfter time.Duration // 0: not said
	Time       int64         // the hub's clock, Unix milliseconds; 0: not said
}

// Error names the status, the code and the detail.
func (r *Refusal) Error() string {
	return fmt.Sprintf("connect: %d %s: %s (%s)", r.Status, http.StatusText(r.Status), r.Detail, r.Code)
}

// ours reports whether the refusal is about this device's credentials or request, which time alone does not heal.
func (r *Refusal) ours() bool {
	switch r.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

// Close codes that need more than the rule of their range.
const (
	closeTooBig       = websocket.CloseMessageTooBig
	closeTokenRefused = 4401
	closeFinalFrom    = 4500
	closeFinalTo      = 4999
)

// Ends of a session that the device itself decides.
var (
	errDrained = errors.New("everything is acked")      // and there is no more to come
	errReboot  = errors.New("the device reboots")       // on command
	errFault   = errors.New("the link broke on demand") // --faults disconnect
	errSilent  = errors.New("the hub is silent")        // neither a frame nor a ping
)

// ending is how a session ended and what the device makes of it.
type ending struct {
	err   error
	code  int           // close code; 0: there was none
	text  string        // reason
	after time.Duration // the hub wants the device to come back no sooner
}

// endingOf reads the close code off err, and what the bye frame before it said.
func endingOf(err error, bye *wire.Bye) ending {
	e := ending{err: err}
	if bye != nil {
		e.code, e.text = bye.Code, bye.Reason
		e.after = time.Duration(bye.RetryAfterMS) * time.Millisecond
	}
	var closed *websocket.CloseError
	if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
		e.code = closed.Code
		if closed.Text != "" {
			e.text = closed.Text
		}
	}
	return e
}

// final reports whether the device must not come back without a change.
func (e ending) final() bool { return e.code >= closeFinalFrom && e.code <= closeFinalTo }
