package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// footing is what a server holds at one number of sessions.
type footing struct {
	sessions         int
	asIs             float64 // resident, with the garbage of the way there
	rss, heap, stack float64 // after the garbage is gone
}

// slope is what one session more holds.
func slope(from, to footing) footing {
	n := float64(to.sessions - from.sessions)
	return footing{
		sessions: to.sessions, asIs: (to.asIs - from.asIs) / n, rss: (to.rss - from.rss) / n,
		heap: (to.heap - from.heap) / n, stack: (to.stack - from.stack) / n,
	}
}

// steps are the numbers of sessions that are looked at; the slope of all is between the second and the last.
func (b *linkBench) steps() []int {
	if b.short {
		return []int{200, 500, 1_000, 2_000}
	}
	return []int{1_000, 2_000, 5_000, 10_000, 15_000}
}

// greeting is how many frames each device sends before it is idle.
const greeting = 3

// idle measures what an idle session holds, of the bare server and of a hub.
func (b *linkBench) idle(ctx context.Context, dir string, useTLS bool) error {
	bare, err := b.startBare(dir, useTLS, false, 0)
	if err != nil {
		return err
	}
	base, err := b.idleOf(ctx, bare)
	if err := errors.Join(err, bare.kill()); err != nil {
		return err
	}
	hub, err := b.startHub("idle", hubSpec{Dir: dir, TLS: useTLS}, 0)
	if err != nil {
		return err
	}
	got, err := b.idleOf(ctx, hub)
	if err := errors.Join(err, b.end(hub)); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "hub to bare: resident %.2f, heap and stack %.2f\n", got.rss/base.rss, (got.heap+got.stack)/(base.heap+base.stack))
	return nil
}

func (b *linkBench) idleOf(ctx context.Context, s *linkServer) (all footing, err error) {
	c, err := startCrowd(load.CrowdSpec{Target: s.target, Frames: greeting})
	if err != nil {
		return all, err
	}
	defer c.kill()
	fmt.Fprintf(b.out, "%-5s %8s %14s %14s %12s %12s\n", s.name, "sessions", "as it is B", "resident B", "heap B", "stack B")
	var seen []footing
	for _, n := range b.steps() {
		if _, err := c.ask(crowdAsk{Join: n}); err != nil {
			return all, err
		}
		time.Sleep(b.rest(s))
		u, err := s.footing(ctx, n)
		if err != nil {
			return all, err
		}
		if len(seen) > 0 {
			b.slopeRow(fmt.Sprintf("%d-%d", seen[len(seen)-1].sessions, n), slope(seen[len(seen)-1], u))
		}
		seen = append(seen, u)
	}
	first, last := seen[0], seen[len(seen)-1]
	all = slope(seen[1], last)
	b.slopeRow(fmt.Sprintf("%d-%d", seen[1].sessions, last.sessions), all)
	b.flatness(first, seen)
	return all, b.idleCPU(ctx, s, c)
}

func (b *linkBench) slopeRow(span string, u footing) {
	fmt.Fprintf(b.out, "%14s %14.0f %14.0f %12.0f %12.0f\n", span, u.asIs, u.rss, u.heap, u.stack)
}

// flatness says how far the slopes from the first number of sessions to the others lie apart.
func (b *linkBench) flatness(first footing, seen []footing) {
	var all []float64
	for _, u := range seen[2:] {
		all = append(all, slope(first, u).rss)
	}
	low, high := slices.Min(all), slices.Max(all)
	fmt.Fprintf(b.out, "slopes from %d sessions lie within %.1f %%\n", first.sessions, 100*(high-low)/high)
}

// rest is how long sessions are idle before they are looked at. JetStream keeps what was last written of the log, a few MB that
// are of no session, for 10 s, and looks every 10 s; a short round has it in its figures. The bare server has no log.
func (b *linkBench) rest(s *linkServer) time.Duration {
	if b.short || s.name == "bare" {
		return 1500 * time.Millisecond
	}
	return 25 * time.Second
}

// footing reads what the server holds, before and after its garbage is gone.
func (s *linkServer) footing(ctx context.Context, sessions int) (u footing, err error) {
	u.sessions = sessions
	if u.asIs, err = load.Memory(s.pid); err != nil {
		return u, err
	}
	if err := errors.Join(s.settle(), s.settle()); err != nil {
		return u, err
	}
	if u.rss, err = load.Memory(s.pid); err != nil {
		return u, err
	}
	if u.heap, err = load.Counter(ctx, s.admin+"/metrics", "go_memstats_heap_inuse_bytes"); err != nil {
		return u, err
	}
	u.stack, err = load.Counter(ctx, s.admin+"/metrics", "go_memstats_stack_inuse_bytes")
	return u, err
}

// idleCPU measures what the sessions cost while nothing happens but heartbeats.
func (b *linkBench) idleCPU(ctx context.Context, s *linkServer, c crowd) error {
	idle := 40 * time.Second
	if b.short {
		idle = 3 * time.Second
	}
	if s.name == "bare" {
		return nil // it has no heartbeat
	}
	before, err := c.ask(crowdAsk{})
	if err != nil {
		return err
	}
	used, err := load.CPU(s.pid)
	if err != nil {
		return err
	}
	select {
	case <-time.After(idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := load.CPU(s.pid)
	if err != nil {
		return err
	}
	now, err := c.ask(crowdAsk{})
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%d idle sessions for %s: %.2f %% of a core, %d pings; connections lost: %d\n",
		now.Up, idle, 100*(after-used)/idle.Seconds(), now.Pings-before.Pings, now.Breaks)
	if now.Breaks > 0 {
		return fmt.Errorf("%d connections lost: %s", now.Breaks, now.LastErr)
	}
	return nil
}
