package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// The bounds of a request.
const (
	maxInFlight    = 4096
	maxBody        = 256 << 10
	bodyTimeout    = 10 * time.Second
	requestTimeout = 30 * time.Second
	writeTimeout   = 30 * time.Second
	maxWait        = 300 * time.Second

	// strangerRecords is how many refused changes of unknown callers the audit log takes a second; the rest is counted.
	strangerRecords = 5

	retryAfter = "2" // seconds, with 429 and 503
)

// refusals are the reasons of fairlead_api_refused_total.
var refusals = []string{"overloaded", "cross_origin", "unauthenticated", "csrf", "role", "scope", "query"}

// scope says how a selector-bound operator is held to its devices.
type scope int

const (
	open     scope = iota // no operator needed
	anyone                // nothing of devices in it
	byDevice              // {id} in the path is a device
	byRecord              // {id} is a command, which belongs to a device
	filtered              // a list, from which the handler leaves out what the operator may not see
	whole                 // about the whole hub: an operator bound to part of the fleet may not
)

// endpoint is one call. The gate does for all of them what must not be forgotten in one.
type endpoint struct {
	name         string // operationId of the OpenAPI document
	method, path string
	need         Role
	scope        scope
	change       string   // action in the audit log; empty for reads
	query        []string // parameters it knows; others are refused
	handle       func(*call) (*reply, error)
}

// call is one request on its way.
type call struct {
	*http.Request
	w        http.ResponseWriter
	patience context.Context // of the caller, without requestTimeout
	who      *identity
	endpoint *endpoint
	audit    Record
	recorded bool
	waited   time.Duration // for a command to end
}

// reply is a good answer.
type reply struct {
	status int
	header http.Header
	body   any  // nil: none
	taken  bool // the connection was upgraded
}

func ok(body any) *reply { return &reply{status: http.StatusOK, body: body} }

// target is what a path names.
func target(r *http.Request) string {
	if m := r.PathValue("measurement"); m != "" {
		return m + "." + r.PathValue("field")
	}
	return cmp.Or(r.PathValue("device"), r.PathValue("id")+r.PathValue("name"))
}

// serve is the way of every request.
func (a *API) serve(e *endpoint, w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &call{Request: r, w: w, endpoint: e, patience: r.Context()}
	c.audit = Record{Action: e.change, Remote: a.opts.Remote(r), Target: target(r)}
	rep, err := a.pass(c)
	if err == nil && rep.taken {
		return
	}
	status := 0
	if err == nil {
		status = rep.status
	}
	if err2 := a.recordOutcome(c, status, err); err2 != nil {
		rep, err = nil, err2
	}
	if err != nil {
		status = a.refuse(c, err)
	} else {
		a.answer(w, rep)
	}
	a.metrics.answered(e.name, status, time.Since(start)-c.waited)
}

// pass checks the request and runs its handler.
func (a *API) pass(c *call) (*reply, error) {
	select {
	case a.inFlight <- struct{}{}:
		defer func() { <-a.inFlight }()
	default:
		return nil, a.refused("overloaded", ErrOverloaded)
	}
	if err := a.cross.Check(c.Request); err != nil {
		return nil, a.refused("cross_origin", errCrossOrigin)
	}
	ctx, cancel := context.WithTimeout(c.Context(), requestTimeout)
	defer cancel()
	c.Request = c.WithContext(ctx)
	c.Body = http.MaxBytesReader(c.w, c.Body, maxBody)
	if err := a.admit(c); err != nil {
		return nil, err
	}
	return c.endpoint.handle(c)
}

