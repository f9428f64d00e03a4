package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

// The refusals that adapters return; each has one line in the table below.
var (
	ErrDeviceNotFound     = errors.New("there is no such device")
	ErrDeviceExists       = errors.New("a device of this id exists")
	ErrDeviceOffline      = errors.New("the device is not on line, and the command may not wait")
	ErrDeviceDisabled     = errors.New("the device is disabled")
	ErrKeyNotFound        = errors.New("the device has no such key")
	ErrKeyExists          = errors.New("the device has a key of this kid")
	ErrTooManyKeys        = errors.New("the device has as many keys as it may")
	ErrCommandNotFound    = errors.New("there is no such command")
	ErrCommandEnded       = errors.New("the command has ended")
	ErrUnknownCommand     = errors.New("the device announced its commands, and this is none of them")
	ErrNotConfirmed       = errors.New("the device calls this command dangerous, and it was not confirmed")
	ErrQueueFull          = errors.New("the device's command queue is full")
	ErrIdempotencyReuse   = errors.New("this Idempotency-Key was used with another body")
	ErrNoLease            = errors.New("nobody holds the device")
	ErrNotAwaiting        = errors.New("the command or job does not wait for approval")
	ErrSelfApproval       = errors.New("whoever asked cannot approve")
	ErrJobNotFound        = errors.New("there is no such job")
	ErrJobState           = errors.New("the job's state does not allow that")
	ErrNoDevices          = errors.New("no device that you may command fits")
	ErrTooManyDevices     = errors.New("more devices fit than a job may have")
	ErrTooManyJobs        = errors.New("as many jobs are at work as may be")
	ErrJobBarred          = errors.New("your rights ended while the job was being made: no jobs of yours are taken")
	ErrTypeNotFound       = errors.New("nobody has sent such a field yet")
	ErrVersionMismatch    = errors.New("the state has another version")
	ErrStateTooLarge      = errors.New("the state document is too large")
	ErrInvalidCursor      = errors.New("the cursor is not one of this list")
	ErrEnrollmentNotFound = errors.New("there is no such enrollment")
	ErrTooManyEnrollments = errors.New("there are as many enrollments as there may be")
	ErrNotPending         = errors.New("no such device waits under this enrollment")
	ErrHubKeyNotFound     = errors.New("the hub has no such key")
	ErrHubKeyMints        = errors.New("new tokens are signed with this key")
	ErrTooManyHubKeys     = errors.New("the hub has as many keys as it may")
	ErrUnavailable        = errors.New("a part of the hub that this needs cannot serve now")
	ErrOutcomeUnknown     = errors.New("the hub stopped before it was known whether this was recorded")
)

// The refusals of the API's own parts.
var (
	ErrOperatorNotFound = errors.New("there is no such operator")
	ErrOperatorExists   = errors.New("an operator of this name exists")
	ErrTooManyOperators = errors.New("there are as many operators as there may be")
	ErrLastAdmin        = errors.New("this is the last admin who can sign in everywhere")
	ErrAuditUnavailable = errors.New("the change could not be recorded in the audit log")
	errUnauthenticated  = errors.New("no valid operator token or session came with the request")
	errTokenAhead       = errors.New("iat or minted_ms of the token lies ahead of the hub's clock, which time tells")
	errSignIn           = errors.New("the token or sign-in link is not valid; a link works once and for a limited time")
	errCSRF             = errors.New("the X-CSRF-Token header does not fit the session")
	errCrossOrigin      = errors.New("the request comes from another site")
	ErrOverloaded       = errors.New("the hub is busy with as many requests as it takes")
	errRequests         = errors.New("this operator has as many requests under way as one may")
	errStrangers        = errors.New("the hub is busy with as many requests of unknown callers as it takes")
	errAddress          = errors.New("this address has as many requests of unknown callers under way as one may")
	errWaits            = errors.New("this operator has as many requests that wait for a command as one may")
	errAllWaits         = errors.New("as many requests wait for commands as the hub takes")
	errLiveViews        = errors.New("this operator has as many live views as one may")
	errTooManyViewers   = errors.New("there are as many live viewers as the hub takes")
	errBodyTooLarge     = errors.New("the request body is too large")
	errNoRoute          = errors.New("there is no such resource")
	errNoBody           = &Invalid{Code: "invalid_json", Detail: "the body is empty, want a JSON object"}
)

// Invalid says what is wrong with a request, and where. Adapters return it for what only they can check, as parameters
// that do not fit a device's schema.
type Invalid struct {
	Code   string // empty: invalid_request
	Path   string
	Detail string
	Hint   string
	Status int // 0: 400
}

