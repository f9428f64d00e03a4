package jobs

import (
	"context"
	"errors"
	"sync"
	"time"
)

// forgetEvery is when ended jobs are looked through for those past their time.
const forgetEvery = time.Hour

// drive drives all jobs that are not over, on the one node that holds the lease, until it loses it or ctx ends.
func (j *Jobs) drive(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan string, maxActive)
	driven := make(map[string]bool)
	old := time.NewTicker(forgetEvery)
	defer old.Stop()
	for {
		for _, id := range j.undriven(driven) {
			driven[id] = true
			wg.Go(func() {
				j.driveOne(ctx, id)
				select {
				case done <- id:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-j.changed:
		case id := <-done:
			delete(driven, id)
		case <-old.C:
			j.forgetOld(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// undriven lists the jobs that somebody must drive.
func (j *Jobs) undriven(driven map[string]bool) (ids []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, e := range j.known {
		if e.rev > 0 && !e.job.over() && e.job.State != Awaiting && !driven[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// driveOne drives a job to its end. After a fault it begins again from what is stored.
func (j *Jobs) driveOne(ctx context.Context, id string) {
	for ctx.Err() == nil {
		err := j.work(ctx, id)
		if err == nil || ctx.Err() != nil {
			return
		}
		level := j.log.Warn
		if errors.Is(err, errConflict) {
			level = j.log.Info
		}
		level("drive job", "job", id, "err", err)
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
		}
	}
}

func (j *Jobs) forgetOld(ctx context.Context) {
	before := time.Now().Add(-j.keep).UnixMilli()
	var ids []string
	j.mu.Lock()
	for id, e := range j.known {
		if e.job.over() && e.job.Finished < before {
			ids = append(ids, id)
		}
	}
	j.mu.Unlock()
	for _, id := range ids {
		if err := j.forget(ctx, id); err != nil && ctx.Err() == nil {
			j.log.Warn("forget job", "job", id, "err", err)
		}
	}
}
