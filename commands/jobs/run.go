package jobs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
)

// run is one job being driven.
type run struct {
	// static after load
	j       *Jobs
	id      string
	wake    chan struct{}
	devices []member
	index   map[string]int // device -> place

	// owned by work
	results     []stored
	revs        []uint64 // of the chunks of results
	dirty       map[int]bool
	counts      map[string]int
	ended       int // devices
	failed      int
	progress    progress
	progressRev uint64
	told        string // counts as stored
	pace        pacer
	again       map[int]attempt // devices whose command could not be made yet
	asked       map[int]bool    // to be taken back
	flushed     time.Time
	looked      time.Time

	mu    sync.Mutex
	heard map[int]commands.Command // guarded by mu: changes since the last look, by device
}

// attempt is when to ask again for a command.
type attempt struct {
	at    time.Time
	times int
}

const (
	flushEvery = time.Second
	lookEvery  = 5 * time.Second
)

// work drives a job from what is stored until all its commands have ended.
func (j *Jobs) work(ctx context.Context, id string) error {
	r := &run{
		j: j, id: id, wake: make(chan struct{}, 1), dirty: make(map[int]bool), counts: make(map[string]int),
		again: make(map[int]attempt), asked: make(map[int]bool), heard: make(map[int]commands.Command),
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	stop, err := j.router.Watch("*", r.hear)
	if err != nil {
		return err
	}
	defer stop()
	j.setWake(id, r.wake)
	defer j.setWake(id, nil)
	for {
		wait, over, err := r.step(ctx)
		if err != nil || over {
			return err
		}
		select {
		case <-r.wake:
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func (j *Jobs) setWake(id string, wake chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entryLocked(id).wake = wake
}

// load reads the job's devices, and what was recorded of them.
func (r *run) load(ctx context.Context) (err error) {
	job, ok := r.j.record(r.id)
	if !ok {
		return ErrNotFound
	}
	r.pace.rollout = job.Rollout
	r.index = make(map[string]int, job.Total)
	for n := 0; n*chunkDevices < job.Total; n++ {
		part, err := r.j.store.devices(ctx, r.id, job.List, n)
		if err != nil {
			return err
		}
		r.devices = append(r.devices, part...)
		results := make([]stored, 0, len(part))
		rev, err := r.j.store.get(ctx, chunkKey(r.id, resultsKey, n), &results)
		if err != nil {
			return err
		}
		r.revs = append(r.revs, rev)
		r.results = append(r.results, results...)
		for len(r.results) < len(r.devices) {
			r.results = append(r.results, stored{})
		}
	}
	if len(r.devices) != job.Total {
		return fmt.Errorf("job %s has %d devices stored, not %d", r.id, len(r.devices), job.Total)
	}
	for i, d := range r.devices {
		r.index[d.ID] = i
		r.count(r.results[i].State, 1)
	}
	if r.progressRev, err = r.j.store.get(ctx, key(r.id, progressKey), &r.progress); err != nil {
		return err
	}
	if r.progress.Started > 0 {
		r.pace.resume(time.Now(), time.UnixMilli(r.progress.Intent), r.progress.Started)
	}
	for i := range r.progress.Started {
		if r.results[i].State == "" {
			r.again[i] = attempt{} // it may have been made, and whoever made it died
		}
	}
	return nil
}

// step does what there is to do, and says how long there is nothing more.
func (r *run) step(ctx context.Context) (wait time.Duration, over bool, err error) {
	r.settle()
	if time.Since(r.looked) > lookEvery {
		if err := r.look(ctx); err != nil {
			return 0, false, err
		}
	}
	job, ok := r.j.record(r.id)
	if !ok {
		return 0, false, ErrNotFound
	}
	if err := r.checkMaker(ctx, &job); err != nil {
		return 0, false, err
	}
	if why := r.mustAbort(&job); why != "" {
		if job, err = r.abort(ctx, why); err != nil {
			return 0, false, err
		}
	}
	wait = flushEvery
	switch job.State {
	case Running:
		if wait, err = r.start(ctx, &job); err != nil {
			return 0, false, err
		}
	case Cancelled, Aborted:
		if err := r.takeBack(ctx, &job); err != nil {
			return 0, false, err
		}
	}
	r.settle()
	if r.over(&job) {
		return 0, true, r.finish(ctx)
	}
	if time.Since(r.flushed) > flushEvery {
		err = r.flush(ctx)
	}
	return min(wait, flushEvery), false, err
}

// over reports that no command of the job is open, nor will be.
func (r *run) over(job *Job) bool {
	started := r.ended == r.progress.Started && len(r.again) == 0
	return started && (job.State == Cancelled || job.State == Aborted || job.State != Paused && r.progress.Started == len(r.devices))
}

// mustAbort says why too much has failed, if it has.
func (r *run) mustAbort(job *Job) string {
	if job.State != Running && job.State != Paused || job.AbortIf.FailedPercent <= 0 || r.ended < max(job.AbortIf.After, 1) {
		return ""
	}
	if float64(r.failed)*100 < job.AbortIf.FailedPercent*float64(r.ended) {
		return ""
	}
	return fmt.Sprintf("%d of %d devices failed", r.failed, r.ended)
}

func (r *run) abort(ctx context.Context, why string) (Job, error) {
	return r.j.change(ctx, r.id, func(job *Job) error {
		if job.State == Running || job.State == Paused {
			job.State, job.Reason, job.ChangedBy = Aborted, why, ""
		}
		return nil
	})
}

// finish records that the job is over.
func (r *run) finish(ctx context.Context) error {
	if err := r.flush(ctx); err != nil {
		return err
	}
	job, err := r.j.change(ctx, r.id, func(job *Job) error {
		if job.State == Running || job.State == Paused { // paused when there was nothing more to pause
			job.State = Completed
		}
		job.Finished = time.Now().UnixMilli()
		return nil
	})
	if err != nil {
		return err
	}
	r.j.metrics.ended.WithLabelValues(string(job.State)).Inc()
	r.j.log.Info("job ended", "job", r.id, "state", job.State, "devices", len(r.devices), "started", r.progress.Started, "failed", r.failed)
	return nil
}