// Error returns the detail.
func (e *Invalid) Error() string { return e.Detail }

// outcome is how one refusal is told.
type outcome struct {
	err    error
	status int
	code   string
	hint   string
}

// outcomes is the one table from error to status. What is not in it is 500 and told to the log only.
var outcomes = []outcome{
	{ErrDeviceNotFound, http.StatusNotFound, "device_not_found", "list devices with GET /api/v1/devices, or add this one with POST"},
	{ErrDeviceExists, http.StatusConflict, "device_exists", "choose another id, or change this device with PATCH"},
	{ErrDeviceOffline, http.StatusConflict, "device_offline", "give a ttl above 0 to let the command wait for the device"},
	{ErrDeviceDisabled, http.StatusConflict, "device_disabled", `enable it with PATCH {"disabled":false}`},
	{ErrKeyNotFound, http.StatusNotFound, "key_not_found", "the device record lists its keys"},
	{ErrKeyExists, http.StatusConflict, "key_exists", "choose another kid, or remove the old key first"},
	{ErrTooManyKeys, http.StatusConflict, "too_many_keys", "remove a key that is no longer used"},
	{ErrCommandNotFound, http.StatusNotFound, "command_not_found", "commands are kept for 90 days unless configured otherwise"},
	{ErrCommandEnded, http.StatusConflict, "command_ended", "its final state is in GET /api/v1/commands/{id}"},
	{ErrUnknownCommand, http.StatusUnprocessableEntity, "unknown_command", "the device record lists the commands that it announced"},
	{ErrNotConfirmed, http.StatusConflict, "not_confirmed", "repeat with \"confirm\" set to the device's id (fairlead send --yes)"},
	{ErrQueueFull, http.StatusTooManyRequests, "queue_full", "wait until the device has taken some, or cancel waiting commands"},
	{ErrIdempotencyReuse, http.StatusConflict, "idempotency_key_reused", "use a new key for a new command"},
	{ErrNoLease, http.StatusNotFound, "lease_not_found", "take one with POST /api/v1/devices/{id}/lease"},
	{ErrNotAwaiting, http.StatusConflict, "not_awaiting_approval", "its events say what it waits for"},
	{ErrSelfApproval, http.StatusConflict, "self_approval", "ask another operator to approve it"},
	{ErrJobNotFound, http.StatusNotFound, "job_not_found", "list jobs with GET /api/v1/jobs"},
	{ErrJobState, http.StatusConflict, "job_state", "GET /api/v1/jobs/{id} tells its state"},
	{ErrNoDevices, http.StatusUnprocessableEntity, "no_devices", "list devices with GET /api/v1/devices?selector="},
	{ErrTooManyDevices, http.StatusUnprocessableEntity, "too_many_devices", "split the fleet with a narrower selector"},
	{ErrTooManyJobs, http.StatusTooManyRequests, "too_many_jobs", "wait until one has ended, or cancel one"},
	{ErrJobBarred, http.StatusForbidden, "role_too_low", "ask an admin to look at your operator record"},
	{ErrEnrollmentNotFound, http.StatusNotFound, "enrollment_not_found", "list enrollments with GET /api/v1/enrollments"},
	{ErrTooManyEnrollments, http.StatusConflict, "too_many_enrollments", "delete those that have expired"},
	{ErrNotPending, http.StatusNotFound, "not_pending", "GET /api/v1/enrollments/pending lists the devices that wait"},
	{ErrHubKeyNotFound, http.StatusNotFound, "hub_key_not_found", "list the keys with GET /api/v1/keys"},
	{ErrHubKeyMints, http.StatusConflict, "hub_key_in_use", "make another key first with POST /api/v1/keys"},
	{ErrTooManyHubKeys, http.StatusConflict, "too_many_hub_keys", "remove keys whose tokens have expired"},
	{ErrTypeNotFound, http.StatusNotFound, "type_not_found", "list types with GET /api/v1/types, or settle this one with PATCH"},
	{ErrVersionMismatch, http.StatusPreconditionFailed, "version_mismatch", "read the state again and repeat with its desired_version in If-Match"},
	{ErrStateTooLarge, http.StatusRequestEntityTooLarge, "state_too_large", "a state document has at most 32 KiB"},
	{ErrInvalidCursor, http.StatusBadRequest, "invalid_cursor", "start again without a cursor"},
	{ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "try again; /readyz on the admin listener says what is wrong"},
	{ErrOutcomeUnknown, http.StatusServiceUnavailable, "outcome_unknown", "it may have been recorded: read the resource, or repeat with the same Idempotency-Key"},
	{ErrOperatorNotFound, http.StatusNotFound, "operator_not_found", "list operators with GET /api/v1/operators"},
	{ErrOperatorExists, http.StatusConflict, "operator_exists", "choose another name, or mint a token for this operator"},
	{ErrTooManyOperators, http.StatusConflict, "too_many_operators", "remove operators who are gone"},
	{ErrLastAdmin, http.StatusConflict, "last_admin", "make another admin first"},
	{ErrAuditUnavailable, http.StatusServiceUnavailable, "audit_unavailable", "the change itself may have been made: read the resource before repeating"},
	{errUnauthenticated, http.StatusUnauthorized, "unauthenticated", "send Authorization: Bearer <operator token>, or sign in"},
	{errTokenAhead, http.StatusUnauthorized, "token_not_yet_valid", "compare the clocks of the hub's nodes with time, and mint a new token"},
	{errSignIn, http.StatusUnauthorized, "sign_in_refused", "make a new link with: fairlead operators link NAME"},
	{errCSRF, http.StatusForbidden, "csrf_token_invalid", "GET /api/v1/session tells the session's csrf token"},
	{errCrossOrigin, http.StatusForbidden, "cross_origin", "call from the hub's own pages, or list the site in auth.origins"},
	{ErrOverloaded, http.StatusServiceUnavailable, "overloaded", "try again in a moment"},
	{errRequests, http.StatusTooManyRequests, "too_many_requests", "wait for answers, and ask for less at once"},
	{errStrangers, http.StatusServiceUnavailable, "too_many_strangers", "try again in a moment; who has signed in is not held up"},
	{errAddress, http.StatusTooManyRequests, "too_many_of_address", "try again in a moment; behind a proxy, list it in devices.trusted_proxies, so that its callers count each for itself"},
	{errWaits, http.StatusTooManyRequests, "too_many_waits", "ask without wait, and read the command later or hear of it by GET /api/v1/live"},
	{errAllWaits, http.StatusServiceUnavailable, "waits_overloaded", "ask without wait, or try again in a moment"},
	{errLiveViews, http.StatusTooManyRequests, "too_many_live_views", "close one first; one view can hear of all devices"},
	{errTooManyViewers, http.StatusServiceUnavailable, "too_many_viewers", "close a live view, or try again later"},
	{errBodyTooLarge, http.StatusRequestEntityTooLarge, "body_too_large", ""},
	{errNoRoute, http.StatusNotFound, "not_found", "the calls are described in /api/openapi.json"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, "timeout", "the hub took too long; read the resource before repeating a change"},
}

