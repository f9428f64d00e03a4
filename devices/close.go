package devices

import (
	"math/rand/v2"
	"time"
)

// CloseCode is the code of a WebSocket close frame. A device may come back after 4000-4499, and must not without a
// change after 4500-4999.
type CloseCode uint16

// The close codes of the device protocol.
const (
	CloseNormal     CloseCode = 1000
	CloseGoingAway  CloseCode = 1001
	CloseProtocol   CloseCode = 1002 // the peer breaks WebSocket itself
	CloseNotUTF8    CloseCode = 1007
	CloseTooBig     CloseCode = 1009
	CloseInternal   CloseCode = 1011
	CloseDraining   CloseCode = 1012
	CloseOverloaded CloseCode = 1013
	CloseMalformed  CloseCode = 4400
	CloseToken      CloseCode = 4401
	CloseTimeout    CloseCode = 4408
	CloseQuota      CloseCode = 4429
	CloseReplaced   CloseCode = 4500
	CloseRevoked    CloseCode = 4501
	CloseViolation  CloseCode = 4502
)

// Cause is why a device came or went, as presence tells it.
type Cause = string

// The causes.
const (
	causeConnected Cause = "connected"
	causeClosed    Cause = "closed" // by the device, properly
	causeBroken    Cause = "lost"   // the socket ended without a close frame
	causeTimeout   Cause = "timeout"
	causeSlow      Cause = "slow"
	causeDraining  Cause = "draining"
	causeReplaced  Cause = "replaced"
	causeRevoked   Cause = "revoked"
	causeExpired   Cause = "token_expired"
	causeFault     Cause = "protocol_error"
	causeQuota     Cause = "over_quota"
	causeKicked    Cause = "kicked"
	causeInternal  Cause = "internal_error"
)

var causes = []Cause{
	causeClosed, causeBroken, causeTimeout, causeSlow, causeDraining, causeReplaced, causeRevoked, causeExpired, causeFault,
	causeQuota, causeKicked, causeInternal,
}

// ending says how a session ends: with which code, and what the device and presence are told.
type ending struct {
	code   CloseCode
	cause  Cause
	reason string
	retry  time.Duration // zero: what the table says
}

// Why sessions end. One table decides what a device is told; the text is for its developer.
var (
	endMalformed  = ending{code: CloseMalformed, cause: causeFault, reason: "too many malformed frames"}
	endTimeout    = ending{code: CloseTimeout, cause: causeTimeout, reason: "no frame and no pong for two heartbeats"}
	endExpired    = ending{code: CloseToken, cause: causeExpired, reason: "token expired"}
	endReplaced   = ending{code: CloseReplaced, cause: causeReplaced, reason: "replaced by a newer session of this device"}
	endSlow       = ending{code: CloseOverloaded, cause: causeSlow, reason: "reads too slowly"}
	endPings      = ending{code: CloseQuota, cause: causeQuota, reason: "more than 10 pings a second"}
	endQuota      = ending{code: CloseQuota, cause: causeQuota, reason: "sends more than it may in a second, for too long", retry: quotaRetry}
	endTooBig     = ending{code: CloseTooBig, cause: causeFault, reason: "frame is over limits.frame_bytes of the welcome; send fewer points a frame"}
	endNotUTF8    = ending{code: CloseNotUTF8, cause: causeFault, reason: "text is not valid UTF-8"}
	endFragments  = ending{code: CloseViolation, cause: causeFault, reason: "message in more than 64 fragments"}
	endFraming    = ending{code: CloseProtocol, cause: causeFault, reason: "bad frame header"}
	endDribble    = ending{code: CloseViolation, cause: causeFault, reason: "message took more than 10 s from first to last byte"}
	endSeq        = ending{code: CloseViolation, cause: causeFault, reason: "seq does not increase"}
	endText       = ending{code: CloseViolation, cause: causeFault, reason: "frame is not of the type that the subprotocol uses"}
	endShutdown   = ending{code: CloseInternal, cause: causeInternal, reason: "the log takes no more points"}
	endUnrecorded = ending{code: CloseOverloaded, cause: causeInternal, reason: "an answer could not be recorded"}
	endBroken     = ending{cause: causeBroken, reason: "connection lost"}
)

// closeCodes lists every code, for metrics that start at zero.
var closeCodes = []CloseCode{
	CloseNormal, CloseGoingAway, CloseProtocol, CloseNotUTF8, CloseTooBig, CloseInternal, CloseDraining, CloseOverloaded,
	CloseMalformed, CloseToken, CloseTimeout, CloseQuota, CloseReplaced, CloseRevoked, CloseViolation,
}

// retryAfter is when the device should come back, jittered so that what left together does not return together. Zero
// says that coming back makes no sense before something changes.
func (e *ending) retryAfter() time.Duration {
	base := e.retry
	if base == 0 {
		switch {
		case e.code == CloseOverloaded, e.code == CloseInternal, e.code == CloseQuota:
			base = 5 * time.Second
		case e.code < 4500:
			base = time.Second
		default:
			return 0
		}
	}
	return base + rand.N(base)
}
