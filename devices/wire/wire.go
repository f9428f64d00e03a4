// Package wire holds the frames of the device protocol fairlead.v1 and their JSON and CBOR codecs.
//
// The exchange, one frame a line (docs/device-protocol.md is the norm):
//
//	hub    welcome    session, limits, the hub's clock; always first
//	device hello      firmware, model, the commands it knows (optional)
//	device telemetry  points, with a sequence number if it wants an ack
//	hub    ack        every telemetry frame up to seq is stored; or: the answer to command id is recorded
//	hub    reject     one telemetry frame was refused, nothing of it is stored
//	hub    command    do this        device accept, progress, result
//	hub    cancel     stop doing it
//	both   state      desired (hub) and reported (device) documents
//	both   token      renew the token; here is a new one
//	hub    error      what you sent is not understood
//	hub    bye        the socket closes now, and when to come back
//
// The package is a leaf: it imports nothing of the project, and every room may import it.
package wire

import "encoding/json"

// Kind is the type of a field's value.
type Kind uint8

// Field kinds. InfluxDB stores Number as float unless the hub is told that a field is an integer.
const (
	Number Kind = iota + 1
	Bool
	Text
)

// Telemetry is one telemetry frame. Its byte slices point into the decoded frame or the decoder's scratch space and
// live until the next Decode.
type Telemetry struct {
	Seq    uint64 // 0: the device wants no ack
	Points []Point

	form form
}

// form is how a message wrote its points, which decides how the place of a fault is named.
type form uint8

const (
	formPoints form = iota // points and blocks
	formShort              // its only point in the envelope
	formSenML
	formLines
)

// Point is one point as a device sent it.
type Point struct {
	Measurement []byte // never empty after Decode
	Time        int64  // Unix nanoseconds; meaningless unless HasTime
	HasTime     bool
	block       int32 // 1 more than the index of the block that holds it; 0: none
	Tags        []Tag
	Fields      []Field
}

// Tag is one tag of a point.
type Tag struct{ Key, Value []byte }

// Field is one field of a point. Value is a finite decimal literal for Number, "true" or "false" for Bool, and the
// string itself, unescaped, for Text.
type Field struct {
	Key   []byte
	Kind  Kind
	at    int32 // row of its block, record of its SenML pack, or line: what the message calls it
	Value []byte
}

// Hello is what a device may say of itself first.
type Hello struct {
	Firmware string        `json:"firmware,omitempty"`
	Model    string        `json:"model,omitempty"`
	Commands []CommandSpec `json:"commands,omitempty"`
}

// CommandSpec announces one command a device knows. Params is a JSON Schema (2020-12) of its parameters, or empty.
type CommandSpec struct {
	Name      string          `json:"name"`
	Title     string          `json:"title,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Dangerous bool            `json:"dangerous,omitempty"`
}

// AnswerKind says what a device says of a command.
type AnswerKind string

// The answers of a device to a command; Result implies Accept.
const (
	Accept   AnswerKind = "accept"
	Progress AnswerKind = "progress"
	Result   AnswerKind = "result"
)

// Answer is an accept, progress or result frame.
type Answer struct {
	Kind    AnswerKind      `json:"type"`
	ID      string          `json:"id"`
	Percent float64         `json:"percent,omitempty"` // of progress, 0-100
	Message string          `json:"message,omitempty"` // of progress
	OK      bool            `json:"ok"`                // of result
	Result  json.RawMessage `json:"result,omitempty"`  // of result, any JSON
	Error   *Fault          `json:"error,omitempty"`   // of result with OK false
}

// Fault is the error part of a result.
type Fault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// StateReport is a merge patch [RFC7396] of the reported state, answering desired Version (0: unasked).
type StateReport struct {
	Reported json.RawMessage `json:"reported"`
	Version  uint64          `json:"version,omitempty"`
}

// TokenRenewal carries a fresh token in-band.
type TokenRenewal struct {
	Token string `json:"token"`
}

// Limits are the bounds a session lives in, told in the welcome frame.
type Limits struct {
	FrameBytes     int `json:"frame_bytes"`
	PointsPerFrame int `json:"points_per_frame"`
	UnackedFrames  int `json:"unacked_frames"`
}

// Welcome is the hub's first frame. Times are Unix milliseconds.
type Welcome struct {
	Session      string `json:"session"`
	Device       string `json:"device"`
	Time         int64  `json:"time"`
	HeartbeatS   int    `json:"heartbeat_s"`
	TokenExpires int64  `json:"token_expires,omitempty"`
	Limits       Limits `json:"limits"`
}

// Ack says that telemetry up to Seq is stored or rejected, or that the answer to command ID is recorded.
type Ack struct {
	Seq uint64 `json:"seq,omitempty"`
	ID  string `json:"id,omitempty"`
}

// Command is an order to the device. Expires is Unix milliseconds; the device must not act after it.
type Command struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Params    json.RawMessage `json:"params,omitempty"`
	Attempt   int             `json:"attempt"`
	Expires   int64           `json:"expires"`
	TimeoutMS int64           `json:"timeout_ms"`
}

// Cancel asks the device to stop acting on a command.
type Cancel struct {
	ID string `json:"id"`
}

// State is the whole desired document.
type State struct {
	Desired json.RawMessage `json:"desired"`
	Version uint64          `json:"version"`
}

// Token asks for a renewal, or confirms one. Expires is Unix milliseconds.
type Token struct {
	Expires int64 `json:"expires"`
}

// Error tells the device that a frame was not understood.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Bye precedes every close by the hub.
type Bye struct {
	Code         int    `json:"code"`
	Reason       string `json:"reason"`
	RetryAfterMS int64  `json:"retry_after_ms"` // 0: coming back makes no sense before something changes
}
