package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// shared are leases, approvals and jobs in memory.
type shared struct {
	mu     sync.Mutex
	orders *orders
	leases map[string]api.Lease
	jobs   map[string]*api.Job
	asked  []api.NewJob
}

func newShared(o *orders) *shared {
	s := &shared{orders: o, leases: map[string]api.Lease{}, jobs: map[string]*api.Job{}}
	s.jobs["j1"] = aJob("j1", "ann", "awaiting_approval")
	s.leases["plug-1"] = api.Lease{Device: "plug-1", Holder: "ann", Since: 1, Until: 2}
	return s
}

func aJob(id, actor, state string) *api.Job {
	return &api.Job{
		ID: id, Actor: actor, Created: 1, Changed: 2, State: state, Total: 3, Started: 1, Counts: map[string]int{"pending": 2, "queued": 1},
		Command: api.JobCommand{Name: "start"}, Concurrency: 10,
	}
}

func (s *shared) Lease(_ context.Context, device string) (api.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.leases[device]
	if !ok {
		return l, api.ErrNoLease
	}
	return l, nil
}

func (s *shared) Hold(_ context.Context, q api.LeaseRequest) (api.Lease, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, held := s.leases[q.Device]
	if held && old.Holder != q.Actor && !q.TakeOver {
		return old, "", &api.Invalid{Status: 409, Code: "device_held", Detail: old.Holder + " holds " + q.Device}
	}
	from := ""
	if held && old.Holder != q.Actor {
		from = old.Holder
	}
	s.leases[q.Device] = api.Lease{Device: q.Device, Holder: q.Actor, Since: 1, Until: q.TTL.Milliseconds()}
	return s.leases[q.Device], from, nil
}

func (s *shared) Release(_ context.Context, device, actor string, force bool) (api.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.leases[device]
	switch {
	case !ok:
		return l, api.ErrNoLease
	case l.Holder != actor && !force:
		return l, &api.Invalid{Status: 409, Code: "device_held", Detail: l.Holder + " holds " + device}
	}
	delete(s.leases, device)
	return l, nil
}

func (s *shared) Approve(ctx context.Context, id, actor string) (api.Command, error) {
	c, err := s.orders.Find(ctx, id)
	if err == nil && c.Actor == actor {
		err = api.ErrSelfApproval
	}
	c.ApprovedBy = actor
	return c, err
}

func (s *shared) Create(_ context.Context, q api.NewJob) (api.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, q)
	switch q.Command.Name {
	case "nobody":
		return api.Job{}, api.ErrNoDevices
	case "crowd":
		return api.Job{}, api.ErrTooManyDevices
	case "busy":
		return api.Job{}, api.ErrTooManyJobs
	}
	job := aJob(fmt.Sprintf("j%d", len(s.jobs)+1), q.Command.Actor, "running")
	job.Rollout, job.AbortIf = q.Rollout, q.AbortIf
	s.jobs[job.ID] = job
	return *job, nil
}

func (s *shared) Preview(_ context.Context, q api.NewJob) (api.JobPreview, error) {
	return api.JobPreview{DryRun: true, Total: 1, Online: 1, Devices: []api.JobTarget{{Device: "pump-7", Online: true, Refusal: "device_held"}}}, nil
}

func (s *shared) Find(_ context.Context, id string) (api.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	job, ok := s.jobs[id]
	if !ok {
		return api.Job{}, api.ErrJobNotFound
	}
	return *job, nil
}

func (s *shared) List(_ context.Context, actor string, _ api.Page) (out []api.Job, cursor string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, job := range s.jobs {
		if actor == "" || job.Actor == actor {
			out = append(out, *job)
		}
	}
	return out, "", nil
}

func (s *shared) Devices(context.Context, string, string, api.Page) ([]api.JobDevice, string, error) {
	return []api.JobDevice{{Device: "pump-7", State: "failed", Command: "c1", Code: "jammed"}, {Device: "pump-8", State: "pending"}}, "", nil
}

func (s *shared) Steer(ctx context.Context, id, action, actor string) (api.Job, error) {
	job, err := s.Find(ctx, id)
	if err == nil && action == "resume" && actor == "late" {
		err = api.ErrJobState
	}
	job.ChangedBy = actor
	return job, err
}

