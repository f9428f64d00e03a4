package api

import (
	"net/http"
	"strings"
)

const root = "/api/v1"

// routes lists every call. A test holds it against the OpenAPI document.
func (a *API) routes() []endpoint {
	list := []string{"cursor", "limit"}
	with := func(more ...string) []string { return append(more, list...) }
	es := []endpoint{
		{name: "signIn", method: "POST", path: "/session", scope: open, change: "session.create", handle: a.postSession},
		{name: "readSession", method: "GET", path: "/session", need: Viewer, scope: anyone, handle: a.getSession},
		{name: "signOut", method: "DELETE", path: "/session", need: Viewer, scope: anyone, change: "session.delete", handle: a.deleteSession},

		{name: "listDevices", method: "GET", path: "/devices", need: Viewer, scope: filtered, query: with("selector", "status", "silent", "q"), handle: a.getDevices},
		{name: "createDevice", method: "POST", path: "/devices", need: Admin, scope: filtered, change: "device.create", handle: a.postDevice},
		{name: "readDevice", method: "GET", path: "/devices/{id}", need: Viewer, scope: byDevice, handle: a.getDevice},
		{name: "changeDevice", method: "PATCH", path: "/devices/{id}", need: Admin, scope: byDevice, change: "device.change", handle: a.patchDevice},
		{name: "deleteDevice", method: "DELETE", path: "/devices/{id}", need: Admin, scope: byDevice, change: "device.delete", handle: a.deleteDevice},
		{name: "mintDeviceToken", method: "POST", path: "/devices/{id}/tokens", need: Admin, scope: byDevice, change: "device.token.mint", handle: a.postDeviceToken},
		{name: "revokeDeviceTokens", method: "DELETE", path: "/devices/{id}/tokens", need: Admin, scope: byDevice, change: "device.token.revoke", handle: a.deleteDeviceTokens},
		{name: "addDeviceKey", method: "POST", path: "/devices/{id}/keys", need: Admin, scope: byDevice, change: "device.key.add", handle: a.postDeviceKey},
		{name: "removeDeviceKey", method: "DELETE", path: "/devices/{id}/keys/{kid}", need: Admin, scope: byDevice, change: "device.key.remove", handle: a.deleteDeviceKey},

		{name: "createCommand", method: "POST", path: "/devices/{id}/commands", need: User, scope: byDevice, change: "command.create", query: []string{"wait"}, handle: a.postCommand},
		{name: "listCommands", method: "GET", path: "/commands", need: Viewer, scope: filtered, query: with("device", "state", "actor", "awaiting_approval"), handle: a.getCommands},
		{name: "readCommand", method: "GET", path: "/commands/{id}", need: Viewer, scope: byRecord, query: []string{"wait"}, handle: a.getCommand},
		{name: "cancelCommand", method: "DELETE", path: "/commands/{id}", need: User, scope: byRecord, change: "command.cancel", handle: a.deleteCommand},

		{name: "listOperators", method: "GET", path: "/operators", need: Admin, scope: whole, handle: a.getOperators},
		{name: "createOperator", method: "POST", path: "/operators", need: Admin, scope: whole, change: "operator.create", handle: a.postOperator},
		{name: "changeOperator", method: "PATCH", path: "/operators/{name}", need: Admin, scope: whole, change: "operator.change", handle: a.patchOperator},
		{name: "deleteOperator", method: "DELETE", path: "/operators/{name}", need: Admin, scope: whole, change: "operator.delete", handle: a.deleteOperator},
		{name: "mintOperatorToken", method: "POST", path: "/operators/{name}/tokens", need: Admin, scope: whole, change: "operator.token.mint", handle: a.postOperatorToken},
		{name: "revokeOperatorTokens", method: "DELETE", path: "/operators/{name}/tokens", need: Admin, scope: whole, change: "operator.token.revoke", handle: a.deleteOperatorTokens},
		{name: "makeSignInLink", method: "POST", path: "/operators/{name}/link", need: Admin, scope: whole, change: "operator.link", handle: a.postOperatorLink},

		{name: "listAudit", method: "GET", path: "/audit", need: Admin, scope: whole, query: list, handle: a.getAudit},
		{name: "verifyAudit", method: "GET", path: "/audit/verify", need: Admin, scope: whole, handle: a.getAuditVerify},
		{name: "live", method: "GET", path: "/live", need: Viewer, scope: filtered, handle: a.live.open},
	}
	return append(es, a.optionalRoutes(with)...)
}

