package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// sample is a request that every call of the API takes, by operation.
type sample struct {
	path string
	body any
	code int // of the lowest role that may
}

var samples = map[string]sample{
	"readSession":          {"/session", nil, 200},
	"signOut":              {"/session", nil, 400}, // came with a token: there is no session
	"listDevices":          {"/devices", nil, 200},
	"createDevice":         {"/devices", map[string]any{"id": "new-1", "labels": map[string]string{"site": "plant-7"}}, 201},
	"readDevice":           {"/devices/pump-7", nil, 200},
	"changeDevice":         {"/devices/pump-7", map[string]any{"disabled": false}, 200},
	"deleteDevice":         {"/devices/plug-1", nil, 204},
	"mintDeviceToken":      {"/devices/pump-7/tokens", map[string]any{"ttl": "1h"}, 201},
	"revokeDeviceTokens":   {"/devices/pump-7/tokens", nil, 204},
	"addDeviceKey":         {"/devices/pump-7/keys", map[string]any{"kid": "k2", "public_key": "-----BEGIN PUBLIC KEY-----"}, 201},
	"removeDeviceKey":      {"/devices/pump-7/keys/k1", nil, 204},
	"createCommand":        {"/devices/pump-7/commands", map[string]any{"name": "start"}, 202},
	"listCommands":         {"/commands", nil, 200},
	"readCommand":          {"/commands/c1", nil, 200},
	"cancelCommand":        {"/commands/c1", nil, 202},
	"approveCommand":       {"/commands/c1/approve", nil, 200},
	"readLease":            {"/devices/pump-7/lease", nil, 200},
	"takeLease":            {"/devices/pump-7/lease", nil, 200},
	"releaseLease":         {"/devices/pump-7/lease", nil, 204},
	"createJob":            {"/jobs", map[string]any{"selector": "site=plant-7", "command": map[string]any{"name": "start"}}, 201},
	"listJobs":             {"/jobs", nil, 200},
	"readJob":              {"/jobs/j1", nil, 200},
	"listJobDevices":       {"/jobs/j1/devices", nil, 200},
	"pauseJob":             {"/jobs/j1/pause", nil, 200},
	"resumeJob":            {"/jobs/j1/resume", nil, 200},
	"cancelJob":            {"/jobs/j1/cancel", nil, 200},
	"approveJob":           {"/jobs/j1/approve", nil, 200},
	"listOperators":        {"/operators", nil, 200},
	"createOperator":       {"/operators", map[string]any{"name": "new", "role": "viewer"}, 201},
	"changeOperator":       {"/operators/other", map[string]any{"role": "viewer"}, 200},
	"deleteOperator":       {"/operators/other2", nil, 204},
	"mintOperatorToken":    {"/operators/other/tokens", nil, 201},
	"revokeOperatorTokens": {"/operators/other/tokens", nil, 204},
	"makeSignInLink":       {"/operators/other/link", nil, 201},
	"listAudit":            {"/audit", nil, 200},
	"verifyAudit":          {"/audit/verify", nil, 200},
	"live":                 {"/live", nil, 400}, // not a WebSocket
	"createEnrollment":     {"/enrollments", map[string]any{"max_devices": 5, "ttl": "1h"}, 201},
	"listEnrollments":      {"/enrollments", nil, 200},
	"deleteEnrollment":     {"/enrollments/e1", nil, 204},
	"listPendingDevices":   {"/enrollments/pending", nil, 200},
	"approveDevice":        {"/enrollments/e1/devices/pump-7/approve", nil, 200},
	"exportDevices":        {"/export/devices", nil, 200},
	"importDevices":        {"/import/devices", `{"id":"new-2","labels":{"site":"plant-7"}}`, 200},
	"listHubKeys":          {"/keys", nil, 200},
	"rotateHubKey":         {"/keys", nil, 201},
	"removeHubKey":         {"/keys/hub-old", nil, 204},
	"readTelemetry":        {"/devices/pump-7/telemetry", nil, 200},
	"readState":            {"/devices/pump-7/state", nil, 200},
	"changeDesiredState":   {"/devices/pump-7/state/desired", map[string]any{"a": 2}, 200},
	"traceDevice":          {"/devices/pump-7/trace", nil, 200},
	"listDeadletters":      {"/deadletters", nil, 200},
	"replayDeadletters":    {"/deadletters/replay", nil, 200},
	"listTypes":            {"/types", nil, 200},
	"readType":             {"/types/env/temp", nil, 200},
	"setType":              {"/types/env/temp", map[string]any{"type": "integer"}, 200},
	"forgetType":           {"/types/env/temp", nil, 204},
	"readBridge":           {"/bridge", nil, 200},
	"listNodes":            {"/nodes", nil, 200},
}

// who may call what, written down a second time: v viewer, o operator, a admin; w: not when bound to a selector; m: then
// only what one made oneself.
var may = map[string]string{
	"readSession": "voa", "signOut": "voa", "listDevices": "voa", "createDevice": "a", "readDevice": "voa", "changeDevice": "a",
	"deleteDevice": "a", "mintDeviceToken": "a", "revokeDeviceTokens": "a", "addDeviceKey": "a", "removeDeviceKey": "a",
	"createCommand": "oa", "listCommands": "voa", "readCommand": "voa", "cancelCommand": "oa",
	"approveCommand": "oa", "readLease": "voa", "takeLease": "oa", "releaseLease": "oa",
	"createJob": "a", "listJobs": "voa", "readJob": "voam", "listJobDevices": "voam", "pauseJob": "am", "resumeJob": "am", "cancelJob": "am", "approveJob": "am",
	"listOperators": "aw", "createOperator": "aw", "changeOperator": "aw", "deleteOperator": "aw", "mintOperatorToken": "aw",
	"revokeOperatorTokens": "aw", "makeSignInLink": "aw", "listAudit": "aw", "verifyAudit": "aw",
	"createEnrollment": "aw", "listEnrollments": "aw", "deleteEnrollment": "aw", "listPendingDevices": "aw", "approveDevice": "aw",
	"exportDevices": "a", "importDevices": "a", "listHubKeys": "aw", "rotateHubKey": "aw", "removeHubKey": "aw",
	"live": "voa", "readTelemetry": "voa", "readState": "voa", "changeDesiredState": "oa", "traceDevice": "voa",
	"listDeadletters": "voa", "replayDeadletters": "aw", "listTypes": "voaw", "readType": "voaw", "setType": "aw", "forgetType": "aw", "readBridge": "voaw", "listNodes": "voaw",
}