func TestCommandCourseIsRead(t *testing.T) {
	h := start(t)
	body := map[string]any{"name": "start", "not_before": 1795381025277, "priority": 0, "retry": map[string]any{"attempts": 3, "delay": "30s"}}
	h.call(h.admin(), "POST", "/api/v1/devices/pump-7/commands", body).want(202)
	got := h.orders.last()
	if got.NotBefore != 1795381025277 || got.Priority == nil || *got.Priority != 0 || got.Attempts != 3 || got.AttemptDelay.Seconds() != 30 {
		t.Errorf("asked %+v", got)
	}
	for path, body := range map[string]map[string]any{
		"retry.attempts": {"name": "start", "retry": map[string]any{"attempts": 0}},
		"retry.delay":    {"name": "start", "retry": map[string]any{"attempts": 2, "delay": "soon"}},
		"not_before":     {"name": "start", "not_before": -1},
		"retry.often":    {"name": "start", "retry": map[string]any{"often": true}},
		"priority":       {"name": "start", "priority": "high"},
	} {
		if at := h.call(h.admin(), "POST", "/api/v1/devices/pump-7/commands", body).want(400).field("path"); at != path {
			t.Errorf("fault at %q, want %q", at, path)
		}
	}
}

func TestLeaseOverHTTP(t *testing.T) {
	h := start(t)
	ann, bob := h.operator("ann", api.User, ""), h.operator("bob", api.User, "")
	const path = "/api/v1/devices/pump-7/lease"
	h.call(ann, "GET", path, nil).refused(404, "lease_not_found")
	h.call(ann, "POST", path, map[string]any{"ttl": "1m"}).want(200)
	h.call(bob, "GET", path, nil).want(200)
	h.call(bob, "POST", path, nil).refused(409, "device_held")
	h.call(bob, "POST", path, map[string]any{"takeover": true}).refused(403, "role_too_low")
	h.call(bob, "DELETE", path, nil).refused(409, "device_held")
	h.call(h.admin(), "POST", path, map[string]any{"takeover": true}).want(200)
	h.call(h.admin(), "DELETE", path, nil).want(204)
	h.call(h.admin(), "DELETE", path, nil).refused(404, "lease_not_found")
	h.call(ann, "POST", path, map[string]any{"ttl": "-1m"}).refused(400, "invalid_duration")
	var lines []string
	for _, r := range h.audited() {
		if strings.HasPrefix(r.Action, "device.lease") {
			lines = append(lines, r.Action+" "+r.Target+" "+r.Outcome+" "+r.Detail)
		}
	}
	for _, want := range []string{
		"device.lease.take pump-7 ok ttl 1m0s", "device.lease.take pump-7 device_held ttl 10m0s", "device.lease.take pump-7 role_too_low ttl 10m0s",
		"device.lease.take pump-7 ok ttl 10m0s, taken over from ann", "device.lease.release pump-7 ok held by admin",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no audit line %q in %q", want, lines)
		}
	}
}

func TestApprovalOverHTTP(t *testing.T) {
	h := start(t)
	ann, bob := h.operator("ann", api.User, ""), h.operator("bob", api.User, "")
	h.call(ann, "POST", "/api/v1/devices/pump-7/commands", map[string]any{"name": "start"}).want(202)
	h.call(ann, "POST", "/api/v1/commands/c1/approve", nil).refused(409, "self_approval")
	if got := h.call(bob, "POST", "/api/v1/commands/c1/approve", nil).want(200).field("approved_by"); got != "bob" {
		t.Errorf("approved by %q", got)
	}
	h.call(bob, "POST", "/api/v1/commands/c9/approve", nil).refused(404, "command_not_found")
}

