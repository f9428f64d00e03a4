package jobs

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/commands"
)

const (
	window     = 1000 // devices that one intent covers; their commands share a few commits
	againDelay = 5 * time.Second
	againTimes = 60
	keySafe    = 20 * time.Hour // idempotency keys are surely remembered that long
	findPage   = 100
)

// start makes commands for as many devices as may start now, and says when more may.
func (r *run) start(ctx context.Context, job *Job) (time.Duration, error) {
	now := time.Now()
	wait := flushEvery
	var turn []int
	for i, a := range r.again {
		if !a.at.After(now) {
			turn = append(turn, i)
		}
		if len(turn) == window {
			break
		}
	}
	fresh := len(turn) == 0
	if fresh {
		want := min(window, job.Concurrency-(r.progress.Started-r.ended), len(r.devices)-r.progress.Started)
		if want <= 0 {
			return flushEvery, nil // somebody must end first, and then this is woken
		}
		n, next := r.pace.take(now, r.progress.Started, want)
		wait = min(wait, next)
		if n == 0 {
			return max(wait, time.Millisecond), nil
		}
		for i := range n {
			turn = append(turn, r.progress.Started+i)
		}
		if err := r.intend(ctx, n); err != nil {
			return 0, err
		}
	}
	if err := r.make(ctx, job, turn, fresh); err != nil {
		return 0, err
	}
	if job.Concurrency-(r.progress.Started-r.ended) <= 0 || r.progress.Started == len(r.devices) {
		return flushEvery, nil // somebody must end first
	}
	return wait, nil
}

// made is what became of asking for one command.
type made struct {
	i   int
	c   commands.Command
	err error
}

// make asks for the commands of some devices.
func (r *run) make(ctx context.Context, job *Job, turn []int, fresh bool) error {
	var mu sync.Mutex
	var all []made
	old := !fresh && time.Since(time.UnixMilli(r.progress.Intent)) > keySafe
	g, gctx := errgroup.WithContext(ctx)
	for _, i := range turn {
		g.Go(func() error {
			c, err := r.command(gctx, job, r.devices[i], old)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, made{i, c, err})
			return nil
		})
	}
	// No part fails for all: what went wrong is each device's own.
	_ = g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, m := range all {
		r.note(m)
	}
	return nil
}

func (r *run) command(ctx context.Context, job *Job, device member, old bool) (commands.Command, error) {
	if old {
		if c, err := r.find(ctx, job, device.ID); !errors.Is(err, commands.ErrNotFound) {
			return c, err
		}
	}
	q := job.Order.request(device.ID, job.Actor, device.ID)
	q.Job, q.Approver, q.IdempotencyKey = job.ID, job.ApprovedBy, "job:"+job.ID+":"+device.ID
	q.Born, q.Permit = device.Born, func() error { return r.j.permit(ctx, job, device.ID) }
	return r.j.router.Create(ctx, q)
}

// note notes what became of asking for one command: it is there, it cannot be, or it is asked for again later.
func (r *run) note(m made) {
	code, final := refusal(m.err)
	switch {
	case m.err == nil:
		r.j.metrics.commands.Inc()
		r.take(m.i, m.c)
	case final || r.again[m.i].times >= againTimes:
		r.j.metrics.refused.Inc()
		delete(r.again, m.i)
		r.set(m.i, stored{State: Refused, Code: code})
	default:
		r.j.log.Debug("command of a job", "job", r.id, "device_id", r.devices[m.i].ID, "err", m.err)
		r.again[m.i] = attempt{at: time.Now().Add(againDelay), times: r.again[m.i].times + 1}
	}
}

// refusals are why a device gets no command, and whether that is for good.
var refusals = []struct {
	err   error
	code  string
	final bool
}{
	{commands.ErrUnknownDevice, "device_not_found", true},
	{commands.ErrOtherDevice, "device_replaced", true},
	{commands.ErrNotPermitted, "not_permitted", true},
	{commands.ErrUnknownCommand, "unknown_command", true},
	{commands.ErrInvalidParams, "invalid_params", true},
	{commands.ErrInvalidRequest, "invalid_request", true},
	{commands.ErrConfirmRequired, "not_confirmed", true},
	{commands.ErrHeld, "device_held", true},
	{commands.ErrOffline, "device_offline", true},
	{commands.ErrKeyReused, "idempotency_key_reused", true},
	{commands.ErrQueueFull, "queue_full", false},
	{commands.ErrOverloaded, "overloaded", false},
	{commands.ErrLogFull, "log_full", false},
}

func refusal(err error) (code string, final bool) {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.code, r.final
		}
	}
	return "unavailable", false
}

// Refusal is the code of why a device would get no command.
func Refusal(err error) string {
	code, _ := refusal(err)
	return code
}

// find looks in the log for the command that the job made for a device.
func (r *run) find(ctx context.Context, job *Job, device string) (commands.Command, error) {
	f := commands.Filter{Device: device, Actor: job.Actor, Limit: findPage}
	for {
		p, err := r.j.router.List(ctx, f)
		if err != nil {
			return commands.Command{}, err
		}
		for _, c := range p.Commands {
			if c.Job == job.ID {
				return c, nil
			}
			// Older by its time and by its place: a clock may have been set back, and a log begun anew.
			if c.Created < job.Created && commands.Place(c.ID) <= job.Place {
				return commands.Command{}, commands.ErrNotFound
			}
		}
		if f.Cursor = p.Cursor; f.Cursor == "" {
			return commands.Command{}, commands.ErrNotFound
		}
	}
}

// takeBack cancels what is open: everything if an operator cancelled the job, what still waits if it was aborted.
func (r *run) takeBack(ctx context.Context, job *Job) error {
	if err := r.resolve(ctx, job); err != nil {
		return err
	}
	actor := cmp.Or(job.ChangedBy, stoppedBy)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(window)
	for i := range r.progress.Started {
		s := r.results[i]
		open := s.Command != "" && !commands.State(s.State).Final()
		if !open || r.asked[i] || job.State == Aborted && s.State != string(commands.Queued) {
			continue
		}
		r.asked[i] = true
		g.Go(func() error {
			_, err := r.j.router.Cancel(gctx, s.Command, actor)
			if errors.Is(err, commands.ErrFinal) || errors.Is(err, commands.ErrNotFound) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// resolve finds out whether commands exist that were asked for and not seen: none is made any more.
func (r *run) resolve(ctx context.Context, job *Job) error {
	for i := range r.again {
		c, err := r.find(ctx, job, r.devices[i].ID)
		switch {
		case errors.Is(err, commands.ErrNotFound):
			delete(r.again, i)
			r.set(i, stored{State: string(commands.Cancelled)})
		case err != nil:
			return err
		default:
			r.take(i, c)
		}
	}
	return nil
}
