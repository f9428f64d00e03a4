package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// Fleet knows the devices. It must not block.
type Fleet interface {
	// Select returns the ids of all devices that a selector fits.
	Select(s selector.Selector) []string
	Labels(device string) (labels map[string]string, known bool)
	// Born returns when the device's record was made, in Unix milliseconds.
	Born(device string) (born int64, known bool)
	Online(device string) bool
}

// Options are what Jobs are made of.
type Options struct {
	Bus     *bus.Bus
	Router  *commands.Router
	Fleet   Fleet
	Makers  Makers
	Audit   Audit
	Keep    time.Duration // after its end
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Jobs keeps and drives jobs. It is safe for concurrent use.
type Jobs struct {
	// static after New
	router  *commands.Router
	fleet   Fleet
	makers  Makers
	audit   Audit
	bus     *bus.Bus
	store   *store
	keep    time.Duration
	log     *slog.Logger
	metrics *metrics
	ready   chan struct{}
	changed chan struct{} // for the driver

	mu    sync.Mutex
	known map[string]*entry // guarded by mu
}

// entry is a job in memory, on every node.
type entry struct {
	job         Job
	rev         uint64
	progress    progress
	progressRev uint64
	wake        chan struct{} // of who drives it here
}

// New returns Jobs. It starts nothing: Run does.
func New(ctx context.Context, o Options) (*Jobs, error) {
	kv, err := o.Bus.Bucket(ctx, bus.BucketJobs)
	if err != nil {
		return nil, err
	}
	j := &Jobs{
		router: o.Router, fleet: o.Fleet, makers: o.Makers, audit: o.Audit, bus: o.Bus, store: &store{o.Bus, kv}, keep: o.Keep, log: o.Log,
		ready: make(chan struct{}), changed: make(chan struct{}, 1), known: make(map[string]*entry),
	}
	j.metrics = newMetrics(o.Metrics, j.active)
	return j, nil
}

// Ready is closed once the jobs are in memory. Until then calls wait.
func (j *Jobs) Ready() <-chan struct{} { return j.ready }

// Run follows the jobs and, on one node at a time, drives them until ctx ends. The Router must run longer.
func (j *Jobs) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { j.watch(ctx); return nil })
	g.Go(func() error {
		select {
		case <-j.ready:
			return j.bus.Hold(ctx, "jobs", j.drive)
		case <-ctx.Done():
			return nil
		}
	})
	return g.Wait()
}

func (j *Jobs) awaitReady(ctx context.Context) error {
	select {
	case <-j.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("jobs are not ready: %w", ctx.Err())
	}
}

// take puts what is younger than what is known into memory.
func (j *Jobs) take(id string, job *Job, rev uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entryLocked(id)
	if rev <= e.rev {
		return
	}
	e.job, e.rev = *job, rev
	if e.wake != nil {
		signal(e.wake)
	}
	signal(j.changed)
}

func (j *Jobs) entryLocked(id string) *entry {
	e := j.known[id]
	if e == nil {
		e = &entry{}
		j.known[id] = e
	}
	return e
}

func (j *Jobs) takeProgress(id string, p progress, rev uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.entryLocked(id); rev > e.progressRev {
		e.progress, e.progressRev = p, rev
	}
}

// forgotten forgets what was known of a job before revision rev: one of the same key may have been made since.
func (j *Jobs) forgotten(id string, rev uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.known[id]; e != nil && e.rev < rev {
		delete(j.known, id)
	}
}

// view is a job with its counts.
func (e *entry) view() Job {
	v := e.job
	v.Started, v.Counts = e.progress.Started, make(map[string]int, len(e.progress.Counts)+1)
	left := v.Total
	for state, n := range e.progress.Counts {
		if n > 0 {
			v.Counts[state] = n
			left -= n
		}
	}
	if left > 0 {
		v.Counts[Pending] = left
	}
	return v
}

