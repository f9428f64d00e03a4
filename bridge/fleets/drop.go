package fleets

// DropReason is why a message became nothing.
type DropReason string

// The reasons that lie in a message itself.
const (
	InvalidUTF8   DropReason = "invalid_utf8"
	InvalidJSON   DropReason = "invalid_json"
	NotAnObject   DropReason = "not_an_object"
	TooDeep       DropReason = "too_deep"
	TooManyFields DropReason = "too_many_fields"
	InvalidValue  DropReason = "invalid_value"
	Empty         DropReason = "empty"
	Retained      DropReason = "retained"
	TooMany       DropReason = "too_many_devices"
	TopicTaken    DropReason = "topic_taken"
	NotItsOwn     DropReason = "not_its_own" // said by a device of another one
)

// Reasons lists the reasons above, for metrics that start at zero.
var Reasons = []DropReason{
	InvalidUTF8, InvalidJSON, NotAnObject, TooDeep, TooManyFields, InvalidValue, Empty, Retained, TooMany, TopicTaken, NotItsOwn,
}

// Drop is the error for a message that means nothing.
type Drop struct {
	Reason DropReason
	Detail string
}

// Error returns reason and detail.
func (d *Drop) Error() string {
	if d.Detail == "" {
		return string(d.Reason)
	}
	return string(d.Reason) + ": " + d.Detail
}
