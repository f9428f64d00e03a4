package main_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A job of an operator who is removed ends, with a record, and one of a device's successors hears nothing of what the
// first of its id was sent, nor is it held.
func TestRightsEndMeanwhile(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	h.addDevice(t, "d1", "a")
	h.addDevice(t, "d2", "a")
	var made struct{ Token string }
	if status := h.ask(t, "POST", "/operators", map[string]any{"name": "ann", "role": "admin"}, &made); status != http.StatusCreated {
		t.Fatal("make an operator:", status)
	}
	ann := h.ready
	ann.AdminToken = made.Token
	ask := func(r ready, method, path string, body, answer any) {
		t.Helper()
		if status := r.ask(t, method, path, body, answer); status >= 300 {
			t.Fatalf("%s %s: %d", method, path, status)
		}
	}
	type job struct {
		ID, State, Reason string
		Started           int
		Finished          int64
		ChangedBy         string `json:"changed_by"`
		Counts            map[string]int
	}
	var anns, admins job
	order := map[string]any{"selector": "site=a", "command": map[string]any{"name": "set"}, "rollout": map[string]any{"per_minute": 0.001}}
	ask(ann, "POST", "/jobs", order, &anns)
	ask(h.ready, "POST", "/jobs", order, &admins)
	until := func(id string, ok func(job) bool) job {
		t.Helper()
		for end := time.Now().Add(waitBound); ; time.Sleep(5 * time.Millisecond) {
			var j job
			ask(h.ready, "GET", "/jobs/"+id, nil, &j)
			if ok(j) {
				return j
			}
			if time.Now().After(end) {
				t.Fatalf("job stays %+v", j)
			}
		}
	}
	one := func(j job) bool { return j.Counts["queued"] == 1 }
	until(anns.ID, one)
	until(admins.ID, one)
	ask(ann, "POST", "/devices/d1/lease", nil, nil)
	ask(h.ready, "DELETE", "/operators/ann", nil, nil)
	j := until(anns.ID, func(j job) bool { return j.Finished > 0 })
	if j.State != "cancelled" || j.ChangedBy != "hub" || !strings.Contains(j.Reason, "ann was removed") || j.Counts["cancelled"] != 1 || j.Counts["pending"] != 1 {
		t.Errorf("ended as %+v", j)
	}
	type record struct{ Actor, Action, Target, Detail string }
	var audit struct{ Records []record }
	ask(h.ready, "GET", "/audit", nil, &audit)
	if !slices.ContainsFunc(audit.Records, func(r record) bool {
		return r.Actor == "hub" && r.Action == "job.cancel" && r.Target == anns.ID && strings.Contains(r.Detail, "ann was removed")
	}) {
		t.Errorf("no record of it: %+v", audit.Records)
	}
	var lease struct{ Holder string }
	ask(h.ready, "GET", "/devices/d1/lease", nil, &lease)
	if lease.Holder != "ann" {
		t.Errorf("the lease on the device: %+v", lease)
	}
	ask(h.ready, "DELETE", "/devices/d1", nil, nil)
	h.addDevice(t, "d1", "a")
	if status := h.ask(t, "GET", "/devices/d1/lease", nil, nil); status != http.StatusNotFound {
		t.Errorf("a lease on the next device of the id: %d", status)
	}
	j = until(admins.ID, func(j job) bool { return j.Counts["cancelled"] == 1 })
	if j.State != "running" || j.Counts["pending"] != 1 {
		t.Errorf("the job of another: %+v", j)
	}
	h.stop()
}
