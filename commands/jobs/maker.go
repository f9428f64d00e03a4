package jobs

import (
	"context"
	"fmt"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// Makers knows the operators who make jobs.
type Makers interface {
	// Maker returns an operator as it stands now. An error says that this cannot be known now.
	Maker(ctx context.Context, name string) (Maker, error)
}

// Maker is an operator as it stands.
type Maker struct {
	Since  int64  // when its record was made, Unix milliseconds: the next operator of its name has another
	Within string // the selector that it is bound to
	Barred string // why it may make no job, or no more; empty: it may
}

// Audit records what the driver does to a job by itself. It returns once the record is durable.
type Audit interface {
	Stopped(ctx context.Context, job Job) error
}

// stoppedBy is who cancels a job whose maker may make no jobs any more, and the commands of one that aborts.
const stoppedBy = "hub"

// rights is what the maker of a job may now. A job lasts longer than the request that made it: whoever lost a right
// meanwhile must not go on using it.
type rights struct {
	barred string // why the job ends; empty: it goes on
	bound  []selector.Selector
}

// rights looks at who made a job.
func (j *Jobs) rights(ctx context.Context, job *Job) (rights, error) {
	m, err := j.makers.Maker(ctx, job.Actor)
	if err != nil {
		return rights{}, fmt.Errorf("who made job %s: %w", job.ID, err)
	}
	switch {
	case m.Barred != "":
		return rights{barred: m.Barred}, nil
	case job.MakerSince != 0 && job.MakerSince != m.Since:
		return rights{barred: fmt.Sprintf("operator %s was removed; who has the name now is another one", job.Actor)}, nil
	}
	var r rights
	for _, s := range []string{job.Within, m.Within} {
		bound, err := selector.Parse(s)
		if err != nil {
			return rights{barred: fmt.Sprintf("operator %s is bound to a selector that cannot be read: %v", job.Actor, err)}, nil
		}
		r.bound = append(r.bound, bound)
	}
	return r, nil
}

// permit says whether the maker of a job may command a device now.
func (j *Jobs) permit(ctx context.Context, job *Job, device string) error {
	r, err := j.rights(ctx, job)
	if err != nil {
		return err
	}
	labels, known := j.fleet.Labels(device)
	switch {
	case r.barred != "":
		return errBarred
	case !known:
		return commands.ErrUnknownDevice
	}
	for _, s := range r.bound {
		if !s.Match(labels) {
			return commands.ErrNotPermitted
		}
	}
	return nil
}

// checkMaker cancels the job if who made it may make no jobs any more.
func (r *run) checkMaker(ctx context.Context, job *Job) error {
	if job.State != Running && job.State != Paused {
		return nil
	}
	now, err := r.j.rights(ctx, job)
	if err != nil || now.barred == "" {
		return err
	}
	told := *job
	told.State, told.Reason, told.ChangedBy = Cancelled, now.barred, stoppedBy
	// First the record: a job that nobody could record goes on waiting, not sending.
	if err := r.j.audit.Stopped(ctx, told); err != nil {
		return err
	}
	*job, err = r.j.change(ctx, r.id, func(job *Job) error {
		if job.State == Running || job.State == Paused {
			job.State, job.Reason, job.ChangedBy = told.State, told.Reason, told.ChangedBy
		}
		return nil
	})
	return err
}