// admit decides whether the caller may make this call: who is it, does the change come from its own page, its role, its
// devices.
func (a *API) admit(c *call) error {
	e := c.endpoint
	if e.scope != open {
		who, err := a.identify(c.Request)
		if err != nil {
			return a.refused("unauthenticated", err)
		}
		c.who, c.audit.Actor = who, who.name
		c.audit.Session = who.session[:min(len(who.session), 12)]
		if e.method != http.MethodGet {
			if err := who.checkCSRF(c.Request); err != nil {
				return a.refused("csrf", err)
			}
		}
		if !who.role.may(e.need) {
			return a.refused("role", problem.New(http.StatusForbidden, "role_too_low",
				"this needs the role "+string(e.need)+", "+who.name+" is "+string(who.role)).
				WithHint("ask an admin, or use a token of an operator who may"))
		}
		if err := a.checkScope(c); err != nil {
			return a.refused("scope", err)
		}
	}
	return a.refused("query", checkQuery(c.URL, e.query))
}

func (a *API) refused(reason string, err error) error {
	if err != nil {
		a.metrics.refused.WithLabelValues(reason).Inc()
	}
	return err
}

// checkScope holds an operator to its devices. One that it may not see does not exist for it.
func (a *API) checkScope(c *call) error {
	switch c.endpoint.scope {
	case byDevice:
		if wire.CheckID(c.PathValue("id")) != nil || !a.visible(c.who, c.PathValue("id")) {
			return ErrDeviceNotFound
		}
	case byRecord:
		if !c.who.bounded() {
			return nil
		}
		cmd, err := a.opts.Commands.Find(c.Context(), c.PathValue("id"))
		if err != nil {
			return err
		}
		if !a.visible(c.who, cmd.Device) {
			return ErrCommandNotFound
		}
	case whole:
		if c.who.bounded() {
			return problem.New(http.StatusForbidden, "out_of_scope",
				"this is about the whole hub, and "+c.who.name+" is bound to part of the fleet").
				WithHint("use a token that is bound to no selector")
		}
	}
	return nil
}

// visible reports whether who may see a device. An operator bound to nothing sees even what is not there, so that the
// handler can say so.
func (a *API) visible(who *identity, device string) bool {
	if !who.bounded() {
		return true
	}
	labels, known := a.opts.Devices.Labels(device)
	return known && who.sees(labels)
}

// visibleTo is visible as the filter of a list; nil for those who see all.
func (a *API) visibleTo(who *identity) func(device string) bool {
	if !who.bounded() {
		return nil
	}
	return func(device string) bool { return a.visible(who, device) }
}

// checkQuery refuses parameters that the call does not know: a misspelt filter must not return everything.
func checkQuery(u *url.URL, known []string) error {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return &Invalid{Code: "invalid_query", Detail: "the query string cannot be read: " + err.Error()}
	}
	for name, v := range values {
		if !slices.Contains(known, name) {
			hint := "this call has no parameters"
			if len(known) > 0 {
				hint = "known here: " + strings.Join(known, ", ")
			}
			return &Invalid{Code: "unknown_parameter", Path: name, Detail: name + " is not a parameter of this call", Hint: hint}
		}
		if len(v) > 1 {
			return &Invalid{Code: "duplicate_parameter", Path: name, Detail: name + " is there twice"}
		}
	}
	return nil
}

// body reads the request's JSON into v, a pointer to a struct.
func (c *call) body(v any) error {
	limits := http.NewResponseController(c.w)
	// Not supported only by writers that are no socket. The deadline ends with the body: it would cancel a long wait.
	_ = limits.SetReadDeadline(time.Now().Add(bodyTimeout))
	data, err := io.ReadAll(c.Body)
	if err != nil {
		return bodyError(err)
	}
	_ = limits.SetReadDeadline(time.Time{})
	if len(data) == 0 {
		return errNoBody
	}
	if t := c.Header.Get("Content-Type"); t != "" && !isJSON(t) {
		return &Invalid{Code: "unsupported_media_type", Detail: "the body is " + strconv.Quote(t) + ", want application/json", Status: http.StatusUnsupportedMediaType}
	}
	return decodeStrict(data, v)
}

