package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
)

// maxCode bounds what is kept of a device's error code.
const maxCode = 64

// hear is told of every change of every command.
func (r *run) hear(c commands.Command) {
	if c.Job != r.id {
		return
	}
	i, ok := r.index[c.Device]
	if !ok {
		return
	}
	r.mu.Lock()
	r.heard[i] = c
	r.mu.Unlock()
	if c.State.Final() {
		signal(r.wake)
	}
}

// settle takes in what was heard.
func (r *run) settle() {
	r.mu.Lock()
	heard := r.heard
	r.heard = make(map[int]commands.Command)
	r.mu.Unlock()
	for i, c := range heard {
		r.take(i, c)
	}
}

// take notes how a device's command stands. What has ended stays, but a late answer replaces a time-out.
func (r *run) take(i int, c commands.Command) {
	old := r.results[i]
	if s := commands.State(old.State); old.Command != "" && (old.Command != c.ID || s.Final() && (s != commands.TimedOut || !c.Late)) {
		return
	}
	next := stored{Command: c.ID, State: string(c.State)}
	if c.State.Final() && c.Error != nil {
		next.Code = strings.ToValidUTF8(c.Error.Code[:min(len(c.Error.Code), maxCode)], "")
	}
	delete(r.again, i)
	r.set(i, next)
}

func (r *run) set(i int, next stored) {
	if r.results[i] == next {
		return
	}
	r.count(r.results[i].State, -1)
	r.count(next.State, 1)
	r.results[i] = next
	r.dirty[i/chunkDevices] = true
}

func (r *run) count(state string, n int) {
	if state == "" {
		return
	}
	r.counts[state] += n
	if state != Refused && !commands.State(state).Final() {
		return
	}
	r.ended += n
	if s := commands.State(state); s != commands.Succeeded && s != commands.Cancelled {
		r.failed += n
	}
}

// look looks at every open command: a change may not have been heard.
func (r *run) look(ctx context.Context) error {
	r.looked = time.Now()
	for i := range r.progress.Started {
		s := r.results[i]
		if s.Command == "" || commands.State(s.State).Final() {
			continue
		}
		c, ok := r.j.router.Peek(s.Command)
		if !ok {
			var err error
			c, err = r.j.router.Command(ctx, s.Command)
			switch {
			case errors.Is(err, commands.ErrNotFound): // the log was cut
				c = commands.Command{ID: s.Command, State: commands.TimedOut}
			case err != nil:
				return fmt.Errorf("look at command %s: %w", s.Command, err)
			}
		}
		r.take(i, c)
	}
	return nil
}

// intend records that the commands of the next n devices are about to be asked for.
func (r *run) intend(ctx context.Context, n int) error {
	r.progress.Started += n
	r.progress.Intent = time.Now().UnixMilli()
	return r.storeProgress(ctx)
}

func (r *run) storeProgress(ctx context.Context) error {
	r.progress.Counts = maps.Clone(r.counts)
	rev, err := r.j.store.put(ctx, key(r.id, progressKey), r.progress, r.progressRev)
	if err != nil {
		return err
	}
	r.progressRev, r.told = rev, fmt.Sprint(r.counts)
	r.j.takeProgress(r.id, r.progress, rev)
	return nil
}

// flush stores the results that changed and the counts.
func (r *run) flush(ctx context.Context) error {
	for n := range r.dirty {
		part := r.results[n*chunkDevices : min((n+1)*chunkDevices, len(r.results))]
		rev, err := r.j.store.put(ctx, chunkKey(r.id, resultsKey, n), part, r.revs[n])
		if err != nil {
			return err
		}
		r.revs[n] = rev
		delete(r.dirty, n)
	}
	r.flushed = time.Now()
	if r.told == fmt.Sprint(r.counts) && r.progressRev > 0 {
		return nil
	}
	return r.storeProgress(ctx)
}
