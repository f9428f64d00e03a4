package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newJobsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "jobs", Short: "Send one command to many devices", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(jobsCreate(f), jobsList(f), jobsShow(f))
	cmd.AddCommand(
		jobsSteer(f, "pause", "Start no more devices of a job"), jobsSteer(f, "resume", "Go on with a paused job"),
		jobsSteer(f, "cancel", "End a job and take its open commands back"),
		jobsSteer(f, "approve", "Let a job go that waits for a second operator"))
	return cmd
}

// jobOrder is what jobs create was asked.
type jobOrder struct {
	selector, ttl, timeout, params, key string
	devices                             []string
	perMinute, growth, failedPercent    float64
	after, concurrency                  int
	dryRun, yes                         bool
	course                              course
}

func jobsCreate(f *clientFlags) *cobra.Command {
	o := jobOrder{}
	cmd := &cobra.Command{
		Use:   "create NAME [key=value ...]",
		Short: "Send a command to all devices that a selector fits",
		Example: "  fairlead jobs create reboot --selector site=plant-7 --dry-run\n" +
			"  fairlead jobs create set_interval seconds=10 --selector site=plant-7 --per-minute 60 --growth 1.5 --abort-percent 10",
		Args: atLeast(1),
	}
	p := cmd.Flags()
	p.StringVarP(&o.selector, "selector", "l", "", "labels that must hold, as site=plant-7,line!=3")
	p.StringSliceVar(&o.devices, "devices", nil, "ids; with a selector those of them that fit")
	p.Float64Var(&o.perMinute, "per-minute", 0, "devices a minute; 0 is as fast as --concurrency allows")
	p.Float64Var(&o.growth, "growth", 0, "multiply the rate after each minute's worth of devices")
	p.IntVar(&o.concurrency, "concurrency", 0, "commands open at a time (default 1000)")
	p.Float64Var(&o.failedPercent, "abort-percent", 0, "give up when so many of the devices that ended have failed; 0 never does")
	p.IntVar(&o.after, "abort-after", 0, "but not before so many have ended (default 10)")
	p.BoolVar(&o.dryRun, "dry-run", false, "only list the devices that the job would reach")
	p.StringVar(&o.ttl, "ttl", "", "how long each command may wait for its device, as 1h")
	p.StringVar(&o.timeout, "timeout", "", "how long each device may take, as 30s")
	p.StringVar(&o.params, "params", "", "parameters as one JSON object")
	p.StringVar(&o.key, "key", "", "idempotency key; the same key again returns the first job")
	p.BoolVar(&o.yes, "yes", false, "confirm a command that a device calls dangerous")
	o.course.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return createJob(cmd, f, o, args) }
	return cmd
}

func createJob(cmd *cobra.Command, f *clientFlags, o jobOrder, args []string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	body, err := o.body(args)
	if err != nil {
		return err
	}
	q := request{method: http.MethodPost, path: "/jobs", body: body, header: http.Header{}}
	if o.dryRun || o.yes {
		body["dry_run"] = true
		var plan api.JobPreview
		_, raw, err := c.do(cmd.Context(), q, &plan)
		if err != nil || o.dryRun && c.json {
			return printRaw(cmd, raw, err)
		}
		if o.dryRun {
			return printPreview(cmd, plan)
		}
		delete(body, "dry_run")
		body["confirm"] = plan.Total
	}
	if o.key == "" {
		o.key = "cli-" + rand.Text()
	}
	q.header.Set("Idempotency-Key", o.key)
	var job api.Job
	_, raw, err := c.do(cmd.Context(), q, &job)
	if err != nil || c.json {
		return printRaw(cmd, raw, err)
	}
	return printJob(cmd, job)
}

func (o *jobOrder) body(args []string) (map[string]any, error) {
	command := map[string]any{"name": args[0]}
	params := map[string]any{}
	if o.params != "" {
		if err := json.Unmarshal([]byte(o.params), &params); err != nil {
			return nil, usage("--params is not a JSON object: %w", err)
		}
	}
	for _, word := range args[1:] {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, usage("parameter %q: want key=value", word)
		}
		v, err := typed(key, value, nil)
		if err != nil {
			return nil, err
		}
		params[key] = v
	}
	if len(params) > 0 || o.params != "" {
		command["params"] = params
	}
	if o.ttl != "" {
		command["ttl"] = o.ttl
	}
	if o.timeout != "" {
		command["timeout"] = o.timeout
	}
	if err := o.course.into(command); err != nil {
		return nil, err
	}
	body := map[string]any{"command": command}
	if o.selector != "" {
		body["selector"] = o.selector
	}
	if len(o.devices) > 0 {
		body["devices"] = o.devices
	}
	if o.perMinute != 0 || o.growth != 0 {
		body["rollout"] = api.Rollout{PerMinute: o.perMinute, Growth: o.growth}
	}
	if o.concurrency != 0 {
		body["concurrency"] = o.concurrency
	}
	if o.failedPercent != 0 || o.after != 0 {
		body["abort_if"] = api.AbortIf{FailedPercent: o.failedPercent, After: o.after}
	}
	return body, nil
}