// faultPaths name the part of the request, where one refusal is always about the same.
var faultPaths = map[error]string{
	ErrInvalidCursor: "cursor", ErrNotConfirmed: "confirm", ErrIdempotencyReuse: "Idempotency-Key", ErrVersionMismatch: "If-Match",
	ErrDeviceExists: "id", ErrKeyExists: "kid", ErrOperatorExists: "name",
}

// toProblem turns an error into the document that the caller gets. known is false for what only the log may hear.
func toProblem(err error) (doc *problem.Document, known bool) {
	if d := (*problem.Document)(nil); errors.As(err, &d) {
		copied := *d
		return &copied, true
	}
	if inv := (*Invalid)(nil); errors.As(err, &inv) {
		status, code := inv.Status, inv.Code
		if status == 0 {
			status = http.StatusBadRequest
		}
		if code == "" {
			code = "invalid_request"
		}
		path, detail := dotted(inv.Path), inv.Detail
		if rest, ok := strings.CutPrefix(detail, inv.Path+": "); ok { // the sentence names the place as path does
			detail = path + ": " + rest
		}
		return problem.New(status, code, clip(detail)).WithPath(clip(path)).WithHint(inv.Hint), true
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return problem.New(o.status, o.code, o.err.Error()).WithPath(faultPaths[o.err]).WithHint(o.hint), true
		}
	}
	return problem.New(http.StatusInternalServerError, "internal", "the hub could not finish this; its log says why").
		WithHint("read the resource before repeating a change"), false
}

// dotted writes a JSON pointer as the paths of this API are written: /params/list/0 is params.list[0].
func dotted(path string) string {
	if !strings.HasPrefix(path, "/") {
		return path
	}
	out := ""
	for part := range strings.SplitSeq(path[1:], "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		if _, err := strconv.ParseUint(part, 10, 32); err == nil {
			out += "[" + part + "]"
		} else {
			out += "." + part
		}
	}
	return strings.TrimPrefix(out, ".")
}