func TestJobsOverHTTP(t *testing.T) {
	h := start(t)
	body := map[string]any{
		"selector": "site=plant-7", "command": map[string]any{"name": "start", "params": map[string]any{"n": 1}, "ttl": "1h", "retry": map[string]any{"attempts": 2}},
		"rollout": map[string]any{"per_minute": 60, "growth": 1.5}, "abort_if": map[string]any{"failed_percent": 10, "after": 20}, "dry_run": true,
	}
	plan := h.call(h.admin(), "POST", "/api/v1/jobs", body).want(200).json()
	if plan["total"] != 1.0 || len(h.shared.asked) != 0 {
		t.Errorf("dry run: %v, %d jobs made", plan, len(h.shared.asked))
	}
	delete(body, "dry_run")
	made := h.call(h.admin(), "POST", "/api/v1/jobs", body).want(201)
	if made.header.Get("Location") != "/api/v1/jobs/j2" {
		t.Errorf("location %q", made.header.Get("Location"))
	}
	if q := h.shared.asked[0]; q.Selector != "site=plant-7" || q.Command.Attempts != 2 || q.Rollout.Growth != 1.5 || q.AbortIf.After != 20 || q.Command.Actor != "admin" {
		t.Errorf("asked %+v", q)
	}
	for code, body := range map[string]map[string]any{
		"invalid_selector": {"selector": "=", "command": map[string]any{"name": "start"}},
		"invalid_command":  {"selector": "a", "command": map[string]any{}},
		"invalid_duration": {"selector": "a", "command": map[string]any{"name": "start", "ttl": "x"}},
		"unknown_field":    {"selector": "a", "command": map[string]any{"name": "start", "confirm": "x"}},
	} {
		h.call(h.admin(), "POST", "/api/v1/jobs", body).refused(400, code)
	}
	for name, want := range map[string]string{"nobody": "no_devices", "crowd": "too_many_devices"} {
		h.call(h.admin(), "POST", "/api/v1/jobs", map[string]any{"selector": "a", "command": map[string]any{"name": name}}).refused(422, want)
	}
	h.call(h.admin(), "POST", "/api/v1/jobs", map[string]any{"selector": "a", "command": map[string]any{"name": "busy"}}).refused(429, "too_many_jobs")
	h.call(h.admin(), "GET", "/api/v1/jobs/j9", nil).refused(404, "job_not_found")
	h.call(h.admin(), "GET", "/api/v1/jobs/j2/devices?state=none", nil).refused(400, "invalid_parameter")

	// Who is bound to part of the fleet makes jobs within it, and sees only its own.
	plant := h.operator("plant", api.Admin, "site=plant-7")
	h.call(plant, "GET", "/api/v1/jobs/j1", nil).refused(404, "job_not_found")
	h.call(plant, "POST", "/api/v1/jobs/j1/cancel", nil).refused(404, "job_not_found")
	h.call(plant, "POST", "/api/v1/jobs", map[string]any{"selector": "line=3", "command": map[string]any{"name": "start"}}).want(201)
	if q := h.shared.asked[len(h.shared.asked)-1]; q.Within != "site=plant-7" {
		t.Errorf("within %q", q.Within)
	}
	var list struct{ Jobs []api.Job }
	h.call(plant, "GET", "/api/v1/jobs", nil).want(200).into(&list)
	if len(list.Jobs) != 1 || list.Jobs[0].Actor != "plant" {
		t.Errorf("sees %+v", list.Jobs)
	}
	h.call(h.operator("late", api.Admin, ""), "POST", "/api/v1/jobs/j2/resume", nil).refused(http.StatusConflict, "job_state")
	i := slices.IndexFunc(h.audited(), func(r api.Record) bool {
		return r.Action == "job.create" && r.Target == "j2" && r.Detail == "command start, 3 devices" && r.Outcome == "ok"
	})
	if i < 0 {
		t.Errorf("the job is not in the audit log: %+v", h.audited())
	}
}

// What an operator's record says of jobs, as it changes.
func TestJobMaker(t *testing.T) {
	h := start(t)
	admin := h.admin()
	h.operator("me", api.Admin, "site=a")
	look := func(what, barred string) api.Operator {
		t.Helper()
		op, why, err := h.api.JobMaker(t.Context(), "me")
		if err != nil || !strings.Contains(why, barred) || (why == "") != (barred == "") {
			t.Errorf("%s: %q, %v, want %q", what, why, err, barred)
		}
		return op
	}
	patch := func(body object) { h.call(admin, "PATCH", "/api/v1/operators/me", body).want(200) }
	was := look("an admin", "")
	if was.Selector != "site=a" || was.Created == 0 {
		t.Errorf("an admin: %+v", was)
	}
	patch(object{"selector": "site=b"})
	if op := look("bound elsewhere", ""); op.Selector != "site=b" || op.Created != was.Created {
		t.Errorf("bound elsewhere: %+v", op)
	}
	patch(object{"role": "operator"})
	look("of a lower role", "is operator now")
	patch(object{"role": "admin", "disabled": true})
	look("disabled", "is disabled")
	h.call(admin, "DELETE", "/api/v1/operators/me", nil).want(204)
	look("removed", "was removed")
	h.operator("me", api.Admin, "")
	if op := look("another of the name", ""); op.Created == was.Created {
		t.Errorf("another of the name is told from the first by nothing: %+v", op)
	}
}
