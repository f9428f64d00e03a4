package jobs

import (
	"context"
	"time"
)

// Forget removes an ended job, as happens when its time is over.
func (j *Jobs) Forget(ctx context.Context, id string) error { return j.forget(ctx, id) }

// Rate is the rate after a number of devices.
func (r Rollout) Rate(started int) float64 { return r.rate(started) }

// NewPacer returns the pacer of a rollout.
func NewPacer(r Rollout) *pacer { return &pacer{rollout: r} }

// Resume is resume.
func (p *pacer) Resume(now, last time.Time, started int) { p.resume(now, last, started) }

// Take is take.
func (p *pacer) Take(now time.Time, started, want int) (int, time.Duration) {
	return p.take(now, started, want)
}

// Idle is how long a job has nothing to do that has started so many devices, of which so many have ended.
func Idle(ctx context.Context, job Job, started, ended int) (time.Duration, error) {
	r := &run{devices: make([]member, job.Total), progress: progress{Started: started}, ended: ended, pace: pacer{rollout: job.Rollout}}
	return r.start(ctx, &job)
}
