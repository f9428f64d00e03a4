package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func TestBadBodies(t *testing.T) {
	t.Parallel()
	h := start(t)
	admin := h.admin()
	for name, c := range map[string]struct {
		method, path, body string
		code, where        string
		status             int
	}{
		"unknown key":         {"POST", "/devices", `{"id":"a","lables":{}}`, "unknown_field", "lables", 400},
		"unknown nested key":  {"POST", "/devices", `{"id":"a","keys":[{"kid":"k","pem":"x"}]}`, "unknown_field", "keys[0].pem", 400},
		"key in another case": {"POST", "/devices", `{"ID":"a"}`, "unknown_field", "ID", 400},
		"key twice":           {"POST", "/devices", `{"id":"a","id":"b"}`, "duplicate_field", "id", 400},
		"label twice":         {"POST", "/devices", `{"id":"a","labels":{"x":"1","x":"2"}}`, "duplicate_field", "labels.x", 400},
		"wrong type":          {"POST", "/devices", `{"id":1}`, "invalid_type", "id", 400},
		"array":               {"POST", "/devices", `[]`, "invalid_type", "", 400},
		"not JSON":            {"POST", "/devices", `{"id":`, "invalid_json", "", 400},
		"empty":               {"POST", "/devices", ``, "invalid_json", "", 400},
		"params no UTF-8":     {"POST", "/devices/pump-7/commands", "{\"name\":\"x\",\"params\":{\"a\":\"\xff\"}}", "invalid_json", "", 400},
		"label no UTF-8":      {"POST", "/devices", "{\"id\":\"a\",\"labels\":{\"x\":\"\xff\"}}", "invalid_json", "", 400},
		"two values":          {"POST", "/devices", `{"id":"a"}{}`, "invalid_json", "", 400},
		"too deep":            {"POST", "/devices/pump-7/commands", `{"name":"x","params":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 101), "invalid_json", "", 400},
		"bad id":              {"POST", "/devices", `{"id":"a.b"}`, "invalid_id", "id", 400},
		"bad label":           {"POST", "/devices", `{"id":"a","labels":{"a b":"1"}}`, "invalid_label", "labels.a b", 400},
		"bad label value":     {"POST", "/devices", `{"id":"a","labels":{"a":"1\n2"}}`, "invalid_label", "labels.a", 400},
		"key without kid":     {"POST", "/devices", `{"id":"a","keys":[{"public_key":"x"}]}`, "invalid_key", "keys[0].kid", 400},
		"key with both":       {"POST", "/devices/pump-7/keys", `{"kid":"a","public_key":"x","jwk":{}}`, "invalid_key", "public_key", 400},
		"device exists":       {"POST", "/devices", `{"id":"pump-7"}`, "device_exists", "id", 409},
		"key not there":       {"DELETE", "/devices/pump-7/keys/k9", ``, "key_not_found", "", 404},
		"device not there":    {"GET", "/devices/none", ``, "device_not_found", "", 404},
		"id that none has":    {"GET", "/devices/a%2Fb", ``, "device_not_found", "", 404},
		"wild id":             {"GET", "/devices/*", ``, "device_not_found", "", 404},
		"ttl":                 {"POST", "/devices/pump-7/tokens", `{"ttl":"soon"}`, "invalid_duration", "ttl", 400},
		"ttl negative":        {"POST", "/devices/pump-7/tokens", `{"ttl":"-1h"}`, "invalid_ttl", "ttl", 400},
		"operator ttl":        {"POST", "/operators", `{"name":"x","role":"viewer","ttl":"9999d"}`, "invalid_ttl", "ttl", 400},
		"operator role":       {"POST", "/operators", `{"name":"x","role":"root"}`, "invalid_role", "role", 400},
		"operator name":       {"POST", "/operators", `{"name":"../x","role":"viewer"}`, "invalid_name", "name", 400},
		"operator selector":   {"POST", "/operators", `{"name":"x","role":"viewer","selector":"=x"}`, "invalid_selector", "selector", 400},
		"operator exists":     {"POST", "/operators", `{"name":"admin","role":"viewer"}`, "operator_exists", "name", 409},
		"operator not there":  {"DELETE", "/operators/none", ``, "operator_not_found", "", 404},
		"command name":        {"POST", "/devices/pump-7/commands", `{}`, "invalid_command", "name", 400},
		"command params":      {"POST", "/devices/pump-7/commands", `{"name":"x","params":[1]}`, "invalid_type", "params", 400},
		"command ttl":         {"POST", "/devices/pump-7/commands", `{"name":"x","ttl":"-1s"}`, "invalid_duration", "ttl", 400},
		"ttl without unit":    {"POST", "/devices/pump-7/commands", `{"name":"x","ttl":3600}`, "invalid_type", "ttl", 400},
		"ttl is an object":    {"POST", "/jobs", `{"selector":"a","command":{"name":"x","ttl":{"h":1}}}`, "invalid_type", "command.ttl", 400},
		"command timeout":     {"POST", "/devices/pump-7/commands", `{"name":"x","timeout":"0s"}`, "invalid_duration", "timeout", 400},
		"wait too long":       {"POST", "/devices/pump-7/commands?wait=301s", `{"name":"x"}`, "invalid_parameter", "wait", 400},
		"patch type":          {"PATCH", "/devices/pump-7", `{"disabled":"yes"}`, "invalid_type", "disabled", 400},
		"state null":          {"PATCH", "/devices/pump-7/state/desired", `null`, "invalid_type", "", 400},
		"method":              {"PUT", "/devices/pump-7", ``, "method_not_allowed", "", 405},
		"path":                {"GET", "/nothing", ``, "not_found", "", 404},
		"unknown parameter":   {"GET", "/devices?sellector=a", ``, "unknown_parameter", "sellector", 400},
		"parameter twice":     {"GET", "/devices?q=a&q=b", ``, "duplicate_parameter", "q", 400},
		"parameter of none":   {"GET", "/bridge?x=1", ``, "unknown_parameter", "x", 400},
		"token in the query":  {"GET", "/session?token=x", ``, "unknown_parameter", "token", 400},
		"limit":               {"GET", "/devices?limit=1001", ``, "invalid_parameter", "limit", 400},
		"status":              {"GET", "/devices?status=up", ``, "invalid_parameter", "status", 400},
		"silent":              {"GET", "/devices?silent=maybe", ``, "invalid_parameter", "silent", 400},
		"expect":              {"PATCH", "/devices/pump-7", `{"expect_every":"often"}`, "invalid_duration", "expect_every", 400},
		"expect too often":    {"PATCH", "/devices/pump-7", `{"expect_every":"1ms"}`, "invalid_duration", "expect_every", 400},
		"selector":            {"GET", "/devices?selector=%3Dx", ``, "invalid_selector", "selector", 400},
		"command state":       {"GET", "/commands?state=done", ``, "invalid_parameter", "state", 400},
		"from":                {"GET", "/devices/pump-7/telemetry?from=yesterday", ``, "invalid_time", "from", 400},
		"from after to":       {"GET", "/devices/pump-7/telemetry?from=now&to=-1h", ``, "invalid_parameter", "from", 400},
		"every":               {"GET", "/devices/pump-7/telemetry?every=1us", ``, "invalid_parameter", "every", 400},
		"every too fine":      {"GET", "/devices/pump-7/telemetry?from=-30d&every=1s", ``, "too_many_values", "every", 400},
		"fn":                  {"GET", "/devices/pump-7/telemetry?every=1m&fn=drop", ``, "invalid_parameter", "fn", 400},
		"fn alone":            {"GET", "/devices/pump-7/telemetry?fn=mean", ``, "invalid_parameter", "every", 400},
		"measurement":         {"GET", "/devices/pump-7/telemetry?measurement=a%22b", ``, "invalid_parameter", "measurement", 400},
		"audit cursor":        {"GET", "/audit?cursor=zzzzzz", ``, "invalid_cursor", "cursor", 400},
		"no patch":            {"PATCH", "/devices/pump-7", `null`, "invalid_type", "", 400},
		"no operator patch":   {"PATCH", "/operators/admin", `null`, "invalid_type", "", 400},
		"operator is the hub": {"POST", "/operators", `{"name":"hub","role":"viewer"}`, "invalid_name", "name", 400},
		"operator is nobody":  {"POST", "/operators", `{"name":"unknown","role":"viewer"}`, "invalid_name", "name", 400},
		"commands of no id":   {"GET", "/commands?device=a%20b", ``, "invalid_parameter", "device", 400},
		"replay of no id":     {"POST", "/deadletters/replay", `{"device":"a b"}`, "invalid_id", "device", 400},
		"replay of null":      {"POST", "/deadletters/replay", `{"ids":[7,null]}`, "invalid_request", "ids[1]", 400},
		"replay of 0":         {"POST", "/deadletters/replay", `{"ids":[0]}`, "invalid_request", "ids[0]", 400},
		"lease for no time":   {"POST", "/devices/pump-7/lease", `{"ttl":"0"}`, "invalid_duration", "ttl", 400},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			got := h.call(admin, c.method, "/api/v1"+c.path, orNil(c.body)).refused(c.status, c.code)
			if where := got.field("path"); where != c.where {
				t.Errorf("path %q, want %q", where, c.where)
			}
		})
	}
}

func orNil(body string) any {
	if body == "" {
		return nil
	}
	return body
}

func TestBodyIsBounded(t *testing.T) {
	h := start(t)
	h.call(h.admin(), "POST", "/api/v1/devices", `{"id":"`+strings.Repeat("a", api.MaxBody)+`"}`).refused(413, "body_too_large")
	h.send("POST", "/api/v1/devices", "a=b", func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+h.admin())
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}).refused(415, "unsupported_media_type")
}

func TestRefusalsOfCommands(t *testing.T) {
	h := start(t)
	admin := h.admin()
	for name, want := range map[string]struct {
		status int
		code   string
	}{
		"full": {429, "queue_full"}, "offline": {409, "device_offline"}, "reused": {409, "idempotency_key_reused"},
		"misfit": {422, "invalid_params"}, "dangerous": {409, "not_confirmed"}, "broken": {500, "internal"},
	} {
		got := h.call(admin, "POST", "/api/v1/devices/pump-7/commands", object{"name": name}).refused(want.status, want.code)
		switch name {
		case "misfit":
			if got.field("path") != "params.steps[2]" || got.field("detail") != "params.steps[2]: want a number" {
				t.Errorf("path %q, detail %q", got.field("path"), got.field("detail"))
			}
		case "full":
			if got.header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		case "broken":
			if strings.Contains(string(got.raw), "inside") {
				t.Errorf("an inner error is told: %s", got.raw)
			}
		}
	}
	h.call(admin, "POST", "/api/v1/devices/pump-7/commands", object{"name": "dangerous", "confirm": "pump-7"}).want(202)
}

func TestCommandIsPassedOn(t *testing.T) {
	h := start(t)
	token := h.operator("olga", api.User, "")
	got := h.send("POST", "/api/v1/devices/pump-7/commands", `{"name":"start","params":{"n":1},"ttl":"0","timeout":"5s"}`, func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Idempotency-Key", "key-1")
	}).want(202)
	if where := got.header.Get("Location"); where != "/api/v1/commands/"+got.field("id") {
		t.Errorf("location %q", where)
	}
	n := h.orders.last()
	if n.Device != "pump-7" || n.Name != "start" || string(n.Params) != `{"n":1}` || n.Actor != "olga" || n.IdempotencyKey != "key-1" ||
		n.TTL == nil || *n.TTL != 0 || n.Timeout != 5*time.Second {
		t.Errorf("asked %+v", n)
	}
	h.call(token, "POST", "/api/v1/devices/pump-7/commands", object{"name": "start", "ttl": 0}).want(202)
	if n := h.orders.last(); n.TTL == nil || *n.TTL != 0 {
		t.Errorf("the number 0: %+v", n)
	}
	h.call(token, "POST", "/api/v1/devices/pump-7/commands", object{"name": "start", "ttl": nil}).want(202)
	if n := h.orders.last(); n.TTL != nil {
		t.Errorf("null: %+v", n)
	}
	h.call(token, "POST", "/api/v1/devices/pump-7/commands", object{"name": "start"}).want(202)
	if n := h.orders.last(); n.TTL != nil || n.Timeout != 0 || n.IdempotencyKey != "" {
		t.Errorf("defaults are the commander's: %+v", n)
	}
	h.send("POST", "/api/v1/devices/pump-7/commands", object{"name": "x"}, func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Idempotency-Key", strings.Repeat("k", 129))
	}).refused(400, "invalid_idempotency_key")
}

func TestWait(t *testing.T) {
	h := start(t)
	admin := h.admin()
	h.call(admin, "POST", "/api/v1/devices/pump-7/commands?wait=30s", object{"name": "instant"}).want(200)
	h.call(admin, "POST", "/api/v1/devices/pump-7/commands?wait=10ms", object{"name": "start"}).want(202)

	done := make(chan *answer)
	go func() {
		done <- h.call(admin, "POST", "/api/v1/devices/pump-7/commands?wait=60s", object{"name": "start"})
	}()
	wantSoon(t, "the command", func() bool { _, err := h.orders.Find(t.Context(), "c3"); return err == nil })
	h.orders.end("c3")
	if got := (<-done).want(200); got.field("state") != "succeeded" {
		t.Errorf("state %s", got.raw)
	}
	// Whoever comes later can wait too.
	go func() { done <- h.call(admin, "GET", "/api/v1/commands/c2?wait=60s", nil) }()
	h.orders.end("c2")
	if got := (<-done).want(200); got.field("state") != "succeeded" {
		t.Errorf("state %s", got.raw)
	}
	h.call(admin, "DELETE", "/api/v1/commands/c2", nil).refused(409, "command_ended")
}

// The operator's connection breaks; the command goes on.
func TestCallerWhoLeavesLeavesTheCommand(t *testing.T) {
	h := start(t)
	token := h.admin()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", h.srv.URL+"/api/v1/devices/pump-7/commands?wait=60s", strings.NewReader(`{"name":"start"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	gone := make(chan error)
	go func() {
		resp, err := h.client.Do(r)
		if err == nil {
			text, _ := io.ReadAll(resp.Body)
			err = fmt.Errorf("an answer: %s %s", resp.Status, text)
			resp.Body.Close()
		}
		gone <- err
	}()
	wantSoon(t, "the command", func() bool { _, err := h.orders.Find(t.Context(), "c1"); return err == nil })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("the call ended with %v", err)
	}
	if got := h.call(token, "GET", "/api/v1/commands/c1", nil).want(200); got.field("state") != "queued" {
		t.Errorf("state %s", got.raw)
	}
}

func TestPaging(t *testing.T) {
	h := start(t)
	admin := h.admin()
	var ids []string
	cursor := ""
	for range 5 {
		var p struct {
			Devices []api.Device
			Cursor  string
		}
		h.call(admin, "GET", "/api/v1/devices?limit=2&cursor="+cursor, nil).want(200).into(&p)
		for _, d := range p.Devices {
			ids = append(ids, d.ID)
		}
		if cursor = p.Cursor; cursor == "" {
			break
		}
	}
	if got := strings.Join(ids, " "); got != "plug-1 pump-7 pump-8" {
		t.Errorf("%q", got)
	}
}

func TestDeviceShapes(t *testing.T) {
	h := start(t)
	admin := h.admin()
	made := h.call(admin, "POST", "/api/v1/devices", object{"id": "new-1"}).want(201)
	if made.field("token") == "" {
		t.Errorf("no token: %s", made.raw)
	}
	if made.header.Get("Location") != "/api/v1/devices/new-1" {
		t.Errorf("location %q", made.header.Get("Location"))
	}
	keyed := h.call(admin, "POST", "/api/v1/devices", object{"id": "new-2", "keys": []object{{"kid": "k", "public_key": "pem"}}}).want(201)
	if _, has := keyed.json()["token"]; has {
		t.Errorf("a token beside keys: %s", keyed.raw)
	}
	if got := string(h.call(admin, "GET", "/api/v1/devices/new-1", nil).want(200).raw); got !=
		`{"id":"new-1","labels":{},"disabled":false,"created":1,"status":"never","keys":[],"commands":[]}`+"\n" {
		t.Errorf("a bare device is %s", got)
	}
	for asked, told := range map[string]string{"60s": "1m0s", "1d": "24h0m0s", "never": "never", "": ""} {
		got := h.call(admin, "PATCH", "/api/v1/devices/new-1", object{"expect_every": asked}).want(200)
		if every, _ := got.json()["expect_every"].(string); every != told {
			t.Errorf("expect_every %q is %q, want %q", asked, every, told)
		}
	}
}

func TestState(t *testing.T) {
	h := start(t)
	admin := h.admin()
	patch := func(version string) *answer {
		return h.send("PATCH", "/api/v1/devices/pump-7/state/desired", `{"a":2,"b":{"c":null}}`, func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+admin)
			r.Header.Set("If-Match", version)
			r.Header.Set("Content-Type", "application/merge-patch+json")
		})
	}
	if got := patch(`"7"`).want(200); got.header.Get("ETag") != `"7"` {
		t.Errorf("etag %q", got.header.Get("ETag"))
	}
	patch("7").want(200)
	patch(`"6"`).refused(412, "version_mismatch")
	patch("x").refused(400, "invalid_version")
	if got := string(h.call(admin, "GET", "/api/v1/devices/pump-7/state", nil).want(200).raw); got !=
		`{"desired":{"a":1},"desired_version":7,"reported":{},"reported_version":0,"difference":{}}`+"\n" {
		t.Errorf("state %s", got)
	}
}