// optionalRoutes are the calls of parts that a hub may lack.
func (a *API) optionalRoutes(with func(...string) []string) []endpoint {
	var es []endpoint
	if a.opts.History != nil {
		es = append(es, endpoint{
			name: "readTelemetry", method: "GET", path: "/devices/{id}/telemetry", need: Viewer, scope: byDevice,
			query: []string{"measurement", "fields", "from", "to", "every", "fn"}, handle: a.getTelemetry,
		})
	}
	if a.opts.Twin != nil {
		es = append(es,
			endpoint{name: "readState", method: "GET", path: "/devices/{id}/state", need: Viewer, scope: byDevice, handle: a.getState},
			endpoint{name: "changeDesiredState", method: "PATCH", path: "/devices/{id}/state/desired", need: User, scope: byDevice, change: "state.desired", handle: a.patchDesired})
	}
	if a.opts.Leases != nil {
		es = append(es,
			endpoint{name: "readLease", method: "GET", path: "/devices/{id}/lease", need: Viewer, scope: byDevice, handle: a.getLease},
			endpoint{name: "takeLease", method: "POST", path: "/devices/{id}/lease", need: User, scope: byDevice, change: "device.lease.take", handle: a.postLease},
			endpoint{name: "releaseLease", method: "DELETE", path: "/devices/{id}/lease", need: User, scope: byDevice, change: "device.lease.release", handle: a.deleteLease})
	}
	if a.opts.Approver != nil {
		es = append(es, endpoint{name: "approveCommand", method: "POST", path: "/commands/{id}/approve", need: User, scope: byRecord, change: "command.approve", handle: a.postApproval})
	}
	if a.opts.Jobs != nil {
		es = append(es, a.jobRoutes(with)...)
	}
	if a.opts.Trace != nil {
		es = append(es, endpoint{name: "traceDevice", method: "GET", path: "/devices/{id}/trace", need: Viewer, scope: byDevice, query: []string{"limit"}, handle: a.getTrace})
	}
	if a.opts.Deadletters != nil {
		es = append(es,
			endpoint{name: "listDeadletters", method: "GET", path: "/deadletters", need: Viewer, scope: filtered, query: with("device"), handle: a.getDeadletters},
			endpoint{name: "replayDeadletters", method: "POST", path: "/deadletters/replay", need: Admin, scope: whole, change: "deadletters.replay", handle: a.postReplay})
	}
	if a.opts.Types != nil {
		es = append(es,
			endpoint{name: "listTypes", method: "GET", path: "/types", need: Viewer, scope: whole, query: with("measurement"), handle: a.getTypes},
			endpoint{name: "readType", method: "GET", path: "/types/{measurement}/{field}", need: Viewer, scope: whole, handle: a.getType},
			endpoint{name: "setType", method: "PATCH", path: "/types/{measurement}/{field}", need: Admin, scope: whole, change: "type.set", handle: a.patchType},
			endpoint{name: "forgetType", method: "DELETE", path: "/types/{measurement}/{field}", need: Admin, scope: whole, change: "type.forget", query: []string{"force"}, handle: a.deleteType})
	}
	es = append(es, a.identityRoutes(with)...)
	if a.opts.Bridge != nil {
		es = append(es, endpoint{name: "readBridge", method: "GET", path: "/bridge", need: Viewer, scope: whole, handle: a.getBridge})
	}
	if a.opts.Nodes != nil {
		es = append(es, endpoint{name: "listNodes", method: "GET", path: "/nodes", need: Viewer, scope: whole, handle: a.getNodes})
	}
	return es
}

