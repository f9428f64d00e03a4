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

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// The bounds of a request.
const (
	maxBody        = 256 << 10
	bodyTimeout    = 10 * time.Second
	requestTimeout = 30 * time.Second
	writeTimeout   = 30 * time.Second
	maxWait        = 300 * time.Second

	retryAfter = "2" // seconds, with 429 and 503
)

// refusals are the reasons of fairlead_api_refused_total. Those of places are the codes that the callers are told.
var refusals = []string{
	"overloaded", "too_many_requests", "too_many_strangers", "too_many_of_address", "waits_overloaded", "too_many_waits",
	"too_many_viewers", "too_many_live_views", "cross_origin", "unauthenticated", "csrf", "role", "scope", "query",
}

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
	handled  bool          // by its handler, as far as that came
	slot     place         // until it is answered, or waits
	wait     time.Duration // it may, for a command to end
	waiting  place         // of a request that may wait, until it is answered
	waited   time.Duration
}

// leave gives back what the call holds.
func (c *call) leave() {
	c.slot.leave()
	c.waiting.leave()
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
	defer c.leave()
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
		c.leave() // who does not read its refusal holds no place
		status = a.refuse(c, err)
	} else {
		a.answer(w, rep)
	}
	a.metrics.answered(e.name, status, time.Since(start)-c.waited)
}

// pass checks the request and runs its handler.
func (a *API) pass(c *call) (*reply, error) {
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
	c.handled = true
	return c.endpoint.handle(c)
}

// admit decides whether the caller may make this call: who is it, is there a place for it, does the change come from its
// own page, its role, its devices. Who is not known takes no operator's place.
func (a *API) admit(c *call) error {
	e := c.endpoint
	if e.scope == open {
		if err := a.enter(&c.slot, a.strangers, network(c.audit.Remote)); err != nil {
			return err
		}
		return a.refused("query", checkQuery(c.URL, e.query))
	}
	who, err := a.identify(c)
	if err != nil {
		return err
	}
	c.who, c.audit.Actor = who, who.name
	c.audit.Session = who.session[:min(len(who.session), 12)]
	if err := a.enter(&c.slot, a.requests, who.name); err != nil {
		return err
	}
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
	if err := a.refused("query", checkQuery(c.URL, e.query)); err != nil {
		return err
	}
	return a.mayWait(c)
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