func printPreview(cmd *cobra.Command, plan api.JobPreview) error {
	t := newTable(cmd.OutOrStdout(), "DEVICE", "STATUS", "REFUSED")
	for _, d := range plan.Devices {
		status := string(api.Offline)
		if d.Online {
			status = string(api.Online)
		}
		t.row(d.Device, status, d.Refusal)
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d devices, %d on line; nothing was sent\n", plan.Total, plan.Online)
	return err
}

// printJob prints what was asked, how far it is, and the counts.
func printJob(cmd *cobra.Command, job api.Job) error {
	out := cmd.OutOrStdout()
	line := fmt.Sprintf("%s  %s %s  %s  %d of %d devices", job.ID, job.Command.Name, job.Command.Params, job.State, job.Started, job.Total)
	if job.Finished == 0 && (job.State == "cancelled" || job.State == "aborted") {
		line += ", some still open"
	}
	if job.Reason != "" {
		line += ": " + job.Reason
	}
	fmt.Fprintln(out, plain(line))
	states := make([]string, 0, len(job.Counts))
	for state := range job.Counts {
		states = append(states, state)
	}
	sort.Strings(states)
	t := newTable(out, "STATE", "DEVICES")
	for _, state := range states {
		t.row(state, strconv.Itoa(job.Counts[state]))
	}
	return t.flush()
}

func jobsList(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List jobs, newest first", Args: exactArgs(0)}
	p := addPaging(cmd, 50)
	list := listing[api.Job]{
		path: "/jobs", items: "jobs", head: []string{"JOB", "CREATED", "NAME", "SELECTOR", "STATE", "STARTED", "DEVICES", "ACTOR"},
		row: func(x api.Job) []string {
			return []string{x.ID, moment(x.Created), x.Command.Name, x.Selector, x.State, strconv.Itoa(x.Started), strconv.Itoa(x.Total), x.Actor}
		},
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return list.print(cmd, f, p, nil) }
	return cmd
}

func jobsShow(f *clientFlags) *cobra.Command {
	var devices bool
	var state string
	cmd := &cobra.Command{Use: "show JOB", Short: "Show a job, with --devices what became of each device", Args: exactArgs(1)}
	cmd.Flags().BoolVar(&devices, "devices", false, "list the devices")
	cmd.Flags().StringVar(&state, "state", "", "only those in this state, as failed or refused")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		if devices || state != "" {
			return showJobDevices(cmd, c, args[0], state)
		}
		var job api.Job
		raw, err := c.get(cmd.Context(), "/jobs/"+escape(args[0]), nil, &job)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printJob(cmd, job)
	}
	return cmd
}

func showJobDevices(cmd *cobra.Command, c *client, id, state string) error {
	t := newTable(cmd.OutOrStdout(), "DEVICE", "STATE", "COMMAND", "CODE")
	q := url.Values{"limit": {"1000"}}
	if state != "" {
		q.Set("state", state)
	}
	for {
		var list struct {
			Devices []api.JobDevice `json:"devices"`
			Cursor  string          `json:"cursor"`
		}
		raw, err := c.get(cmd.Context(), "/jobs/"+escape(id)+"/devices", q, &list)
		switch {
		case err != nil:
			return err
		case c.json: // one answer a line
			if err := printRaw(cmd, raw, nil); err != nil {
				return err
			}
		}
		for _, d := range list.Devices {
			if !c.json {
				t.row(d.Device, d.State, d.Command, d.Code)
			}
		}
		if list.Cursor == "" {
			if c.json {
				return nil
			}
			return t.flush()
		}
		q.Set("cursor", list.Cursor)
	}
}

func jobsSteer(f *clientFlags, action, short string) *cobra.Command {
	return &cobra.Command{Use: action + " JOB", Short: short, Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var job api.Job
		_, raw, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/jobs/" + escape(args[0]) + "/" + action}, &job)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printJob(cmd, job)
	}}
}