func TestHistory(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	h := start(t, func(o *api.Options) { o.Now = func() time.Time { return now } })
	admin := h.admin()
	got := h.call(admin, "GET", "/api/v1/devices/pump-7/telemetry?measurement=env&fields=temp,hum&from=-1h&to=now&every=10s&fn=max", nil).want(200)
	q := h.rest.query
	if q.Device != "pump-7" || q.Measurement != "env" || strings.Join(q.Fields, " ") != "temp hum" || !q.To.Equal(now) ||
		q.To.Sub(q.From) != time.Hour || q.Every != 10*time.Second || q.Fn != "max" || q.Limit != 10_000 {
		t.Errorf("asked %+v", q)
	}
	if want := `{"series":[{"measurement":"env","field":"temp","tags":{},"times":[1],"values":[1.5]},{"measurement":"env","field":"none","tags":{},"times":[],"values":[]}],"every_ms":10000,"fn":"max"}` + "\n"; string(got.raw) != want {
		t.Errorf("%s", got.raw)
	}
	h.call(admin, "GET", "/api/v1/devices/pump-7/telemetry?from=1699999999000&to=2023-11-14T22:13:20Z", nil).want(200)
	if q := h.rest.query; q.From.UnixMilli() != 1_699_999_999_000 || !q.To.Equal(now) || q.Every != 0 || q.Fn != "" {
		t.Errorf("asked %+v", q)
	}
	h.call(admin, "GET", "/api/v1/devices/none/telemetry", nil).refused(404, "device_not_found")
}

