package api

import "encoding/json"

// Device is a device as operators see it. Times are Unix milliseconds; what is absent is not known.
type Device struct {
	ID       string            `json:"id"`
	Labels   map[string]string `json:"labels"`
	Model    string            `json:"model,omitempty"`
	Firmware string            `json:"firmware,omitempty"`
	Disabled bool              `json:"disabled"`
	Pending  bool              `json:"pending,omitempty"` // enrolled, waits for approval
	Enrolled string            `json:"enrollment,omitempty"`
	Created  int64             `json:"created"`
	Link     string            `json:"link,omitempty"` // websocket or mqtt:<connection>
	Status   Status            `json:"status"`
	Since    int64             `json:"since,omitempty"`
	LastSeen int64             `json:"last_seen,omitempty"`
	Cause    string            `json:"cause,omitempty"`
	Session  string            `json:"session,omitempty"`
	Epoch    uint64            `json:"epoch,omitempty"`
	Node     string            `json:"node,omitempty"`
	Address  string            `json:"address,omitempty"` // with its port if that is known

	Flaps    int  `json:"flaps,omitempty"`    // sessions that replaced a live one in the last window
	Conflict bool `json:"conflict,omitempty"` // so many that two devices use this identity

	ExpectEvery string `json:"expect_every,omitempty"` // telemetry is expected so often
	Silent      bool   `json:"silent,omitempty"`       // none came for longer
	SilentSince int64  `json:"silent_since,omitempty"` // when the last came

	Lease *Lease `json:"lease,omitempty"` // who alone may command it; only of one device, not in lists

	Keys     []Key            `json:"keys"`
	Commands []CommandSpec    `json:"commands"`
	Last     map[string]Value `json:"last,omitempty"` // by measurement.field
}

// Status says whether a device is on the line.
type Status string

// The states of a device's link.
const (
	Online  Status = "online"
	Offline Status = "offline"
	Never   Status = "never"
)

// Key is a public key of a device, without its material.
type Key struct {
	KID string `json:"kid"`
	Alg string `json:"alg"`
}

