package api

import (
	"context"
	"encoding/json"
	"time"
)

// Devices is everything that the API asks of the device records. Adapters return the sentinels of errors.go.
type Devices interface {
	Fleet
	Registrar
	Credentials
}

// Fleet reads device records and what is known of their links.
type Fleet interface {
	List(ctx context.Context, q DeviceQuery) (DevicePage, error)
	Find(ctx context.Context, id string) (Device, error)
	// Labels answers from memory: the gate asks it for each request and each live event of a bound operator.
	Labels(id string) (labels map[string]string, known bool)
}

// Registrar changes device records.
type Registrar interface {
	// Create makes a device, and a token for it unless keys were given.
	Create(ctx context.Context, d NewDevice) (made Device, token string, err error)
	Patch(ctx context.Context, id string, p DevicePatch) (Device, error)
	Delete(ctx context.Context, id string) error
}

// Credentials changes what a device may prove itself with.
type Credentials interface {
	// MintToken makes a token; a ttl of 0 is the default.
	MintToken(ctx context.Context, id string, ttl time.Duration) (token string, expires time.Time, err error)
	RevokeTokens(ctx context.Context, id string) error
	AddKey(ctx context.Context, id string, k NewKey) (Key, error)
	RemoveKey(ctx context.Context, id, kid string) error
}

// DeviceQuery picks devices. Selector is what the caller asked for and what the operator is bound to, in one; Match says
// the same of a device's labels.
type DeviceQuery struct {
	Selector string
	Match    func(labels map[string]string) bool
	Status   Status // empty: any
	Text     string // in id, model or a label's value
	Silent   *bool  // nil: any
	Page
}

// Page asks for part of a list. Cursor is what the last part returned, empty for the first.
type Page struct {
	Cursor string
	Limit  int
}

// DevicePage is part of the list; an empty Cursor ends it.
type DevicePage struct {
	Devices []Device
	Cursor  string
}

// NewDevice is a device to be made.
type NewDevice struct {
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels,omitempty"`
	Keys   []NewKey          `json:"keys,omitempty"`
}

// NewKey is a public key, PEM or JWK; one of the two is set.
type NewKey struct {
	KID       string          `json:"kid"`
	PublicKey string          `json:"public_key,omitempty"`
	JWK       json.RawMessage `json:"jwk,omitempty"`
}

// DevicePatch changes what is not nil. Labels are merged: a nil value removes a label.
type DevicePatch struct {
	Labels   map[string]*string `json:"labels,omitempty"`
	Disabled *bool              `json:"disabled,omitempty"`
	// ExpectEvery is how often telemetry is expected: a duration, "never", or "" for what the configuration says.
	ExpectEvery *string `json:"expect_every,omitempty"`
}

// NeverExpected is the ExpectEvery of a device that nothing is expected of, whatever the configuration says.
const NeverExpected = "never"

// History answers what a device measured.
type History interface {
	Telemetry(ctx context.Context, q HistoryQuery) (HistoryAnswer, error)
}

// HistoryAnswer is what a device measured. Every and Fn say how values were drawn together, also where the query left it to
// the store; Every is 0 for points as stored.
type HistoryAnswer struct {
	Series []Series
	Every  time.Duration
	Fn     string
}

// HistoryQuery is checked before it is asked: names hold no quotes, From is before To, and From, To and Every make at
// most Limit values a series. An empty Measurement or Fields means all; Every 0
// means as stored if that fits Limit, else drawn together so that it does.
type HistoryQuery struct {
	Device, Measurement string
	Fields              []string
	From, To            time.Time
	Every               time.Duration
	Fn                  string // mean, min, max, first, last, sum, count, median, spread or stddev; empty with Every 0
	Limit               int
}

// Commander records commands and knows what became of them.
type Commander interface {
	// Create records a command durably and starts its delivery. The same key and body again return the first command.
	Create(ctx context.Context, c NewCommand) (Command, error)
	// Wait returns the command once it has ended, or as it stands when ctx ends, then without an error.
	Wait(ctx context.Context, id string) (Command, error)
	Find(ctx context.Context, id string) (Command, error)
	List(ctx context.Context, q CommandQuery) (CommandPage, error)
	Cancel(ctx context.Context, id, actor string) (Command, error)
}

// NewCommand is an order. A nil TTL or zero Timeout is the default; a TTL of 0 means only if the device is on line now.
type NewCommand struct {
	Device, Name   string
	Params         json.RawMessage
	TTL            *time.Duration
	Timeout        time.Duration
	Actor          string
	IdempotencyKey string
	Confirm        string // the device's id, for commands that it calls dangerous
	NotBefore      int64  // Unix milliseconds; 0 is now
	Priority       *int   // nil: the default
	Attempts       int    // tries at most; 0 is one
	AttemptDelay   time.Duration
}

// Leases gives devices to one operator for a time.
type Leases interface {
	Lease(ctx context.Context, device string) (Lease, error)
	// Hold takes or prolongs a lease; from names whom it was taken from.
	Hold(ctx context.Context, q LeaseRequest) (l Lease, from string, err error)
	// Release ends the actor's lease, or with force anybody's, and returns it as it was.
	Release(ctx context.Context, device, actor string, force bool) (Lease, error)
}

