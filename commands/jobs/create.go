package jobs

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

const (
	maxKeyBytes = 255
	idLength    = 12
	retryDelay  = time.Second
)

// Target is a device that a job would reach.
type Target struct {
	Device  string
	Online  bool
	Refusal error // why the hub would make no command for it, as far as it can tell now
}

// Preview says what a job would reach. It changes nothing.
func (j *Jobs) Preview(ctx context.Context, q Request) ([]Target, error) {
	if err := j.begin(ctx, &q); err != nil {
		return nil, err
	}
	devices, err := j.reach(&q)
	if err != nil {
		return nil, err
	}
	targets := make([]Target, len(devices))
	for i, d := range devices {
		id := d.ID
		err := j.router.Check(ctx, q.command(id, id))
		if errors.Is(err, commands.ErrInvalidRequest) {
			return nil, inOrder(err)
		}
		targets[i] = Target{Device: id, Online: j.fleet.Online(id), Refusal: err}
	}
	return targets, nil
}

// Create makes a job and starts it, or returns the one that the same request made before with the same key. A job whose
// command needs a second operator for one of its devices waits for that.
func (j *Jobs) Create(ctx context.Context, q Request) (Job, error) {
	if err := j.begin(ctx, &q); err != nil {
		return Job{}, err
	}
	maker, err := j.makers.Maker(ctx, q.Actor)
	switch {
	case err != nil:
		return Job{}, err
	case maker.Barred != "": // since the request was let in
		return Job{}, fmt.Errorf("%w: %s", ErrBarred, maker.Barred)
	}
	job := Job{
		ID: newID(&q), Actor: q.Actor, Created: time.Now().UnixMilli(), Selector: q.Selector, Order: q.Order, Rollout: q.Rollout,
		Concurrency: q.Concurrency, AbortIf: q.AbortIf, List: rand.Text()[:idLength], State: Running, Changed: time.Now().UnixMilli(), ChangedBy: q.Actor,
		Place: j.router.Applied(), Within: q.Within, MakerSince: maker.Since,
	}
	if q.IdempotencyKey != "" {
		job.Body = q.digest()
		if made, err := j.Find(ctx, job.ID); err == nil {
			return same(made, job)
		}
	}
	devices, err := j.reach(&q) // not before: a device of the job that was made may be gone by now
	if err != nil {
		return Job{}, err
	}
	job.Total = len(devices)
	if err := j.check(ctx, &q, &job, devices); err != nil {
		return Job{}, err
	}
	if err := j.room(ctx); err != nil {
		return Job{}, err
	}
	if err := j.store.putDevices(ctx, job.ID, job.List, devices); err != nil {
		return Job{}, err
	}
	rev, err := j.store.put(ctx, key(job.ID, jobKey), &job, 0)
	if errors.Is(err, errConflict) { // the same key at the same time
		if err := j.store.forgetDevices(ctx, job.ID, job.List); err != nil {
			j.log.Warn("forget the list of a job that was made twice", "job", job.ID, "err", err)
		}
		made := Job{}
		if _, err := j.store.get(ctx, key(job.ID, jobKey), &made); err != nil {
			return Job{}, err
		}
		return same(made, job)
	}
	if err != nil {
		return Job{}, err
	}
	j.metrics.made.Inc()
	j.take(job.ID, &job, rev)
	return j.Find(ctx, job.ID)
}

func same(made, asked Job) (Job, error) {
	if made.Body != asked.Body {
		return Job{}, commands.ErrKeyReused
	}
	return made, nil
}

// begin checks what can be checked of the request alone.
func (j *Jobs) begin(ctx context.Context, q *Request) error {
	if err := j.awaitReady(ctx); err != nil {
		return err
	}
	return q.check()
}

// reach lists the devices of a request. One that it names must be there, for who misspells a device must not think that the
// job has reached it; one that the maker may not command is as if it were not.
func (j *Jobs) reach(q *Request) ([]member, error) {
	want, err := selector.Parse(q.Selector)
	if err != nil {
		return nil, invalid("/selector", err.Error())
	}
	within, err := selector.Parse(q.Within)
	if err != nil {
		return nil, invalid("/selector", err.Error())
	}
	for i, id := range q.Devices {
		if labels, known := j.fleet.Labels(id); !known || !within.Match(labels) {
			return nil, invalid(fmt.Sprintf("/devices/%d", i), fmt.Sprintf("%q is not known; nothing was made", id))
		}
	}
	ids := slices.Clone(q.Devices)
	if len(ids) == 0 {
		ids = j.fleet.Select(want)
	}
	slices.Sort(ids)
	var devices []member
	for _, id := range slices.Compact(ids) {
		born, _ := j.fleet.Born(id) // before the labels: if the device is another one by then, it is not reached
		if labels, known := j.fleet.Labels(id); known && want.Match(labels) && within.Match(labels) {
			devices = append(devices, member{id, born})
		}
	}
	switch {
	case len(devices) == 0:
		return nil, ErrNoDevices
	case len(devices) > MaxDevices:
		return nil, fmt.Errorf("%w: %d, at most %d", ErrTooManyDevices, len(devices), MaxDevices)
	}
	return devices, nil
}

