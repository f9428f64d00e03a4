package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// change asks for a change many times, one after the other, without the network between.
func (h *hub) change(times int, token, path, body string, status int) {
	h.t.Helper()
	handler := h.api.Handler()
	for range times {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != status {
			h.t.Errorf("POST %s: %d %s, want %d", path, w.Code, w.Body, status)
		}
	}
}

// changeAtOnce is change with all of them at once, which share what the log writes.
func (h *hub) changeAtOnce(times int, token, path, body string, status int) {
	h.t.Helper()
	var all sync.WaitGroup
	for range times {
		all.Go(func() { h.change(1, token, path, body, status) })
	}
	all.Wait()
}

// of returns the records of an actor.
func of(all []api.Record, actor string) (out []api.Record) {
	for _, r := range all {
		if r.Actor == actor {
			out = append(out, r)
		}
	}
	return out
}

// omissions returns what the log was told of each caller.
func omissions(all []api.Record) map[string][]string {
	out := map[string][]string{}
	for _, r := range of(all, "hub") {
		if r.Action == "audit.omitted" {
			out[r.Target] = append(out[r.Target], r.Detail)
		}
	}
	return out
}

// Whoever is refused again and again does not push out of the log what was done; the log tells how much it left out.
func TestRefusedChangesAreAuditedWithinABound(t *testing.T) {
	t.Parallel()
	b, keys := openBus(t), t.TempDir()
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	h := startOn(t, b, keys, func(o *api.Options) { o.Now = func() time.Time { return time.Unix(0, clock.Load()) } })
	eve, admin := h.operator("eve", api.Viewer, ""), h.admin()
	const more = 30
	h.change(api.OperatorRefused+more, eve, "/api/v1/devices/pump-7/commands", `{"name":"start"}`, http.StatusForbidden)
	h.change(api.StrangerRefused+more, "", "/api/v1/devices", `{"id":"x"}`, http.StatusUnauthorized)
	if n := h.counter("fairlead_api_audit_unrecorded_total"); n != 2*more {
		t.Errorf("%v counted as not recorded, want %d", n, 2*more)
	}
	// What was done is recorded always, and what may have been done.
	h.changeAtOnce(api.OperatorRefused+more, admin, "/api/v1/devices/pump-7/commands", `{"name":"start"}`, http.StatusAccepted)
	h.changeAtOnce(api.OperatorRefused+more, admin, "/api/v1/devices/pump-7/commands", `{"name":"broken"}`, http.StatusInternalServerError)
	// A refusal of admin's own is none of eve's.
	h.change(1, admin, "/api/v1/devices", `{"id":"pump-7"}`, http.StatusConflict)
	all := h.audited()
	for actor, want := range map[string]int{"eve": api.OperatorRefused, "unknown": api.StrangerRefused} {
		got := of(all, actor)
		if len(got) != want {
			t.Errorf("%d records of %s, want %d", len(got), actor, want)
		}
		// The last one before the silence says that one follows.
		for i, r := range got {
			if says := strings.Contains(r.Detail, "not recorded, but counted"); says != (i == len(got)-1) {
				t.Errorf("record %d of %s: %q", i, actor, r.Detail)
			}
		}
	}
	outcomes := map[string]int{}
	for _, r := range of(all, "admin") {
		outcomes[r.Action+" "+r.Outcome]++
	}
	for _, what := range []string{"command.create ok", "command.create internal"} {
		if outcomes[what] != api.OperatorRefused+more {
			t.Errorf("%d of %d recorded: %s", outcomes[what], api.OperatorRefused+more, what)
		}
	}
	if outcomes["device.create device_exists"] != 1 {
		t.Errorf("admin's own refusal is not recorded: %v", outcomes)
	}
	// With time one more is taken.
	clock.Add(int64(api.RefusedEvery))
	h.change(2, eve, "/api/v1/devices/pump-7/commands", `{"name":"start"}`, http.StatusForbidden)
	all = h.audited()
	if n := len(of(all, "eve")); n != api.OperatorRefused+1 {
		t.Errorf("%d records of eve, want one more", n)
	}
	if told := omissions(all); len(told) != 0 {
		t.Errorf("the log is told %v before its time", told)
	}
	// At the latest when the hub stops the log is told how many were left out.
	h.stop()
	h = startOn(t, b, keys)
	told := omissions(h.audited())
	for target, want := range map[string]struct {
		n    int
		last string
	}{"eve": {more + 1, "command.create role_too_low pump-7"}, "unknown": {more, "device.create unauthenticated"}} {
		got := told[target]
		if len(got) != 1 || !strings.HasPrefix(got[0], fmt.Sprintf("%d refused changes of ", want.n)) || !strings.HasSuffix(got[0], want.last) {
			t.Errorf("of %s the log is told %q, want %d, the last %q", target, got, want.n, want.last)
		}
	}
	if len(told) != 2 {
		t.Errorf("the log is told %v", told)
	}
	if v, err := h.api.Verify(t.Context()); err != nil || !v.Whole || !v.Complete {
		t.Errorf("%+v, %v", v, err)
	}
}

// What the log could not be told while it was away it is told later.
func TestOmissionsAreToldAgain(t *testing.T) {
	b, keys := openBus(t), t.TempDir()
	h := startOn(t, b, keys)
	h.admin()
	h.change(api.StrangerRefused+7, "", "/api/v1/devices", `{"id":"x"}`, http.StatusUnauthorized)
	s, err := h.bus.Stream(t.Context(), bus.StreamAudit)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	sealed := cfg
	sealed.MaxMsgSize = 1 // nothing fits
	if _, err := b.JetStream().UpdateStream(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	h.api.TellOmitted(t.Context())
	if told := omissions(h.audited()); len(told) != 0 {
		t.Fatalf("%v in a log that takes nothing", told)
	}
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and once only
		h.api.TellOmitted(t.Context())
		if told := omissions(h.audited())["unknown"]; len(told) != 1 || !strings.HasPrefix(told[0], "7 refused changes of unknown callers") {
			t.Fatalf("%v", told)
		}
	}
}