func TestEveryRoleOnEveryCall(t *testing.T) {
	t.Parallel()
	cells := 0
	for _, role := range []string{"nobody", "viewer", "operator", "admin", "bound viewer", "bound operator", "bound admin", "elsewhere admin"} {
		h := start(t)
		h.operator("other", api.Viewer, "")
		h.operator("other2", api.Viewer, "")
		token := ""
		kind, name, _ := strings.Cut(role, " ")
		if name == "" {
			kind, name = "", kind
		}
		switch kind {
		case "bound":
			token = h.operator("me", api.Role(name), "site=plant-7")
		case "elsewhere":
			token = h.operator("me", api.Role(name), "site=plant-9")
		default:
			if name != "nobody" {
				token = h.operator("me", api.Role(name), "")
			}
		}
		h.call(h.admin(), "POST", "/api/v1/devices/pump-7/commands", map[string]any{"name": "start"}).want(202)
		h.shared.leases["pump-7"] = api.Lease{Device: "pump-7", Holder: "me"}
		for _, r := range h.api.Routes() {
			if r.Open {
				continue
			}
			s, ok := samples[r.Name]
			if !ok || may[r.Name] == "" {
				t.Errorf("%s has no sample: every call must be in this test", r.Name)
				continue
			}
			cells++
			got := h.call(token, r.Method, "/api/v1"+s.path, s.body)
			allowed := strings.Contains(may[r.Name], name[:1])
			whole := strings.Contains(may[r.Name], "w")
			onDevice := !whole && strings.Contains(s.path, "pump-7") || strings.Contains(s.path, "plug-1") || strings.Contains(s.path, "/commands/c1")
			want := s.code
			switch {
			case name == "nobody":
				want = http.StatusUnauthorized
			case !allowed || whole && kind != "" || r.Name == "createDevice" && kind == "elsewhere":
				want = http.StatusForbidden
			case kind == "elsewhere" && onDevice, kind != "" && strings.Contains(may[r.Name], "m"):
				want = http.StatusNotFound
			}
			if got.status != want {
				t.Errorf("%s, %s: %d, want %d: %s", role, r.Name, got.status, want, got.raw)
			}
		}
	}
	t.Logf("cells=%d", cells)
}

func TestBoundOperatorSeesOnlyItsDevices(t *testing.T) {
	h := start(t)
	token := h.operator("plant", api.Admin, "site=plant-7")
	for path, want := range map[string]string{
		"/devices": "plug-1 pump-7", "/devices?selector=site%3Dplant-8": "", "/devices?status=online": "pump-7",
	} {
		var list struct{ Devices []api.Device }
		h.call(token, "GET", "/api/v1"+path, nil).want(200).into(&list)
		var ids []string
		for _, d := range list.Devices {
			ids = append(ids, d.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	h.call(token, "GET", "/api/v1/devices/pump-8", nil).refused(404, "device_not_found")
	h.call(token, "POST", "/api/v1/devices/pump-8/commands", map[string]any{"name": "start"}).refused(404, "device_not_found")
	h.call(h.admin(), "POST", "/api/v1/devices/pump-8/commands", map[string]any{"name": "start"}).want(202)
	h.call(token, "GET", "/api/v1/commands/c1", nil).refused(404, "command_not_found")
	h.call(token, "DELETE", "/api/v1/commands/c1", nil).refused(404, "command_not_found")
	var commands struct{ Commands []api.Command }
	h.call(token, "GET", "/api/v1/commands", nil).want(200).into(&commands)
	if len(commands.Commands) != 0 {
		t.Errorf("sees commands of another plant: %v", commands.Commands)
	}
	var letters struct{ Deadletters []api.Deadletter }
	h.call(token, "GET", "/api/v1/deadletters", nil).want(200).into(&letters)
	if len(letters.Deadletters) != 1 {
		t.Errorf("%d dead letters, want its one", len(letters.Deadletters))
	}
	// It can neither make nor move a device out of its own sight.
	h.call(token, "POST", "/api/v1/devices", map[string]any{"id": "x"}).refused(403, "out_of_scope")
	h.call(token, "PATCH", "/api/v1/devices/pump-7", map[string]any{"labels": map[string]any{"site": nil}}).refused(403, "out_of_scope")
	h.call(token, "PATCH", "/api/v1/devices/pump-7", map[string]any{"labels": map[string]any{"line": "3"}}).want(200)
	// A token narrower than its operator.
	var minted struct{ Token string }
	h.call(h.admin(), "POST", "/api/v1/operators/plant/tokens", map[string]any{"selector": "line=3"}).want(201).into(&minted)
	h.call(minted.Token, "GET", "/api/v1/devices/pump-7", nil).want(200)
	h.call(minted.Token, "GET", "/api/v1/devices/plug-1", nil).refused(404, "device_not_found")
}
