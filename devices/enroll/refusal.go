package enroll

import (
	"errors"
	"net/http"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

// The reasons why an enrollment does not take a device.
var (
	errExpired   = errors.New("the enrollment has expired")
	errExhausted = errors.New("the enrollment was used for as many devices as it may")
	errTaken     = errors.New("the id is being enrolled with another key")
	errBusy      = errors.New("too many devices enrol at once")

	errAddressBusy = errors.New("too many devices of this address enrol at once")
)

// The codes of what becomes of a request.
const (
	codeEnrolled = "enrolled"
	codePending  = "pending"
	codeRepeated = "repeated"

	codeMethod    = "method_not_allowed"
	codeOrigin    = "origin_not_allowed"
	codeOften     = "enrolls_too_often"
	codeBusy      = "too_many_enrolls"
	codeBody      = "invalid_body"
	codeTooBig    = "body_too_big"
	codeSecret    = "enrollment_refused"
	codeExpired   = "enrollment_expired"
	codeExhausted = "enrollment_exhausted"
	codeID        = "invalid_id"
	codeNotHere   = "id_not_allowed"
	codeKey       = "invalid_key"
	codeProof     = "proof_refused"
	codeExists    = "device_exists"
	codeDisabled  = "device_disabled"
	codeInternal  = "unavailable"
)

var codes = []string{
	codeEnrolled, codePending, codeRepeated, codeMethod, codeOrigin, codeOften, codeBusy, codeBody, codeTooBig, codeSecret, codeExpired,
	codeExhausted, codeID, codeNotHere, codeKey, codeProof, codeExists, codeDisabled, codeInternal,
}

// refusal is how a reason is told.
func refusal(err error) *problem.Document {
	switch {
	case errors.Is(err, ErrUnknown):
		return refuseSecret()
	case errors.Is(err, errExpired):
		return problem.New(http.StatusForbidden, codeExpired, errExpired.Error()).WithHint("ask an operator for a new secret")
	case errors.Is(err, errExhausted):
		return problem.New(http.StatusForbidden, codeExhausted, errExhausted.Error()).WithHint("ask an operator for a new secret")
	case errors.Is(err, errTaken):
		return refuseExists()
	case errors.Is(err, errAddressBusy):
		return problem.New(http.StatusTooManyRequests, codeOften, errAddressBusy.Error())
	case errors.Is(err, errBusy):
		return problem.New(http.StatusServiceUnavailable, codeBusy, errBusy.Error())
	}
	return problem.New(http.StatusServiceUnavailable, codeInternal, "the hub could not make the record").
		WithHint("try again with the same key: what was done already is not done twice")
}

// refuseSecret tells nothing of which part was wrong.
func refuseSecret() *problem.Document {
	return problem.New(http.StatusUnauthorized, codeSecret, "no enrollment has this secret").
		WithHint("it may be mistyped, or the enrollment was deleted")
}

func refuseExists() *problem.Document {
	return problem.New(http.StatusConflict, codeExists, "a device of this id exists, and this key is not its").
		WithPath("id").WithHint("choose another id; if this is that device, an operator can add the new key or delete the old record")
}
