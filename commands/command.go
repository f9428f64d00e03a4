package commands

import (
	"encoding/json"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// State is where a command stands.
type State string

// The states of a command. The last six are final.
const (
	Queued    State = "queued"    // durable; no device has it, as far as is known
	Sent      State = "sent"      // written to a socket, which proves nothing
	Delivered State = "delivered" // the device said that it has it
	Running   State = "running"   // the device reported progress
	Succeeded State = "succeeded" // the device said that it did it
	Failed    State = "failed"    // the device said that it could not
	Rejected  State = "rejected"  // the device refused the name or the parameters
	Expired   State = "expired"   // its time ended before any node was allowed to write it to a socket
	TimedOut  State = "timed_out" // it may have been written, and no answer came in time
	Cancelled State = "cancelled" // taken back before it was sent, or stopped by the device
)

// States lists every State, in the order of a life.
var States = []State{Queued, Sent, Delivered, Running, Succeeded, Failed, Rejected, Expired, TimedOut, Cancelled}

// Final reports whether s ends a command. TimedOut is final, yet a late answer still replaces it, once.
func (s State) Final() bool {
	switch s {
	case Succeeded, Failed, Rejected, Expired, TimedOut, Cancelled:
		return true
	}
	return false
}

// Valid reports whether s is a State.
func (s State) Valid() bool {
	for _, v := range States {
		if s == v {
			return true
		}
	}
	return false
}

// What is known of a state that a device's answer set.
const (
	Confirmed = "confirmed" // an answer that names the command
	Observed  = "observed"  // the device's state now shows what was asked
	Assumed   = "assumed"   // published, nothing can be seen
)

// Command is a command as operators see it. Times are Unix milliseconds.
type Command struct {
	ID       string          `json:"id"`
	Device   string          `json:"device"`
	Name     string          `json:"name"`
	Params   json.RawMessage `json:"params,omitempty"`
	State    State           `json:"state"`
	Late     bool            `json:"late"`
	Evidence string          `json:"evidence,omitempty"`
	Actor    string          `json:"actor,omitempty"`
	Created  int64           `json:"created"`
	Expires  int64           `json:"expires"`
	Attempt  int             `json:"attempt"`

	NotBefore  int64        `json:"not_before,omitempty"`
	Priority   int          `json:"priority"`
	Retry      *RetryPolicy `json:"retry,omitempty"`
	Awaiting   bool         `json:"awaiting_approval,omitempty"` // nothing is written before a second operator agreed
	ApprovedBy string       `json:"approved_by,omitempty"`
	Job        string       `json:"job,omitempty"`

	Progress *Progress       `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *wire.Fault     `json:"error,omitempty"`
	Events   []Event         `json:"events,omitempty"`
}

// RetryPolicy is what was asked as Retry.
type RetryPolicy struct {
	Attempts int    `json:"attempts"`
	Delay    string `json:"delay"`
}

// Progress is the last progress that the device reported.
type Progress struct {
	Percent float64 `json:"percent"`
	Message string  `json:"message,omitempty"`
}

// Event is one step of a command's life: the state it led to, and what is known about it.
type Event struct {
	Time     int64  `json:"time"`
	State    State  `json:"state"`
	Node     string `json:"node,omitempty"`
	Session  string `json:"session,omitempty"`
	Epoch    uint64 `json:"epoch,omitempty"`
	Actor    string `json:"actor,omitempty"`
	Evidence string `json:"evidence,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// Request asks for a command.
type Request struct {
	Device string
	Name   string
	Params json.RawMessage // any JSON, or empty

	TTL        time.Duration // how long it may wait for the device; 0 is the default
	OnlineOnly bool          // only if on line now; TTL is then ignored
	Timeout    time.Duration // how long to wait for an answer once sent; 0 is the default

	NotBefore time.Time // when it may be sent at the earliest; TTL counts from then. Zero is now
	Priority  *int      // 0 to MaxPriority; of the commands that wait for a device the highest goes first. Nil is DefaultPriority
	Retry     Retry     // what happens when the device fails or stays silent

	Actor          string // who asks
	IdempotencyKey string // scoped to Actor; empty is none
	Confirm        string // the device's id, for dangerous commands
	Job            string // that it is part of, if any
	Approver       string // who agreed already, for commands that need a second operator
	Born           int64  // when the record of the device that is meant was made; 0 is whoever has the id now

	// Permit, if set, is asked last whether the command may be, once it is clear that its key made none before.
	Permit func() error
}

// The priorities of commands: 0 is the least. Of one device's waiting commands the highest priority is sent first, and
// within one priority the oldest.
const (
	DefaultPriority = 5
	MaxPriority     = 9
)

// Retry asks for more tries when the device answers that it failed, or does not answer in time. Each try has an id of
// its own for the device (the second is ID-2), because a device acts once per id. No try begins after the time to live.
type Retry struct {
	Attempts int           // tries in all; 0 and 1 are one
	Delay    time.Duration // from the end of one to the beginning of the next
}

// Attachment is a device's live session on this node.
type Attachment struct {
	Device  string
	Session string
	Epoch   uint64
	Node    string
}

// Delivery is the session that took a command.
type Delivery struct {
	Session string
	Epoch   uint64
}