// identityRoutes are the calls about who devices are, but for their records.
func (a *API) identityRoutes(with func(...string) []string) (es []endpoint) {
	if a.opts.Enrollments != nil {
		es = append(es,
			endpoint{name: "createEnrollment", method: "POST", path: "/enrollments", need: Admin, scope: whole, change: "enrollment.create", handle: a.postEnrollment},
			endpoint{name: "listEnrollments", method: "GET", path: "/enrollments", need: Admin, scope: whole, handle: a.getEnrollments},
			endpoint{name: "deleteEnrollment", method: "DELETE", path: "/enrollments/{id}", need: Admin, scope: whole, change: "enrollment.delete", handle: a.deleteEnrollment},
			endpoint{name: "listPendingDevices", method: "GET", path: "/enrollments/pending", need: Admin, scope: whole, query: with(), handle: a.getPending},
			endpoint{name: "approveDevice", method: "POST", path: "/enrollments/{id}/devices/{device}/approve", need: Admin, scope: whole, change: "device.approve", handle: a.postDeviceApproval})
	}
	if a.opts.Transfer != nil {
		es = append(es,
			endpoint{name: "exportDevices", method: "GET", path: "/export/devices", need: Admin, scope: filtered, query: []string{"selector", "q"}, handle: a.getExport},
			endpoint{name: "importDevices", method: "POST", path: "/import/devices", need: Admin, scope: filtered, change: "device.import", handle: a.postImport})
	}
	if a.opts.DeviceKeys != nil {
		es = append(es,
			endpoint{name: "listHubKeys", method: "GET", path: "/keys", need: Admin, scope: whole, handle: a.getHubKeys},
			endpoint{name: "rotateHubKey", method: "POST", path: "/keys", need: Admin, scope: whole, change: "key.rotate", handle: a.postHubKey},
			endpoint{name: "removeHubKey", method: "DELETE", path: "/keys/{kid}", need: Admin, scope: whole, change: "key.remove", handle: a.deleteHubKey})
	}
	return es
}

func (a *API) jobRoutes(with func(...string) []string) []endpoint {
	es := []endpoint{
		{name: "createJob", method: "POST", path: "/jobs", need: jobRole, scope: filtered, change: "job.create", handle: a.postJob},
		{name: "listJobs", method: "GET", path: "/jobs", need: Viewer, scope: filtered, query: with(), handle: a.getJobs},
		{name: "readJob", method: "GET", path: "/jobs/{id}", need: Viewer, scope: filtered, handle: a.getJob},
		{name: "listJobDevices", method: "GET", path: "/jobs/{id}/devices", need: Viewer, scope: filtered, query: with("state"), handle: a.getJobDevices},
	}
	for _, action := range []string{"pause", "resume", "cancel", "approve"} {
		es = append(es, endpoint{
			name: action + "Job", method: "POST", path: "/jobs/{id}/" + action, need: jobRole, scope: filtered, change: "job." + action, handle: a.steerJob(action),
		})
	}
	return es
}

// Handler serves everything under /api/.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for i := range a.endpoints {
		e := &a.endpoints[i]
		mux.HandleFunc(e.method+" "+root+e.path, func(w http.ResponseWriter, r *http.Request) { a.serve(e, w, r) })
	}
	mux.HandleFunc("GET /api/openapi.json", a.getDocument)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) { a.noRoute(mux, w, r) })
	return SecurityHeaders(mux)
}

// noRoute tells an unknown path from a known one with another method.
func (a *API) noRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := mux.Handler(probe); pattern != "" && pattern != "/api/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		doc, _ := toProblem(errNoRoute)
		doc.Write(w)
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	doc, _ := toProblem(&Invalid{
		Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
		Detail: r.Method + " is not a method of this resource", Hint: "allowed: " + strings.Join(allowed, ", "),
	})
	doc.Write(w)
}

// contentSecurityPolicy lets pages load and call only what comes from the hub itself, and no script that is in a page:
// a device's name must never become one.
const contentSecurityPolicy = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// SecurityHeaders sets the headers that every answer of the API and every file of the console has.
func SecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}
