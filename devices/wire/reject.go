package wire

import "strconv"

// Code is the stable reason of a refused frame.
type Code string

// The codes of a reject frame.
const (
	InvalidJSON        Code = "invalid_json"
	InvalidFrame       Code = "invalid_frame"
	InvalidMeasurement Code = "invalid_measurement"
	InvalidTag         Code = "invalid_tag"
	InvalidField       Code = "invalid_field"
	InvalidTime        Code = "invalid_time"
	TooManyPoints      Code = "too_many_points"
	TooManyFields      Code = "too_many_fields"
	TooManySeries      Code = "too_many_series"
	TypeConflict       Code = "type_conflict"
)

// Codes lists every Code, for metrics that start at zero.
var Codes = []Code{
	InvalidJSON, InvalidFrame, InvalidMeasurement, InvalidTag, InvalidField, InvalidTime,
	TooManyPoints, TooManyFields, TooManySeries, TypeConflict,
}

// Reject says why one frame was refused; nothing of it is stored. It is the reject frame and the error that leads to
// it. Path names the place, as in points[0].fields.temp; Message repeats it and says what to do.
type Reject struct {
	Seq     uint64 `json:"seq,omitempty"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Path    string `json:"path,omitempty"`
}

// Error returns the message.
func (r *Reject) Error() string { return r.Message }

// UnknownType is the error for a frame whose type the protocol does not have.
type UnknownType struct{ Type string }

// Error names the unknown type.
func (u *UnknownType) Error() string {
	return "type " + strconv.Quote(u.Type) + " is not known; see fairlead.v1"
}
