package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Every change leaves a record, made or refused, and no read does.
func TestEveryChangeIsAudited(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.operator("other", api.Viewer, "")
	h.operator("other2", api.Viewer, "")
	viewer := h.operator("eve", api.Viewer, "")
	admin := h.admin()
	h.call(admin, "POST", "/api/v1/devices/pump-7/commands", object{"name": "start"}).want(202)
	had := h.audited()
	before := len(had)
	for _, r := range h.api.Routes() {
		if r.Open {
			continue
		}
		s := samples[r.Name]
		for _, token := range []string{viewer, admin} {
			h.call(token, r.Method, "/api/v1"+s.path, s.body)
			now := h.audited()
			made := now[len(had):]
			had = now
			if !r.Change {
				if len(made) != 0 {
					t.Errorf("%s: a read left %v", r.Name, made)
				}
				continue
			}
			if len(made) != 1 {
				t.Errorf("%s: %d records, want 1", r.Name, len(made))
				continue
			}
			who := map[string]string{viewer: "eve", admin: "admin"}[token]
			rec := made[0]
			if rec.Actor != who || rec.Remote != "127.0.0.1" || rec.Action == "" || rec.Node != "n1" || rec.Time == 0 {
				t.Errorf("%s: %+v", r.Name, rec)
			}
			if refused := token == viewer && strings.Contains(may[r.Name], "v") == false; refused != (rec.Outcome == "role_too_low") {
				t.Errorf("%s by %s: outcome %q", r.Name, who, rec.Outcome)
			}
			if strings.Contains(s.path, "pump-7") && rec.Target != "pump-7" {
				t.Errorf("%s: target %q", r.Name, rec.Target)
			}
		}
	}
	v, err := h.api.Verify(t.Context())
	if err != nil || !v.Whole || v.Records <= before {
		t.Errorf("%+v, %v", v, err)
	}
}

// Whatever a caller sends, its record is what was hashed: nobody can make the log look tampered with.
func TestAuditOfTextThatIsNoUTF8(t *testing.T) {
	h := start(t)
	admin := h.admin()
	h.call("", "DELETE", "/api/v1/devices/x%FF", nil).refused(401, "unauthenticated")
	h.call(admin, "DELETE", "/api/v1/devices/x%FF", nil).refused(404, "device_not_found")
	for cut := range 4 { // the text ends within a character
		h.call(admin, "PATCH", "/api/v1/devices/pump-7/state/desired", `{"`+strings.Repeat("x", cut)+strings.Repeat("\U0001f600", 200)+`":1}`).want(200)
	}
	if v, err := h.api.Verify(t.Context()); err != nil || !v.Whole {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

func TestSecretsAreNotAudited(t *testing.T) {
	h := start(t)
	token := h.admin()
	secret := h.link("admin")
	s := h.signIn(object{"secret": secret})
	s.do("POST", "/api/v1/devices", object{"id": "new-1"}).want(201)
	data, err := json.Marshal(h.audited())
	if err != nil {
		t.Fatal(err)
	}
	for name, what := range map[string]string{"sign-in secret": secret, "cookie": s.cookie.Value, "csrf": s.csrf, "token": token, "device token": "a.device.token"} {
		if strings.Contains(string(data), what) {
			t.Errorf("the %s is in the audit log", name)
		}
	}
}

// Many at once share messages, and the chain stays one.
func TestAuditOfManyAtOnceOnTwoNodes(t *testing.T) {
	t.Parallel()
	first := start(t)
	second := startOn(t, first.bus, first.keys)
	token := first.admin()
	const each = 60
	var all sync.WaitGroup
	for i := range each {
		for n, h := range []*hub{first, second} {
			all.Go(func() {
				h.call(token, "POST", "/api/v1/devices", object{"id": fmt.Sprintf("d-%d-%d", n, i)}).want(201)
			})
		}
	}
	all.Wait()
	v, err := second.api.Verify(t.Context())
	if err != nil || !v.Whole {
		t.Fatalf("%+v, %v", v, err)
	}
	seen := map[string]bool{}
	for _, r := range first.audited() {
		if r.Action == "device.create" {
			seen[r.Target] = true
		}
	}
	if len(seen) != 2*each {
		t.Errorf("%d devices in the log, want %d", len(seen), 2*each)
	}
}

func TestAuditPages(t *testing.T) {
	h := start(t)
	admin := h.admin()
	for i := range 7 {
		h.call(admin, "POST", "/api/v1/devices", object{"id": fmt.Sprintf("d%d", i)}).want(201)
	}
	var got []string
	cursor := ""
	for range 20 {
		var p struct {
			Records []api.Record
			Cursor  string
		}
		h.call(admin, "GET", "/api/v1/audit?limit=3&cursor="+cursor, nil).want(200).into(&p)
		for _, r := range p.Records {
			got = append(got, r.Target)
		}
		if cursor = p.Cursor; cursor == "" {
			break
		}
	}
	if want := "d6 d5 d4 d3 d2 d1 d0 admin"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// The negative control: whatever is done to the log behind the hub's back, verify says where.
func TestVerifyFindsTampering(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]func(t *testing.T, h *hub){
		"one removed from the middle": func(t *testing.T, h *hub) { h.deleteAudit(4) },
		"the newest removed":          func(t *testing.T, h *hub) { h.deleteAudit(h.lastAudit()) },
		"one put in": func(t *testing.T, h *hub) {
			h.putAudit(`[{"time":1,"actor":"admin","action":"device.create","target":"x","outcome":"ok","prev":"","hash":"00"}]`)
		},
		"one put in with a good hash of its own": func(t *testing.T, h *hub) {
			h.putAudit(`[{"time":1,"actor":"eve","action":"x","outcome":"ok","prev":"","hash":"` + sumOf(`{"time":1,"actor":"eve","action":"x","outcome":"ok","prev":""}`) + `"}]`)
		},
		"not a record": func(t *testing.T, h *hub) { h.putAudit(`{}`) },
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			admin := h.admin()
			for i := range 6 {
				h.call(admin, "POST", "/api/v1/devices", object{"id": fmt.Sprintf("d%d", i)}).want(201)
			}
			if v, err := h.api.Verify(t.Context()); err != nil || !v.Whole {
				t.Fatalf("before: %+v, %v", v, err)
			}
			tamper(t, h)
			v, err := h.api.Verify(t.Context())
			if err != nil || v.Whole || v.Complete || v.Fault == "" {
				t.Fatalf("after: %+v, %v", v, err)
			}
			t.Log(v.Fault)
			h.call(admin, "GET", "/api/v1/audit/verify", nil).want(200)
		})
	}
}

