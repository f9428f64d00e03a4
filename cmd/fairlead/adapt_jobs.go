package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/commands/jobs"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// jobFleet is the device records as jobs see them.
type jobFleet struct {
	records  *devices.Records
	presence *devices.Presence
}

// selectPage is how many records are looked through at a time.
const selectPage = 1000

func (f jobFleet) Select(s selector.Selector) (ids []string) {
	q := devices.Query{Limit: selectPage}
	for {
		page, err := f.records.List(q, f.presence.Status)
		if err != nil {
			return ids
		}
		for _, rec := range page.Records {
			if s.Match(rec.Labels) {
				ids = append(ids, rec.ID)
			}
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			return ids
		}
	}
}

func (f jobFleet) Labels(device string) (map[string]string, bool) {
	rec, ok := f.records.Record(device)
	if !ok {
		return nil, false
	}
	return rec.Labels, true
}

func (f jobFleet) Born(device string) (int64, bool) {
	return devices.Directory{Records: f.records}.Born(device)
}

func (f jobFleet) Online(device string) bool {
	_, online := f.presence.Node(device)
	return online
}

// jobMakers are the operators as jobs know them, and the audit log.
type jobMakers struct{ *hub }

func (m jobMakers) Maker(ctx context.Context, name string) (jobs.Maker, error) {
	op, barred, err := m.api.JobMaker(ctx, name)
	return jobs.Maker{Since: op.Created, Within: op.Selector, Barred: barred}, err
}

func (m jobMakers) Stopped(ctx context.Context, job jobs.Job) error {
	return m.api.Audit(ctx, api.Record{
		Actor: job.ChangedBy, Action: "job.cancel", Target: job.ID, Outcome: "ok", Detail: "made by " + job.Actor + ": " + job.Reason,
	})
}

// leases are the router's leases as the API sees them.
type leases struct{ router *commands.Router }

func (l leases) Lease(ctx context.Context, device string) (api.Lease, error) {
	got, err := l.router.Lease(ctx, device)
	return api.Lease(got), refusal(err)
}

func (l leases) Hold(ctx context.Context, q api.LeaseRequest) (api.Lease, string, error) {
	got, from, err := l.router.Hold(ctx, q.Device, q.Actor, q.TTL, q.TakeOver)
	return api.Lease(got), from, refusal(err)
}

func (l leases) Release(ctx context.Context, device, actor string, force bool) (api.Lease, error) {
	got, err := l.router.Release(ctx, device, actor, force)
	return api.Lease(got), refusal(err)
}

func (c commander) Approve(ctx context.Context, id, actor string) (api.Command, error) {
	cmd, err := c.router.Approve(ctx, id, actor)
	return toCommand(cmd), refusal(err)
}

// jobRunner is jobs as the API sees them.
type jobRunner struct{ jobs *jobs.Jobs }

var jobRefusals = []struct{ from, to error }{
	{jobs.ErrNotFound, api.ErrJobNotFound},
	{jobs.ErrNoDevices, api.ErrNoDevices},
	{jobs.ErrTooManyDevices, api.ErrTooManyDevices},
	{jobs.ErrTooManyJobs, api.ErrTooManyJobs},
	{jobs.ErrWrongState, api.ErrJobState},
	{jobs.ErrBarred, api.ErrJobBarred},
}

func jobRefusal(err error) error {
	var confirm *jobs.ConfirmError
	if errors.As(err, &confirm) {
		return &api.Invalid{
			Status: 409, Code: "not_confirmed", Path: "confirm", Detail: confirm.Error() + ", and the job was not confirmed",
			Hint: fmt.Sprintf("repeat with \"confirm\": %d, the number of its devices (fairlead jobs create --yes)", confirm.Total),
		}
	}
	for _, r := range jobRefusals {
		if errors.Is(err, r.from) {
			return errors.Join(r.to, err)
		}
	}
	return refusal(err)
}

