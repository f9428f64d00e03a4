package auth

import "net/http"

// Code is the stable reason why a token is not good.
type Code string

// The reasons. What the hub tells a stranger is Public: it never says whether a device exists.
const (
	Missing       Code = "token_missing"
	Malformed     Code = "token_malformed"
	Expired       Code = "token_expired"
	NotYetValid   Code = "token_not_yet_valid"
	WrongAudience Code = "token_wrong_audience"
	UnknownKey    Code = "token_unknown_key"
	BadSignature  Code = "token_bad_signature"
	UnknownDevice Code = "device_unknown"
	Disabled      Code = "device_disabled"
	Pending       Code = "device_pending"
	Revoked       Code = "token_revoked"
)

// Codes lists every Code, for metrics that start at zero.
var Codes = []Code{
	Missing, Malformed, Expired, NotYetValid, WrongAudience, UnknownKey, BadSignature, UnknownDevice, Disabled, Pending,
	Revoked,
}

// notVerified is what both an unknown key and a bad signature look like from outside: who can tell them apart can
// find out which devices exist.
const notVerified = "token_not_verified"

// Refusal is the error of Verify. Detail is for the device that presented the token; Device is set only once the
// signature verified.
type Refusal struct {
	Code   Code
	Detail string
	Device string
}

// Error returns the code and the detail.
func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Detail }

// Status is the HTTP status of the refusal: 401 while the bearer has not proved who it is, 403 after.
func (r *Refusal) Status() int {
	switch r.Code {
	case UnknownDevice, Disabled, Pending, Revoked:
		return http.StatusForbidden
	}
	return http.StatusUnauthorized
}

// Public is the code and detail that may be told to whoever presented the token.
func (r *Refusal) Public() (code, detail string) {
	if r.Code == UnknownKey || r.Code == BadSignature {
		return notVerified, "no key that the hub knows verifies this token"
	}
	return string(r.Code), r.Detail
}

func refuse(c Code, detail string) *Refusal { return &Refusal{Code: c, Detail: detail} }