// The log's own bound drops its oldest records. That is no fault, and verify does not keep it to itself.
func TestVerifyTellsThatTheOldestAreGone(t *testing.T) {
	h := start(t)
	admin := h.admin()
	for i := range 6 {
		h.call(admin, "POST", "/api/v1/devices", object{"id": fmt.Sprintf("d%d", i)}).want(201)
	}
	records := h.audited()
	v, err := h.api.Verify(t.Context())
	if err != nil || !v.Whole || !v.Complete || v.Dropped != 0 || v.Before != "" || v.Records != len(records) {
		t.Fatalf("before: %+v, %v", v, err)
	}
	s, err := h.bus.Stream(t.Context(), bus.StreamAudit)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgs = 2
	if _, err := h.bus.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	gone := len(records) - 2
	v, err = h.api.Verify(t.Context())
	if err != nil || !v.Whole || v.Complete || v.Dropped != uint64(gone) || v.Before != records[gone-1].Hash || v.Fault != "" {
		t.Errorf("after: %+v, %v; want %d gone, the last %s", v, err, gone, records[gone-1].Hash)
	}
	h.call(admin, "GET", "/api/v1/audit/verify", nil).want(200)
}

// A hub whose last record was cut off still records what comes after, and the cut stays visible.
func TestAuditGoesOnAfterTampering(t *testing.T) {
	b, keys := openBus(t), t.TempDir()
	h := startOn(t, b, keys)
	for i := range 3 {
		h.call(h.admin(), "POST", "/api/v1/devices", object{"id": fmt.Sprintf("d%d", i)}).want(201)
	}
	h.deleteAudit(h.lastAudit())
	h.stop()
	h = startOn(t, b, keys)
	h.call(h.admin(), "POST", "/api/v1/devices", object{"id": "after"}).want(201)
	if v, err := h.api.Verify(t.Context()); err != nil || v.Whole {
		t.Errorf("%+v, %v", v, err)
	}
}

// Without the log no change is answered as made.
func TestChangeWithoutAuditIsNotConfirmed(t *testing.T) {
	h := start(t)
	admin := h.admin()
	if err := h.bus.JetStream().DeleteStream(t.Context(), bus.StreamAudit); err != nil {
		t.Fatal(err)
	}
	h.call(admin, "POST", "/api/v1/devices", object{"id": "d1"}).refused(503, "audit_unavailable")
	h.call(admin, "GET", "/api/v1/devices", nil).want(200)
}