// CommandSpec is a command that a device announced.
type CommandSpec struct {
	Name      string          `json:"name"`
	Title     string          `json:"title,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Dangerous bool            `json:"dangerous,omitempty"`
}

// Value is the last value of a field.
type Value struct {
	Time  int64 `json:"time"`
	Value any   `json:"value"` // float64, bool or string
}

// Point is a point of a live telemetry event.
type Point struct {
	Measurement string            `json:"measurement"`
	Time        int64             `json:"time"`
	Tags        map[string]string `json:"tags,omitempty"`
	Fields      map[string]any    `json:"fields"`
}

// Series is the history of one field. Times and Values have one length.
type Series struct {
	Measurement string            `json:"measurement"`
	Field       string            `json:"field"`
	Tags        map[string]string `json:"tags"`
	Times       []int64           `json:"times"`
	Values      []any             `json:"values"`
}

// Command is a command and what became of it.
type Command struct {
	ID       string          `json:"id"`
	Device   string          `json:"device"`
	Name     string          `json:"name"`
	Params   json.RawMessage `json:"params,omitempty"`
	State    string          `json:"state"`
	Late     bool            `json:"late"`
	Evidence string          `json:"evidence,omitempty"`
	Actor    string          `json:"actor"`
	Created  int64           `json:"created"`
	Expires  int64           `json:"expires"`
	Attempt  int             `json:"attempt"`

	NotBefore  int64  `json:"not_before,omitempty"`
	Priority   int    `json:"priority"`
	Retry      *Retry `json:"retry,omitempty"`
	Awaiting   bool   `json:"awaiting_approval,omitempty"`
	ApprovedBy string `json:"approved_by,omitempty"`
	Job        string `json:"job,omitempty"`

	Progress *CommandProgress `json:"progress,omitempty"`
	Result   json.RawMessage  `json:"result,omitempty"`
	Error    *CommandFault    `json:"error,omitempty"`
	Events   []CommandEvent   `json:"events,omitempty"`
}

// Retry is how often and how far apart a command is tried.
type Retry struct {
	Attempts int    `json:"attempts"`
	Delay    string `json:"delay"`
}

// Lease says who alone may command a device, and until when.
type Lease struct {
	Device string `json:"device"`
	Holder string `json:"holder"`
	Since  int64  `json:"since"`
	Until  int64  `json:"until"`
}

// Job is one command to many devices and how far it has come.
type Job struct {
	ID          string         `json:"id"`
	Actor       string         `json:"actor"`
	Created     int64          `json:"created"`
	Selector    string         `json:"selector,omitempty"`
	Command     JobCommand     `json:"command"`
	Rollout     Rollout        `json:"rollout"`
	Concurrency int            `json:"concurrency"`
	AbortIf     AbortIf        `json:"abort_if"`
	State       string         `json:"state"`
	Reason      string         `json:"reason,omitempty"`
	Changed     int64          `json:"changed"`
	ChangedBy   string         `json:"changed_by,omitempty"`
	ApprovedBy  string         `json:"approved_by,omitempty"`
	Finished    int64          `json:"finished,omitempty"`
	Total       int            `json:"total"`
	Started     int            `json:"started"`
	Counts      map[string]int `json:"counts"` // devices by command state, pending or refused
}

// JobCommand is what each device of a job is asked.
type JobCommand struct {
	Name      string          `json:"name"`
	Params    json.RawMessage `json:"params,omitempty"`
	TTL       string          `json:"ttl,omitempty"`
	Timeout   string          `json:"timeout,omitempty"`
	NotBefore int64           `json:"not_before,omitempty"`
	Priority  *int            `json:"priority,omitempty"`
	Retry     *Retry          `json:"retry,omitempty"`
}

// Rollout is how fast the devices of a job get their command.
type Rollout struct {
	PerMinute float64 `json:"per_minute,omitempty"` // 0: as fast as concurrency allows
	Growth    float64 `json:"growth,omitempty"`     // of the rate, after each minute's worth of devices
}

// AbortIf is when a job gives up.
type AbortIf struct {
	FailedPercent float64 `json:"failed_percent,omitempty"` // 0: never
	After         int     `json:"after,omitempty"`          // devices that must have ended
}

// JobDevice is what became of one device of a job.
type JobDevice struct {
	Device  string `json:"device"`
	State   string `json:"state"`
	Command string `json:"command,omitempty"`
	Code    string `json:"code,omitempty"` // of the refusal or of the device's error
}

// JobPreview is what a job would reach.
type JobPreview struct {
	DryRun  bool        `json:"dry_run"`
	Total   int         `json:"total"`
	Online  int         `json:"online"`
	Devices []JobTarget `json:"devices"`
}

// JobTarget is a device that a job would reach. Refusal is the code of why the hub would make no command for it now.
type JobTarget struct {
	Device  string `json:"device"`
	Online  bool   `json:"online"`
	Refusal string `json:"refusal,omitempty"`
}

// CommandProgress is how far a device says it is.
type CommandProgress struct {
	Percent float64 `json:"percent"`
	Message string  `json:"message,omitempty"`
}

// CommandFault is why a command failed or was rejected.
type CommandFault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// CommandEvent is one line of a command's time line.
type CommandEvent struct {
	Time     int64  `json:"time"`
	State    string `json:"state"`
	Node     string `json:"node,omitempty"`
	Session  string `json:"session,omitempty"`
	Epoch    uint64 `json:"epoch,omitempty"`
	Actor    string `json:"actor,omitempty"`
	Evidence string `json:"evidence,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// commandStates are the states of a command, with true for those that end it.
var commandStates = map[string]bool{
	"queued": false, "sent": false, "delivered": false, "running": false,
	"succeeded": true, "failed": true, "rejected": true, "expired": true, "timed_out": true, "cancelled": true,
}

// Final reports whether the command has ended.
func (c Command) Final() bool { return commandStates[c.State] }

// TwinState is the desired state beside the reported one.
type TwinState struct {
	Desired         json.RawMessage `json:"desired"`
	DesiredVersion  uint64          `json:"desired_version"`
	Reported        json.RawMessage `json:"reported"`
	ReportedVersion uint64          `json:"reported_version"`
	Difference      json.RawMessage `json:"difference"`
}

// Deadletter is a point that InfluxDB refused.
type Deadletter struct {
	ID     uint64 `json:"id"`
	Time   int64  `json:"time"`
	Device string `json:"device"`
	Reason string `json:"reason"`
	Line   string `json:"line"`
}

// Bridge is the MQTT side: its connections.
type Bridge struct {
	Connections []BridgeConnection `json:"connections"`
}

// BridgeConnection is one broker, how it is, and what was seen on it.
type BridgeConnection struct {
	Name       string        `json:"name"`
	URL        string        `json:"url"`
	Profiles   []string      `json:"profiles"`
	State      string        `json:"state"` // connecting, connected, down or stopped
	Since      int64         `json:"since"`
	LastError  string        `json:"last_error,omitempty"`
	ErrorTime  int64         `json:"error_time,omitempty"`
	Received   uint64        `json:"received"`
	Acked      uint64        `json:"acked"`
	Published  uint64        `json:"published"`
	Dropped    uint64        `json:"dropped"`
	Topics     []BridgeTopic `json:"topics"`
	MoreTopics uint64        `json:"more_topics,omitempty"` // messages of topics beyond those remembered
}

// BridgeTopic is a topic seen on a connection.
type BridgeTopic struct {
	Topic     string `json:"topic"`
	Mapped    bool   `json:"mapped"`
	Messages  uint64 `json:"messages"`
	Dropped   uint64 `json:"dropped,omitempty"`
	LastTime  int64  `json:"last_time"`
	LastError string `json:"last_error,omitempty"`
}

// Node is one hub of the cluster.
type Node struct {
	Name     string `json:"name"`
	Self     bool   `json:"self"`
	Version  string `json:"version,omitempty"`
	Started  int64  `json:"started,omitempty"`
	Seen     int64  `json:"seen"`
	Sessions int    `json:"sessions"`
}

// TraceFrame is one frame of a device with its fate.
type TraceFrame struct {
	Time      int64  `json:"time"`
	Direction string `json:"direction"` // in or out
	Session   string `json:"session,omitempty"`
	Type      string `json:"type,omitempty"`
	Bytes     int    `json:"bytes"`
	Fate      string `json:"fate"`
	Frame     string `json:"frame,omitempty"`
}

// Enrollment is what a secret lets devices do.
type Enrollment struct {
	ID         string            `json:"id"`
	Labels     map[string]string `json:"labels"`
	Prefix     string            `json:"prefix,omitempty"`
	MaxDevices int               `json:"max_devices"`
	Used       int               `json:"used"`
	Approve    bool              `json:"approve"`
	Actor      string            `json:"actor"`
	Created    int64             `json:"created"`
	Expires    int64             `json:"expires"`
	Expired    bool              `json:"expired"`
}

// DeviceRecord is one line of an export, and of an import: there, what is absent is left as it is.
type DeviceRecord struct {
	ID              string            `json:"id"`
	Labels          map[string]string `json:"labels,omitempty"`
	Keys            []NewKey          `json:"keys,omitempty"`
	Disabled        *bool             `json:"disabled,omitempty"`
	Pending         *bool             `json:"pending,omitempty"`
	Notes           *string           `json:"notes,omitempty"`
	ExpectEvery     *string           `json:"expect_every,omitempty"`
	Model           *string           `json:"model,omitempty"`
	Firmware        *string           `json:"firmware,omitempty"`
	Created         *int64            `json:"created,omitempty"`
	TokensNotBefore *int64            `json:"tokens_not_before,omitempty"`
}

// The kinds of keys that the hub signs with.
const (
	DeviceKeys   = "device"
	OperatorKeys = "operator"
)

// HubKey is a key that the hub signs tokens with, without what is secret.
type HubKey struct {
	KID     string `json:"kid"`
	Kind    string `json:"kind"`
	Alg     string `json:"alg"`
	Created int64  `json:"created"`
	Mints   bool   `json:"mints"`
}
