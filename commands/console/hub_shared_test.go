package console_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

// job is a job of the stand-in; its devices never move on by themselves.
type job struct {
	ID          string         `json:"id"`
	Actor       string         `json:"actor"`
	Created     int64          `json:"created"`
	Selector    string         `json:"selector,omitempty"`
	Command     object         `json:"command"`
	Rollout     object         `json:"rollout"`
	Concurrency int            `json:"concurrency"`
	AbortIf     object         `json:"abort_if"`
	State       string         `json:"state"`
	Reason      string         `json:"reason,omitempty"`
	Changed     int64          `json:"changed"`
	ChangedBy   string         `json:"changed_by,omitempty"`
	ApprovedBy  string         `json:"approved_by,omitempty"`
	Finished    int64          `json:"finished,omitempty"`
	Total       int            `json:"total"`
	Started     int            `json:"started"`
	Counts      map[string]int `json:"counts"`

	devices []object
}

func aJob(id, actor, state string) *job {
	return &job{
		ID: id, Actor: actor, State: state, Created: away(20 * time.Minute), Changed: away(time.Minute), Selector: "site=plant-7", Concurrency: 10,
		Command: object{"name": "set_interval", "params": object{"seconds": 10, "note": hostile}}, Rollout: object{"per_minute": 60, "growth": 1.5},
		AbortIf: object{"failed_percent": 10, "after": 20}, Total: 4, Started: 3, Counts: map[string]int{"succeeded": 1, "failed": 1, "running": 1, "pending": 1},
		devices: []object{
			{"device": "pump-01", "state": "succeeded", "command": "01JDQ8Z3VX000001"},
			{"device": "pump-02", "state": "failed", "command": "01JDQ8Z3VX000002", "code": "sensor_busy"},
			{"device": "pump-03", "state": "running", "command": "01JDQ8Z3VX000003"},
			{"device": "pump-04", "state": "pending"},
		},
	}
}

func someJobs() map[string]*job {
	jobs := map[string]*job{"j1": aJob("j1", "lee", "running"), "j2": aJob("j2", "lee", "awaiting_approval"), "j3": aJob("j3", "kim", "awaiting_approval"), "j4": aJob("j4", "lee", "aborted")}
	jobs["j4"].Reason, jobs["j4"].Finished = "12 % failed "+hostile, away(time.Minute)
	return jobs
}

func somePending() []*device {
	return []*device{
		{ID: "new-1", Status: "never", Created: away(time.Minute), Pending: true, Enrollment: "e1", Labels: map[string]string{"site": "plant-7"}},
		{ID: "new-2", Status: "never", Created: away(time.Minute), Pending: true, Enrollment: "e1"},
	}
}

// sharedRoutes are what operators do with each other: jobs, leases, approvals, enrollments.
func (h *hub) sharedRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/jobs", h.signedIn(h.listJobs))
	mux.HandleFunc("GET /api/v1/jobs/{id}", h.signedIn(h.withJob(func(j *job, _ *http.Request) any { return j })))
	mux.HandleFunc("GET /api/v1/jobs/{id}/devices", h.signedIn(h.withJob(jobDevices)))
	mux.HandleFunc("POST /api/v1/jobs/{id}/{step}", h.signedIn(h.withJob(steer)))
	mux.HandleFunc("POST /api/v1/devices/{id}/lease", h.signedIn(h.hold))
	mux.HandleFunc("DELETE /api/v1/devices/{id}/lease", h.signedIn(h.release))
	mux.HandleFunc("POST /api/v1/commands/{id}/approve", h.signedIn(h.approve))
	mux.HandleFunc("GET /api/v1/enrollments", h.signedIn(h.enrollments))
	mux.HandleFunc("GET /api/v1/enrollments/pending", h.signedIn(func(w http.ResponseWriter, _ *http.Request) {
		h.reply(w, func() any { return object{"devices": h.pending} })
	}))
	mux.HandleFunc("POST /api/v1/enrollments/{enrollment}/devices/{id}/approve", h.signedIn(h.decide))
	mux.HandleFunc("DELETE /api/v1/devices/{id}", h.signedIn(h.decide))
	mux.HandleFunc("POST /test/awaiting", h.awaiting)
	mux.HandleFunc("POST /test/lease", h.leaseOfOther)
}

func (h *hub) listJobs(w http.ResponseWriter, r *http.Request) {
	h.reply(w, func() any {
		if r.FormValue("cursor") != "" {
			return object{"jobs": []*job{h.jobs["j4"]}}
		}
		return object{"jobs": []*job{h.jobs["j1"], h.jobs["j2"], h.jobs["j3"]}, "cursor": "older"}
	})
}