// LeaseRequest asks for a device. TakeOver takes it from whoever has it.
type LeaseRequest struct {
	Device, Actor string
	TTL           time.Duration
	TakeOver      bool
}

// Approver lets a command go that waits for a second operator.
type Approver interface {
	Approve(ctx context.Context, id, actor string) (Command, error)
}

// Jobs carries one command to many devices.
type Jobs interface {
	Create(ctx context.Context, q NewJob) (Job, error)
	Preview(ctx context.Context, q NewJob) (JobPreview, error)
	Find(ctx context.Context, id string) (Job, error)
	// List returns jobs, newest first; with an actor only that operator's. An empty cursor ends it.
	List(ctx context.Context, actor string, p Page) (jobs []Job, cursor string, err error)
	Devices(ctx context.Context, id, state string, p Page) (devices []JobDevice, cursor string, err error)
	// Steer does pause, resume, cancel or approve.
	Steer(ctx context.Context, id, action, actor string) (Job, error)
}

// NewJob is a job to be made. Within is what the operator is bound to; Confirm is the number of devices, for commands that
// one of them calls dangerous. Of Command its device and confirmation are not set.
type NewJob struct {
	Selector, Within string
	Devices          []string
	Command          NewCommand
	Rollout          Rollout
	Concurrency      int
	AbortIf          AbortIf
	Confirm          int
}

// CommandQuery picks commands, newest first. Visible is nil for an operator who may see all.
type CommandQuery struct {
	Device, State, Actor string
	Awaiting             bool // only those that wait for a second operator
	Visible              func(device string) bool
	Page
}

// CommandPage is part of the list, without events; an empty Cursor ends it.
type CommandPage struct {
	Commands []Command
	Cursor   string
}

// Twin holds desired and reported state.
type Twin interface {
	State(ctx context.Context, device string) (TwinState, error)
	// PatchDesired merges patch [RFC7396] if version is nil or the current one, else ErrVersionMismatch.
	PatchDesired(ctx context.Context, device string, patch json.RawMessage, version *uint64) (TwinState, error)
}

// BridgeStatus tells how the MQTT connections are.
type BridgeStatus interface {
	Status(ctx context.Context) (Bridge, error)
}

// Deadletters lists refused points and puts them back into the log.
type Deadletters interface {
	List(ctx context.Context, q DeadletterQuery) (DeadletterPage, error)
	// Replay puts back the given ones, or with none given all of the device, or with no device all. It returns how many.
	Replay(ctx context.Context, device string, ids []uint64) (int, error)
}

// DeadletterQuery picks refused points. Visible is nil for an operator who may see all.
type DeadletterQuery struct {
	Device  string
	Visible func(device string) bool
	Page
}

// DeadletterPage is part of the list; an empty Cursor ends it.
type DeadletterPage struct {
	Deadletters []Deadletter
	Cursor      string
}

// Enrollments lets devices make their own records with a secret.
type Enrollments interface {
	// Create makes an enrollment; the secret is told this once.
	Create(ctx context.Context, n NewEnrollment) (e Enrollment, secret string, err error)
	List(ctx context.Context) ([]Enrollment, error)
	Delete(ctx context.Context, id string) error
	// Pending lists devices that wait for approval, of all enrollments.
	Pending(ctx context.Context, p Page) (DevicePage, error)
	Approve(ctx context.Context, id, device string) (Device, error)
}

// NewEnrollment is an enrollment to be made.
type NewEnrollment struct {
	Labels     map[string]string
	Prefix     string
	MaxDevices int
	TTL        time.Duration
	Approve    bool
	Actor      string
}

// Transfer moves device records in and out as they are.
type Transfer interface {
	// Export calls each for every record that fits, by id, until it returns false.
	Export(ctx context.Context, q DeviceQuery, each func(DeviceRecord) bool) error
	// Import makes and changes records, and says what became of each.
	Import(ctx context.Context, all []DeviceRecord) []Imported
}

// Imported is what became of one record: made, changed, left as it was, or refused.
type Imported struct {
	Made, Changed bool
	Err           error
}

// HubKeys are keys that the hub signs tokens with.
type HubKeys interface {
	List() []HubKey
	// Rotate makes a key that signs from now on.
	Rotate() (HubKey, error)
	// Remove ends a key and all that it signed; ErrHubKeyMints if it is the one that signs.
	Remove(kid string) error
	// Reload finds the keys that other nodes made and removed.
	Reload() error
}

// Nodes tells who is in the cluster.
type Nodes interface {
	Nodes(ctx context.Context) ([]Node, error)
}

// Trace shows the last frames of one device.
type Trace interface {
	Frames(ctx context.Context, device string, limit int) ([]TraceFrame, error)
}

// Watcher is told whose telemetry, or frames, somebody looks at, "*" for all devices, so that live events cost nothing
// when nobody looks. The device may be at any node. It must not block.
type Watcher interface {
	Watch(k Kind, device string, on bool)
}
