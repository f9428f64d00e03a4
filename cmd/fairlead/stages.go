package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stage is a long-lived part of the hub. Stages start in order and stop in reverse: each may rely on those before it for
// its whole life, so that what a device was promised on the way down is still kept.
type stage struct {
	name string
	run  func(ctx context.Context) error
	// ready, if set, is waited for before the next stage starts.
	ready <-chan struct{}
	// goodbye is how long it takes its time to stop, beside what any stage may need.
	goodbye time.Duration
}

// running is a stage at work.
type running struct {
	stage
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Limits of one stage.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 60 * time.Second
)

// runStages starts the stages, calls up when all stand, and stops them when ctx ends or one of them fails.
func runStages(ctx context.Context, log *slog.Logger, stages []stage, up func() error) error {
	failed := make(chan *running, len(stages))
	var started []*running
	err := func() error {
		for _, s := range stages {
			r := start(s, failed)
			started = append(started, r)
			if err := r.await(ctx); err != nil {
				return err
			}
			log.Debug("started", "part", s.name)
		}
		if err := up(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case r := <-failed:
			return fmt.Errorf("%s: %w", r.name, r.err)
		}
	}()
	for i := len(started) - 1; i >= 0; i-- {
		err = errors.Join(err, started[i].stop(log))
	}
	return err
}

func start(s stage, failed chan<- *running) *running {
	// The context of a stage is not the caller's: stages end one after the other.
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stage: s, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.run(ctx)
		if ctx.Err() == nil {
			if r.err == nil {
				r.err = errors.New("ended by itself")
			}
			failed <- r
		}
	}()
	return r
}

// await waits until the stage is ready.
func (r *running) await(ctx context.Context) error {
	if r.ready == nil {
		return nil
	}
	select {
	case <-r.ready:
		return nil
	case <-r.done:
		return fmt.Errorf("%s: %w", r.name, r.err)
	case <-ctx.Done():
		return nil
	case <-time.After(startTimeout):
		return fmt.Errorf("%s: not ready after %s", r.name, startTimeout)
	}
}

// stop ends the stage and waits for it.
func (r *running) stop(log *slog.Logger) error {
	r.cancel()
	select {
	case <-r.done:
		log.Debug("stopped", "part", r.name)
		if r.err != nil && !errors.Is(r.err, context.Canceled) {
			return fmt.Errorf("stop %s: %w", r.name, r.err)
		}
		return nil
	case <-time.After(stopTimeout + r.goodbye):
		return fmt.Errorf("stop %s: still at work after %s", r.name, stopTimeout+r.goodbye)
	}
}