// TestZeroIsTold: "must not be negative" is no help to who wrote 0.
func TestZeroIsTold(t *testing.T) {
	h := start(t)
	h.call(h.admin(), "POST", "/api/v1/devices/pump-7/commands", object{"name": "x", "timeout": "0"}).refused(400, "invalid_duration").names("timeout must be above 0")
	h.call(h.admin(), "POST", "/api/v1/devices/pump-7/commands", object{"name": "x", "ttl": "-1s"}).refused(400, "invalid_duration").names("ttl must not be negative")
}

// TestHistoryOfTimesThatNoStoreHas: the end of all time is as good a way to say "up to now" as any.
func TestHistoryOfTimesThatNoStoreHas(t *testing.T) {
	h := start(t)
	for _, span := range []string{"from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z", "from=0&to=9223372036854775807"} {
		h.call(h.admin(), "GET", "/api/v1/devices/pump-7/telemetry?"+span, nil).want(200)
		q := h.rest.query
		if from, to := q.From.UnixNano(), q.To.UnixNano(); !time.Unix(0, from).Equal(q.From) || !time.Unix(0, to).Equal(q.To) || from > 0 || to < time.Now().UnixNano() {
			t.Errorf("%s: asked from %s to %s", span, q.From, q.To)
		}
	}
}

// TestNoBodyInChunks: who sends no body may not know its length before [RFC9112 7.1].
func TestNoBodyInChunks(t *testing.T) {
	h := start(t)
	post := func(path string) *answer {
		return h.send("POST", path, nil, func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+h.admin())
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("")), -1
		})
	}
	post("/api/v1/devices/pump-7/tokens").want(201)
	post("/api/v1/devices").refused(400, "invalid_json")
}