// check asks the Router about each device: a request that can be nowhere is refused, a dangerous one wants to be
// confirmed with the number of devices, and one that needs a second operator makes the job wait.
func (j *Jobs) check(ctx context.Context, q *Request, job *Job, devices []member) error {
	for _, d := range devices {
		id := d.ID
		err := j.router.Check(ctx, q.command(id, ""))
		switch {
		case errors.Is(err, commands.ErrInvalidRequest):
			return inOrder(err)
		case errors.Is(err, commands.ErrConfirmRequired) && q.Confirm != len(devices):
			return &ConfirmError{Device: id, Total: len(devices)}
		}
		if j.router.NeedsApproval(id, q.Order.Name) {
			job.State = Awaiting
		}
	}
	return nil
}

func (q *Request) check() error {
	if q.Concurrency == 0 {
		q.Concurrency = DefaultConcurrency
	}
	if q.AbortIf.FailedPercent > 0 && q.AbortIf.After == 0 {
		q.AbortIf.After = DefaultAfter
	}
	switch {
	case q.Selector == "" && len(q.Devices) == 0:
		return invalid("/selector", "give a selector or a list of devices; a job never means all by leaving both out")
	case q.Concurrency < 1 || q.Concurrency > MaxConcurrency:
		return invalid("/concurrency", fmt.Sprintf("must be from 1 to %d", MaxConcurrency))
	case !(q.Rollout.PerMinute >= 0 && q.Rollout.PerMinute <= MaxPerMinute):
		return invalid("/rollout/per_minute", fmt.Sprintf("must be from 0 to %d", MaxPerMinute))
	case q.Rollout.Growth != 0 && !(q.Rollout.Growth >= 1 && q.Rollout.Growth <= MaxGrowth):
		return invalid("/rollout/growth", fmt.Sprintf("must be from 1 to %d", MaxGrowth))
	case q.Rollout.Growth > 1 && q.Rollout.PerMinute < 1:
		return invalid("/rollout/per_minute", "growth needs at least 1 a minute to grow from")
	case !(q.AbortIf.FailedPercent >= 0 && q.AbortIf.FailedPercent <= 100):
		return invalid("/abort_if/failed_percent", "must be from 0 to 100")
	case q.AbortIf.After < 0 || q.AbortIf.After > MaxDevices:
		return invalid("/abort_if/after", fmt.Sprintf("must be from 0 to %d", MaxDevices))
	case len(q.IdempotencyKey) > maxKeyBytes:
		return invalid("", fmt.Sprintf("Idempotency-Key: must be at most %d bytes", maxKeyBytes))
	}
	return nil
}

func invalid(path, message string) error {
	return &commands.InvalidError{Kind: commands.ErrInvalidRequest, Path: path, Message: message}
}

// inOrder says of a fault in a command where it is in the job.
func inOrder(err error) error {
	var inv *commands.InvalidError
	if !errors.As(err, &inv) {
		return err
	}
	return invalid("/command"+inv.Path, inv.Message)
}

// command is the request for one device.
func (q *Request) command(device, confirm string) commands.Request {
	return q.Order.request(device, q.Actor, confirm)
}

func (o *Order) request(device, actor, confirm string) commands.Request {
	r := commands.Request{
		Device: device, Name: o.Name, Params: o.Params, TTL: o.TTL, OnlineOnly: o.OnlineOnly, Timeout: o.Timeout,
		Priority: o.Priority, Retry: o.Retry, Actor: actor, Confirm: confirm,
	}
	if o.NotBefore > 0 {
		r.NotBefore = time.UnixMilli(o.NotBefore)
	}
	return r
}

// room makes room for one more job: the one that ended longest ago goes.
func (j *Jobs) room(ctx context.Context) error {
	j.mu.Lock()
	active, kept, oldest := 0, 0, ""
	for id, e := range j.known {
		switch {
		case e.rev == 0:
		case !e.job.over():
			active++
		default:
			if kept++; oldest == "" || cmp.Less(e.job.Finished, j.known[oldest].job.Finished) {
				oldest = id
			}
		}
	}
	j.mu.Unlock()
	if active >= maxActive {
		return fmt.Errorf("%w: %d", ErrTooManyJobs, active)
	}
	if active+kept < maxJobs {
		return nil
	}
	return j.forget(ctx, oldest)
}

func (j *Jobs) forget(ctx context.Context, id string) error {
	if err := j.store.forget(ctx, id); err != nil {
		return err
	}
	j.forgotten(id, math.MaxUint64)
	return nil
}

// newID is random, or made of the idempotency key: the same key finds the same job on every node.
func newID(q *Request) string {
	if q.IdempotencyKey == "" {
		return "J" + rand.Text()[:idLength]
	}
	return "J" + digest(q.Actor, q.IdempotencyKey)[:idLength]
}

func (q *Request) digest() string {
	order, _ := json.Marshal(q.Order) // it was JSON before
	rest, _ := json.Marshal([]any{q.Devices, q.Rollout, q.Concurrency, q.AbortIf})
	return digest(q.Selector, string(order), string(rest))
}

func digest(parts ...string) string {
	text, _ := json.Marshal(parts) // a list of strings: no two look alike
	sum := sha256.Sum256(text)
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])
}
