package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/fairlead-hub/fairlead/internal/selector"
)

// jobBody asks for a command to many devices.
type jobBody struct {
	Selector    string     `json:"selector"`
	Devices     []string   `json:"devices"`
	Command     jobCommand `json:"command"`
	Rollout     Rollout    `json:"rollout"`
	Concurrency int        `json:"concurrency"`
	AbortIf     AbortIf    `json:"abort_if"`
	Confirm     int        `json:"confirm"`
	DryRun      bool       `json:"dry_run"`
}

// jobCommand is commandBody without the confirmation, which a job gives with the number of its devices.
type jobCommand struct {
	Name      string          `json:"name"`
	Params    json.RawMessage `json:"params"`
	TTL       json.RawMessage `json:"ttl"`
	Timeout   string          `json:"timeout"`
	NotBefore int64           `json:"not_before"`
	Priority  *int            `json:"priority"`
	Retry     *retryBody      `json:"retry"`
}

func (a *API) postJob(c *call) (*reply, error) {
	q, dry, err := a.newJob(c)
	if err != nil {
		return nil, err
	}
	if dry {
		c.audit.Detail = "dry run, " + c.audit.Detail
		p, err := a.opts.Jobs.Preview(c.Context(), q)
		if err != nil {
			return nil, err
		}
		return ok(p), nil
	}
	job, err := a.opts.Jobs.Create(c.Context(), q)
	if err != nil {
		return nil, err
	}
	c.audit.Target = job.ID
	c.audit.Detail += fmt.Sprintf(", %d devices", job.Total)
	return &reply{
		status: http.StatusCreated, header: http.Header{"Location": {root + "/jobs/" + url.PathEscape(job.ID)}}, body: job,
	}, nil
}

func (a *API) newJob(c *call) (q NewJob, dry bool, err error) {
	var b jobBody
	if err := c.body(&b); err != nil {
		return q, false, err
	}
	key := c.Header.Get("Idempotency-Key")
	if len(key) > maxIdempotencyKey || !printable(key) {
		return q, false, &Invalid{Code: "invalid_idempotency_key", Path: "Idempotency-Key", Detail: fmt.Sprintf("Idempotency-Key: at most %d printable characters", maxIdempotencyKey)}
	}
	if _, err := selector.Parse(b.Selector); err != nil {
		return q, false, &Invalid{Code: "invalid_selector", Path: "selector", Detail: err.Error()}
	}
	n := NewCommand{Name: b.Command.Name, Params: b.Command.Params, Actor: c.who.name, IdempotencyKey: key}
	c.audit.Detail = "command " + clip(n.Name)
	body := commandBody{
		Name: b.Command.Name, Params: b.Command.Params, TTL: b.Command.TTL, Timeout: b.Command.Timeout,
		NotBefore: b.Command.NotBefore, Priority: b.Command.Priority, Retry: b.Command.Retry,
	}
	if err := body.into(&n, "command."); err != nil {
		return q, false, err
	}
	q = NewJob{
		Selector: b.Selector, Devices: b.Devices, Within: joinSelectors(c.who.bind), Command: n, Rollout: b.Rollout,
		Concurrency: b.Concurrency, AbortIf: b.AbortIf, Confirm: b.Confirm,
	}
	return q, b.DryRun, nil
}

type jobList struct {
	Jobs   []Job  `json:"jobs"`
	Cursor string `json:"cursor,omitempty"`
}

func (a *API) getJobs(c *call) (*reply, error) {
	p, err := page(c.URL.Query())
	if err != nil {
		return nil, err
	}
	actor := ""
	if c.who.bounded() {
		actor = c.who.name
	}
	found, cursor, err := a.opts.Jobs.List(c.Context(), actor, p)
	if err != nil {
		return nil, err
	}
	if found == nil {
		found = []Job{}
	}
	return ok(jobList{Jobs: found, Cursor: cursor}), nil
}

// ownJob finds the job of a call. An operator who is bound to part of the fleet sees only its own.
func (a *API) ownJob(c *call) (Job, error) {
	job, err := a.opts.Jobs.Find(c.Context(), c.PathValue("id"))
	if err == nil && c.who.bounded() && job.Actor != c.who.name {
		return Job{}, ErrJobNotFound
	}
	return job, err
}

func (a *API) getJob(c *call) (*reply, error) {
	job, err := a.ownJob(c)
	if err != nil {
		return nil, err
	}
	return ok(job), nil
}

type jobDeviceList struct {
	Devices []JobDevice `json:"devices"`
	Cursor  string      `json:"cursor,omitempty"`
}

func (a *API) getJobDevices(c *call) (*reply, error) {
	q := c.URL.Query()
	p, err := page(q)
	if err != nil {
		return nil, err
	}
	state := q.Get("state")
	if _, known := commandStates[state]; state != "" && state != "pending" && state != "refused" && !known {
		return nil, &Invalid{Code: "invalid_parameter", Path: "state", Detail: fmt.Sprintf("state %q is none of a device in a job", state)}
	}
	if _, err := a.ownJob(c); err != nil {
		return nil, err
	}
	found, cursor, err := a.opts.Jobs.Devices(c.Context(), c.PathValue("id"), state, p)
	if err != nil {
		return nil, err
	}
	if found == nil {
		found = []JobDevice{}
	}
	return ok(jobDeviceList{Devices: found, Cursor: cursor}), nil
}

// steerJob makes the handler of one action.
func (a *API) steerJob(action string) func(*call) (*reply, error) {
	return func(c *call) (*reply, error) {
		if _, err := a.ownJob(c); err != nil {
			return nil, err
		}
		job, err := a.opts.Jobs.Steer(c.Context(), c.PathValue("id"), action, c.who.name)
		if err != nil {
			return nil, err
		}
		return ok(job), nil
	}
}