func (h *hub) withJob(look func(*job, *http.Request) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		j := h.jobs[r.PathValue("id")]
		h.mu.Unlock()
		if j == nil {
			problem.New(http.StatusNotFound, "job_not_found", "there is no such job").Write(w)
			return
		}
		h.reply(w, func() any { return look(j, r) })
	}
}

func jobDevices(j *job, r *http.Request) any {
	state := r.FormValue("state")
	return object{"devices": slices.DeleteFunc(slices.Clone(j.devices), func(d object) bool { return state != "" && d["state"] != state })}
}

func steer(j *job, r *http.Request) any {
	j.State = map[string]string{"pause": "paused", "resume": "running", "cancel": "cancelled", "approve": "running"}[r.PathValue("step")]
	j.Changed, j.ChangedBy = away(0), "kim"
	if r.PathValue("step") == "approve" {
		j.ApprovedBy = "kim"
	}
	return j
}

func (h *hub) hold(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		TTL      string
		Takeover bool
	}
	err := json.NewDecoder(r.Body).Decode(&asked)
	ttl, err2 := time.ParseDuration(asked.TTL)
	h.mu.Lock()
	d := h.devices[r.PathValue("id")]
	held := d.Lease != nil && d.Lease["holder"] != "kim" && !asked.Takeover
	if err == nil && err2 == nil && !held {
		d.Lease = object{"device": d.ID, "holder": "kim", "since": away(0), "until": away(-ttl)}
	}
	h.mu.Unlock()
	if err != nil || err2 != nil || held {
		h.refuse(w, problem.New(http.StatusConflict, "device_held", "somebody else holds it"))
		return
	}
	h.reply(w, func() any { return d.Lease })
}

func (h *hub) release(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.devices[r.PathValue("id")].Lease = nil
	h.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (h *hub) approve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	o := h.byID(r.PathValue("id"))
	d := h.devices[o.Device]
	h.mu.Unlock()
	h.step(o, func() {
		o.Awaiting, o.ApprovedBy = false, "kim"
		o.Events = append(o.Events, object{"time": time.Now().UnixMilli(), "state": "queued", "detail": "approved", "actor": "kim"})
	})
	h.tasks.Go(func() { h.carryOut(o, d) })
	h.reply(w, func() any { return o })
}

func (h *hub) enrollments(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, object{"enrollments": []object{
		{"id": "e1", "labels": object{"site": "plant-7"}, "prefix": "new-", "max_devices": 100, "used": 2, "approve": true, "actor": "kim", "created": away(time.Hour), "expires": away(-time.Hour), "expired": false},
		{"id": "e0", "labels": object{"note": hostile}, "max_devices": 1, "used": 1, "approve": false, "actor": hostile, "created": away(48 * time.Hour), "expires": away(time.Hour), "expired": true},
	}})
}

// decide lets a device in that waits, or turns it away.
func (h *hub) decide(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	before := len(h.pending)
	h.pending = slices.DeleteFunc(h.pending, func(d *device) bool { return d.ID == r.PathValue("id") })
	known := len(h.pending) < before
	h.mu.Unlock()
	switch {
	case !known:
		h.refuse(w, problem.New(http.StatusNotFound, "device_not_found", "no such device waits"))
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		answer(w, http.StatusOK, object{"id": r.PathValue("id"), "status": "never"})
	}
}

// awaiting has an operator ask for a command that a second one must agree to.
func (h *hub) awaiting(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Device, Actor string }
	_ = json.NewDecoder(r.Body).Decode(&asked) // the script's own; a bad one shows in its check
	h.mu.Lock()
	o := h.newOrder(h.devices[asked.Device], "reboot", object{}, time.Hour)
	o.Actor, o.Awaiting, o.Events[0]["detail"] = asked.Actor, true, "awaiting approval"
	h.mu.Unlock()
	h.step(o, func() {})
	h.reply(w, func() any { return o })
}

// leaseOfOther has another operator take a device.
func (h *hub) leaseOfOther(_ http.ResponseWriter, r *http.Request) {
	var asked struct{ Device string }
	_ = json.NewDecoder(r.Body).Decode(&asked)
	h.mu.Lock()
	h.devices[asked.Device].Lease = object{"device": asked.Device, "holder": "lee", "since": away(time.Minute), "until": away(-9 * time.Minute)}
	h.mu.Unlock()
}
