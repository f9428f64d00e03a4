package jobs

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
)

// State is where a job stands.
type State string

// The states of a job. A job that is cancelled or aborted has ended when Finished is set: until then commands are open.
const (
	Awaiting  State = "awaiting_approval" // a second operator must agree
	Running   State = "running"
	Paused    State = "paused"
	Completed State = "completed"
	Cancelled State = "cancelled"
	Aborted   State = "aborted"
)

// What a device's part of a job can be beside the states of its command.
const (
	Pending = "pending" // not begun
	Refused = "refused" // the hub made no command; the code says why
)

// Order is the command that each device gets.
type Order struct {
	Name       string          `json:"name"`
	Params     json.RawMessage `json:"params,omitempty"`
	TTL        time.Duration   `json:"ttl,omitempty"`
	OnlineOnly bool            `json:"online_only,omitempty"`
	Timeout    time.Duration   `json:"timeout,omitempty"`
	NotBefore  int64           `json:"not_before,omitempty"`
	Priority   *int            `json:"priority,omitempty"`
	Retry      commands.Retry  `json:"retry,omitzero"`
}

// Rollout is how fast devices get their command. PerMinute 0 is as fast as Concurrency allows. With a Growth above 1 the
// rate is multiplied by it after each minute's worth of devices.
type Rollout struct {
	PerMinute float64 `json:"per_minute,omitempty"`
	Growth    float64 `json:"growth,omitempty"`
}

// AbortIf ends a job once at least After devices have ended and FailedPercent of them or more have failed. A FailedPercent
// of 0 never does.
type AbortIf struct {
	FailedPercent float64 `json:"failed_percent,omitempty"`
	After         int     `json:"after,omitempty"`
}

// Request asks for a job. Devices and Selector together mean the devices of the list that the selector fits.
type Request struct {
	Selector    string // empty and no Devices: refused
	Devices     []string
	Within      string // the selector that the operator is bound to
	Order       Order
	Rollout     Rollout
	Concurrency int // commands open at a time; 0 is DefaultConcurrency
	AbortIf     AbortIf

	Actor          string
	IdempotencyKey string
	Confirm        int // how many devices, for a command that one of them calls dangerous
}

// Job is a job as operators see it. Times are Unix milliseconds.
type Job struct {
	ID          string  `json:"id"`
	Actor       string  `json:"actor"`
	Created     int64   `json:"created"`
	Selector    string  `json:"selector,omitempty"`
	Order       Order   `json:"command"`
	Rollout     Rollout `json:"rollout"`
	Concurrency int     `json:"concurrency"`
	AbortIf     AbortIf `json:"abort_if"`
	Total       int     `json:"total"` // devices

	State      State  `json:"state"`
	Reason     string `json:"reason,omitempty"` // why it was aborted, or cancelled by the hub
	Changed    int64  `json:"changed"`
	ChangedBy  string `json:"changed_by,omitempty"`
	ApprovedBy string `json:"approved_by,omitempty"`
	Finished   int64  `json:"finished,omitempty"` // every command has ended

	Started int            `json:"-"` // devices whose command was asked for
	Counts  map[string]int `json:"-"` // devices by command state, Pending or Refused

	List string `json:"list,omitempty"` // names the stored list of devices that is this job's
	Body string `json:"body,omitempty"` // digest of the request, with an idempotency key

	Place      uint64 `json:"place,omitempty"`       // in the log of commands, all of its own have higher ones
	Within     string `json:"within,omitempty"`      // what its maker was bound to, by record and token
	MakerSince int64  `json:"maker_since,omitempty"` // when its maker's record was made
}

// over reports whether nobody need drive the job any more.
func (j *Job) over() bool { return j.Finished > 0 }

// Result is what became of one device.
type Result struct {
	Device  string
	Command string // id
	State   string
	Code    string // of the refusal or of the device's error
}

// The bounds of jobs.
const (
	MaxDevices         = 100_000
	DefaultConcurrency = 1000
	MaxConcurrency     = 10_000
	DefaultAfter       = 10
	MaxPerMinute       = 600_000
	MaxGrowth          = 10

	maxJobs   = 1000
	maxActive = 32
)

// errBarred says of one device that its command waits for the end of the job, whose maker may make none any more.
var errBarred = errors.New("the job's maker may make no jobs any more")

// What jobs refuse with, beside what commands do.
var (
	// ErrNotFound says that there is no such job, or none any more.
	ErrNotFound = errors.New("job not found")
	// ErrNoDevices says that the selector and list fit no device.
	ErrNoDevices = errors.New("no device fits")
	// ErrTooManyDevices says that more devices fit than a job may have.
	ErrTooManyDevices = errors.New("more devices fit than a job may have")
	// ErrTooManyJobs says that as many jobs are at work as may be.
	ErrTooManyJobs = errors.New("too many jobs at work")
	// ErrBarred says that whoever asks may make no jobs.
	ErrBarred = errors.New("no jobs of this operator are taken")
	// ErrWrongState says that a job in its state cannot be changed so.
	ErrWrongState = errors.New("the job's state does not allow that")
)

// ConfirmError says that a device calls the command dangerous and that Confirm is not the number of devices. It is
// commands.ErrConfirmRequired.
type ConfirmError struct {
	Device string
	Total  int
}

// Error names a device.
func (e *ConfirmError) Error() string { return e.Device + " calls the command dangerous" }

// Unwrap returns commands.ErrConfirmRequired.
func (e *ConfirmError) Unwrap() error { return commands.ErrConfirmRequired }
