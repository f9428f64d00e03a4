package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// stormed is what a storm cost.
type stormed struct {
	load.CrowdReport
	each    float64 // seconds of the server's processor time per device
	first   float64 // the same when the devices came for the first time
	p99     time.Duration
	calm    time.Duration // p99 before
	late    uint64        // frames not sent, because a window was not acknowledged yet; p99 leaves them out
	devices int
}

// storm breaks all connections at once and measures how they come back, of the bare server and of a hub.
func (b *linkBench) storm(ctx context.Context, dir string, useTLS bool) error {
	fmt.Fprintf(b.out, "%-22s %8s %9s %9s %12s %12s %8s %7s %7s %10s %10s %6s\n", "", "devices", "all back", "half", "first us",
		"again us", "dials", "refused", "faults", "p99 before", "p99 within", "late")
	bare, err := b.startBare(dir, useTLS, true, talkers)
	if err != nil {
		return err
	}
	base, talk, err := b.stormsOf(ctx, bare, "bare, same tokens")
	if err := errors.Join(err, bare.kill()); err != nil {
		return err
	}
	hub, err := b.startHub("storm", hubSpec{Dir: dir, TLS: useTLS, OwnKeys: true}, talkers)
	if err != nil {
		return err
	}
	got, beside, err := b.stormsOf(ctx, hub, "hub")
	if err := errors.Join(err, b.end(hub)); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "hub to bare, processor time: first %.2f, again %.2f; p99 within to before: bare %.1f, hub %.1f\n",
		got.first/base.first, got.each/base.each, talk.rise(), beside.rise())
	return nil
}

// talkers is how many devices send while the others storm, and stay on line.
const talkers = 200

// stormsOf lets devices storm a server alone, and then beside talkers.
func (b *linkBench) stormsOf(ctx context.Context, s *linkServer, name string) (alone, beside stormed, err error) {
	if alone, err = b.stormOf(s); err != nil {
		return alone, beside, err
	}
	b.stormRow(name, alone)
	if beside, err = b.stormBeside(ctx, s); err != nil {
		return alone, beside, err
	}
	b.stormRow(fmt.Sprintf("%s, %d at 5 frames/s", s.name, talkers), beside)
	return alone, beside, nil
}

// rise is how many times longer the slowest of those who stay on line wait for their acks in a storm.
func (s stormed) rise() float64 { return float64(s.p99) / float64(s.calm) }

func (b *linkBench) stormRow(name string, s stormed) {
	ms := func(d time.Duration) string {
		if d == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	}
	fmt.Fprintf(b.out, "%-22s %8d %8.2fs %8.2fs %12.0f %12.0f %8d %7d %7d %10s %10s %6d\n", name, s.devices, s.Took.Seconds(), s.Half.Seconds(),
		s.first*1e6, s.each*1e6, s.Dials, s.Refusals, s.Faults, ms(s.calm), ms(s.p99), s.late)
}

// aftermath is when a server has wound up the sessions of before.
const aftermath = time.Second

// costing runs fn and returns the server's processor time until a little after it.
func (s *linkServer) costing(fn func() error) (float64, error) {
	before, err := load.CPU(s.pid)
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	time.Sleep(aftermath)
	after, err := load.CPU(s.pid)
	return after - before, err
}

func (b *linkBench) stormOf(s *linkServer) (st stormed, err error) {
	c, err := startCrowd(load.CrowdSpec{Target: s.target})
	if err != nil {
		return st, err
	}
	defer c.kill()
	st.devices = b.devices()
	first, err := s.costing(func() (err error) {
		_, err = c.ask(crowdAsk{Join: st.devices})
		return err
	})
	if err != nil {
		return st, err
	}
	again, err := s.costing(func() (err error) {
		st.CrowdReport, err = c.ask(crowdAsk{Storm: true})
		return err
	})
	st.first, st.each = first/float64(st.devices), again/float64(st.devices)
	return st, err
}

// calm is how long the talkers are listened to before the storm.
func (b *linkBench) calm() time.Duration {
	if b.short {
		return 2 * time.Second
	}
	return 15 * time.Second
}

// The phases of the talkers' load.
const (
	phaseCalm = iota
	phaseStorm
	phaseOver
)

// stormMost ends a load whose storm does not.
const stormMost = 10 * time.Minute

// stormBeside breaks all connections while other devices send, and tells how long these waited for their acks.
func (b *linkBench) stormBeside(ctx context.Context, s *linkServer) (st stormed, err error) {
	c, err := startCrowd(load.CrowdSpec{Target: s.target})
	if err != nil {
		return st, err
	}
	defer c.kill()
	st.devices = b.devices()
	if _, err := c.ask(crowdAsk{Join: st.devices}); err != nil {
		return st, err
	}
	time.Sleep(3 * aftermath)
	warm := 2 * time.Second
	talk, err := startPart("load", load.Spec{
		URL: s.target.URL, Tokens: s.tokens, Lean: true, Window: 8, Rate: 5,
		Warm: warm, Measure: stormMost, Last: phaseOver, Settle: 10 * time.Second,
	})
	if err != nil {
		return st, err
	}
	select {
	case <-time.After(warm + b.calm()):
	case <-ctx.Done():
		return st, errors.Join(ctx.Err(), talk.kill())
	}
	err = talk.next()
	if err == nil {
		st.CrowdReport, err = c.ask(crowdAsk{Storm: true})
	}
	if err == nil {
		err = talk.next()
	}
	if err != nil {
		return st, errors.Join(err, talk.kill())
	}
	var r load.Result
	if err := talk.answer(&r); err != nil {
		return st, errors.Join(err, talk.kill())
	}
	if r.Acked != r.Sent {
		err = fmt.Errorf("%d of %d frames acknowledged", r.Acked, r.Sent)
	}
	if len(r.Phases) <= phaseStorm {
		return st, errors.Join(fmt.Errorf("the storm outlasted the load: %d phases", len(r.Phases)), talk.stop())
	}
	st.calm, st.p99, st.late = r.Phases[phaseCalm].P99, r.Phases[phaseStorm].P99, r.Late
	return st, errors.Join(err, talk.stop())
}