// optionalBody is body for calls that can do without one.
func (c *call) optionalBody(v any) error {
	if err := c.body(v); !errors.Is(err, errNoBody) {
		return err
	}
	return nil
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

func bodyError(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return problem.New(http.StatusRequestEntityTooLarge, "body_too_large",
			"the body has more than "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes")
	}
	return &Invalid{Code: "invalid_body", Detail: "the body could not be read: " + err.Error()}
}

// record writes rec into the audit log.
func (a *API) record(ctx context.Context, rec Record) error {
	if err := a.audit.append(ctx, rec); err != nil {
		a.metrics.auditErrors.Inc()
		a.opts.Log.Error("audit record not written", "action", rec.Action, "actor", rec.Actor, "err", err)
		return ErrAuditUnavailable
	}
	return nil
}

// Audit records what the hub itself noticed or did. It returns once the record is on disk.
func (a *API) Audit(ctx context.Context, rec Record) error { return a.record(ctx, rec) }

// recordOutcome puts a change and what became of it into the audit log, before it is answered. Refused changes of
// callers whom the hub does not know are bounded, so that nobody can fill the log.
func (a *API) recordOutcome(c *call, status int, err error) error {
	if c.endpoint.change == "" || c.recorded {
		return nil
	}
	rec := c.audit
	rec.Outcome, rec.Status = outcomeOK, status
	if err != nil {
		doc, _ := toProblem(err)
		rec.Outcome, rec.Status = doc.Code, doc.Status
	}
	c.recorded = true
	return a.recordBounded(c.Context(), rec)
}

// recordBounded is record for callers who may be strangers.
func (a *API) recordBounded(ctx context.Context, rec Record) error {
	if rec.Actor == "" || rec.Action == enrollAction && rec.Outcome != outcomeOK {
		if !a.strangers.take() {
			a.metrics.unrecorded.Inc()
			return nil
		}
	}
	rec.Actor = cmp.Or(rec.Actor, stranger)
	return a.record(ctx, rec)
}

const (
	enrollAction = "device.enroll"
	stranger     = "unknown" // the actor of who was not let in
	outcomeOK    = "ok"
)

// RecordEnroll puts what a device did with an enrollment into the audit log. Of refused tries only so many are kept as of
// other strangers': a device repeats them by itself.
func (a *API) RecordEnroll(ctx context.Context, rec Record) error {
	rec.Action = enrollAction
	return a.recordBounded(ctx, rec)
}

// recordNow puts the change into the audit log while its handler goes on.
func (a *API) recordNow(c *call, status int) error {
	return a.recordOutcome(c, status, nil)
}

func (a *API) answer(w http.ResponseWriter, rep *reply) {
	for key, values := range rep.header {
		w.Header()[key] = values
	}
	w.Header().Set("Cache-Control", "no-store")
	if rep.body == nil {
		w.WriteHeader(rep.status)
		return
	}
	data, err := json.Marshal(rep.body)
	if err != nil {
		a.opts.Log.Error("answer not encoded", "err", err)
		problem.New(http.StatusInternalServerError, "internal", "the answer could not be encoded").Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	limits := http.NewResponseController(w)
	_ = limits.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(rep.status)
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(append(data, '\n'))
	_ = limits.Flush()
	_ = limits.SetWriteDeadline(time.Time{})
}

func (a *API) refuse(c *call, err error) (status int) {
	doc, known := toProblem(err)
	if !known {
		a.opts.Log.Error("request not served", "call", c.endpoint.name, "err", err)
	}
	switch doc.Status {
	case http.StatusUnauthorized:
		c.w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		c.w.Header().Set("Retry-After", retryAfter)
	}
	if errors.Is(err, ErrDeviceNotFound) && strings.HasPrefix(c.endpoint.path, "/devices/") {
		doc.Detail += ": " + strconv.Quote(clip(c.PathValue("id")))
	}
	doc.Time = a.opts.Now().UnixMilli()
	doc.Write(c.w)
	return doc.Status
}

// allowance is a rate with a small burst.
type allowance struct {
	limit *rate.Limiter
	now   func() time.Time
}

func newAllowance(perSecond float64, now func() time.Time) *allowance {
	return &allowance{limit: rate.NewLimiter(rate.Limit(perSecond), int(4*perSecond)), now: now}
}

func (l *allowance) take() bool { return l.limit.AllowN(l.now(), 1) }