// Find returns a job.
func (j *Jobs) Find(ctx context.Context, id string) (Job, error) {
	if err := j.awaitReady(ctx); err != nil {
		return Job{}, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.known[id]
	if e == nil || e.rev == 0 {
		return Job{}, ErrNotFound
	}
	return e.view(), nil
}

// record is Find without the counts, for the driver.
func (j *Jobs) record(id string) (Job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.known[id]
	if e == nil || e.rev == 0 {
		return Job{}, false
	}
	return e.job, true
}

// List returns the jobs of an actor, or of all, the youngest first, after the one that cursor names. An empty next ends it.
func (j *Jobs) List(ctx context.Context, actor, cursor string, limit int) (page []Job, next string, err error) {
	if err := j.awaitReady(ctx); err != nil {
		return nil, "", err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*entry
	for _, e := range j.known {
		if e.rev > 0 && (actor == "" || e.job.Actor == actor) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(b.job.Created, a.job.Created), cmp.Compare(a.job.ID, b.job.ID))
	})
	if cursor != "" {
		i := slices.IndexFunc(all, func(e *entry) bool { return e.job.ID == cursor })
		if i < 0 {
			return nil, "", &commands.InvalidError{Kind: commands.ErrInvalidRequest, Path: "cursor", Message: "is not a cursor of this list"}
		}
		all = all[i+1:]
	}
	for _, e := range all {
		if len(page) == limit {
			return page, page[limit-1].ID, nil
		}
		page = append(page, e.view())
	}
	return page, "", nil
}

func (j *Jobs) active() float64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, e := range j.known {
		if e.rev > 0 && !e.job.over() {
			n++
		}
	}
	return float64(n)
}

// change alters a stored job by alter, which may refuse.
func (j *Jobs) change(ctx context.Context, id string, alter func(*Job) error) (Job, error) {
	for {
		var job Job
		rev, err := j.store.get(ctx, key(id, jobKey), &job)
		if err != nil {
			return Job{}, err
		}
		if rev == 0 {
			return Job{}, ErrNotFound
		}
		if err := alter(&job); err != nil {
			return job, err
		}
		job.Changed = time.Now().UnixMilli()
		rev, err = j.store.put(ctx, key(id, jobKey), &job, rev)
		if errors.Is(err, errConflict) {
			continue
		}
		if err != nil {
			return Job{}, err
		}
		j.take(id, &job, rev)
		return job, nil
	}
}

// Action is what an operator does with a job.
type Action string

// The actions.
const (
	Pause   Action = "pause"
	Resume  Action = "resume"
	Cancel  Action = "cancel"
	Approve Action = "approve"
)

// steps says which action leads from where to where.
var steps = map[Action]struct {
	from []State
	to   State
}{
	Pause:   {[]State{Running}, Paused},
	Resume:  {[]State{Paused}, Running},
	Cancel:  {[]State{Awaiting, Running, Paused}, Cancelled},
	Approve: {[]State{Awaiting}, Running},
}

// Steer changes what becomes of a job. It is durable when Steer returns; the driver follows.
func (j *Jobs) Steer(ctx context.Context, id string, a Action, actor string) (Job, error) {
	if err := j.awaitReady(ctx); err != nil {
		return Job{}, err
	}
	step, ok := steps[a]
	if !ok {
		return Job{}, fmt.Errorf("%w: %s", ErrWrongState, a)
	}
	_, err := j.change(ctx, id, func(job *Job) error {
		switch {
		case !slices.Contains(step.from, job.State) || job.over():
			return fmt.Errorf("%w: it is %s", ErrWrongState, job.State)
		case a == Approve && (actor == "" || actor == job.Actor):
			return commands.ErrSelfApproval
		case a == Approve:
			job.ApprovedBy = actor
		}
		job.State, job.ChangedBy = step.to, actor
		return nil
	})
	if err != nil {
		return Job{}, err
	}
	return j.Find(ctx, id)
}