func jobRequest(q api.NewJob) jobs.Request {
	c := q.Command
	r := jobs.Request{
		Selector: q.Selector, Within: q.Within, Devices: q.Devices, Concurrency: q.Concurrency, Confirm: q.Confirm,
		Rollout: jobs.Rollout(q.Rollout), AbortIf: jobs.AbortIf(q.AbortIf), Actor: c.Actor, IdempotencyKey: c.IdempotencyKey,
		Order: jobs.Order{
			Name: c.Name, Params: c.Params, Timeout: c.Timeout, NotBefore: c.NotBefore, Priority: c.Priority,
			Retry: commands.Retry{Attempts: c.Attempts, Delay: c.AttemptDelay},
		},
	}
	if c.TTL != nil {
		r.Order.TTL, r.Order.OnlineOnly = *c.TTL, *c.TTL == 0
	}
	return r
}

func toJob(j jobs.Job) api.Job {
	out := api.Job{
		ID: j.ID, Actor: j.Actor, Created: j.Created, Selector: j.Selector, Rollout: api.Rollout(j.Rollout), Concurrency: j.Concurrency,
		AbortIf: api.AbortIf(j.AbortIf), State: string(j.State), Reason: j.Reason, Changed: j.Changed, ChangedBy: j.ChangedBy,
		ApprovedBy: j.ApprovedBy, Finished: j.Finished, Total: j.Total, Started: j.Started, Counts: j.Counts,
		Command: api.JobCommand{
			Name: j.Order.Name, Params: j.Order.Params, TTL: span(j.Order.TTL), Timeout: span(j.Order.Timeout),
			NotBefore: j.Order.NotBefore, Priority: j.Order.Priority,
		},
	}
	if j.Order.OnlineOnly {
		out.Command.TTL = "0"
	}
	if j.Order.Retry.Attempts > 0 {
		out.Command.Retry = &api.Retry{Attempts: j.Order.Retry.Attempts, Delay: j.Order.Retry.Delay.String()}
	}
	return out
}

func span(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func (r jobRunner) Create(ctx context.Context, q api.NewJob) (api.Job, error) {
	job, err := r.jobs.Create(ctx, jobRequest(q))
	return toJob(job), jobRefusal(err)
}

func (r jobRunner) Preview(ctx context.Context, q api.NewJob) (api.JobPreview, error) {
	targets, err := r.jobs.Preview(ctx, jobRequest(q))
	if err != nil {
		return api.JobPreview{}, jobRefusal(err)
	}
	out := api.JobPreview{DryRun: true, Total: len(targets), Devices: make([]api.JobTarget, len(targets))}
	for i, t := range targets {
		out.Devices[i] = api.JobTarget{Device: t.Device, Online: t.Online}
		if t.Online {
			out.Online++
		}
		if t.Refusal != nil {
			out.Devices[i].Refusal = jobs.Refusal(t.Refusal)
		}
	}
	return out, nil
}

func (r jobRunner) Find(ctx context.Context, id string) (api.Job, error) {
	job, err := r.jobs.Find(ctx, id)
	return toJob(job), jobRefusal(err)
}

func (r jobRunner) List(ctx context.Context, actor string, p api.Page) ([]api.Job, string, error) {
	page, next, err := r.jobs.List(ctx, actor, p.Cursor, p.Limit)
	if err != nil {
		return nil, "", jobRefusal(err)
	}
	out := make([]api.Job, len(page))
	for i, job := range page {
		out[i] = toJob(job)
	}
	return out, next, nil
}

func (r jobRunner) Devices(ctx context.Context, id, state string, p api.Page) ([]api.JobDevice, string, error) {
	page, next, err := r.jobs.Results(ctx, id, state, p.Cursor, p.Limit)
	if err != nil {
		return nil, "", jobRefusal(err)
	}
	out := make([]api.JobDevice, len(page))
	for i, d := range page {
		out[i] = api.JobDevice{Device: d.Device, State: d.State, Command: d.Command, Code: d.Code}
	}
	return out, next, nil
}

func (r jobRunner) Steer(ctx context.Context, id, action, actor string) (api.Job, error) {
	job, err := r.jobs.Steer(ctx, id, jobs.Action(action), actor)
	return toJob(job), jobRefusal(err)
}
