package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// spec is the load of a round; who is loaded comes later.
func (b *ingestBench) spec(r round) (load.Spec, error) {
	spec := load.Spec{
		Window: r.window, Rate: r.rate, Burst: r.burst, Points: r.points, Small: r.small, Units: r.units, Settle: 30 * time.Second,
		Tokens: make([]string, r.devices), Sources: r.devices / 5000,
	}
	spec.Warm, spec.Measure = b.times()
	if r.passes > 0 {
		spec.Frames = uint64(r.units * r.passes / r.points)
		spec.Warm, spec.Measure = 0, time.Minute // it ends with its frames
	}
	if r.share > 0 {
		if b.best == 0 {
			return spec, errors.New("needs the first round's figure")
		}
		spec.Rate = b.best * r.share / float64(r.devices)
	}
	return spec, nil
}

// round runs one row.
func (b *ingestBench) round(ctx context.Context, dir string, r round) error {
	spec, err := b.spec(r)
	if err != nil {
		return err
	}
	if r.bare {
		return b.bareRound(spec, r)
	}
	if r.influx {
		got, s, err := b.throughHub(ctx, dir, r)
		if err != nil {
			return err
		}
		got.CPU[0] = s.cpu[0] * float64(got.Frames) * float64(max(r.points, 1)) // of the whole way, through to InfluxDB's answer
		b.row(r, got, s.points, s.stored)
		return nil
	}
	return b.logRound(ctx, b.hubSpec(dir, r), spec, r)
}

func (b *ingestBench) hubSpec(dir string, r round) hubSpec {
	hub := hubSpec{Dir: dir, InfluxURL: nowhere, TLS: r.tls, Devices: r.devices}
	if b.profile != "" {
		hub.Profile = filepath.Join(b.profile, strings.NewReplacer(" ", "-", "/", "-").Replace(r.name)+".pprof")
	}
	return hub
}

func (b *ingestBench) bareRound(spec load.Spec, r round) error {
	p, err := startPart("echo", echoSpec{ReadBuffer: 4 << 10})
	if err != nil {
		return err
	}
	var echo echoAnswer
	if err := p.answer(&echo); err != nil {
		return errors.Join(err, p.kill())
	}
	spec.URL, spec.PIDs = echo.URL, []int{echo.PID}
	got, err := runLoad(spec)
	if err := errors.Join(err, p.stop()); err != nil {
		return err
	}
	b.row(r, got, -1, got.PerSecond()*float64(max(r.points, 1)))
	return nil
}

// startHub starts a hub and points the load at it.
func startHub(hub hubSpec, spec *load.Spec) (*part, error) {
	p, err := startPart("hub", hub)
	if err != nil {
		return nil, err
	}
	var at hubAnswer
	if err := p.answer(&at); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	spec.URL, spec.CAFile, spec.Tokens, spec.PIDs, spec.Metrics = at.URL, at.CA, at.Tokens, []int{at.PID}, at.Admin+"/metrics"
	return p, nil
}

// logRound loads a hub whose InfluxDB is away, and counts the log.
func (b *ingestBench) logRound(ctx context.Context, hub hubSpec, spec load.Spec, r round) error {
	p, err := startHub(hub, &spec)
	if err != nil {
		return err
	}
	got, err := runLoad(spec)
	if err != nil {
		return errors.Join(err, p.kill())
	}
	if b.best == 0 && spec.Rate == 0 {
		b.best = got.PerSecond()
	}
	if err := b.endHub(p); err != nil {
		return err
	}
	stored, err := countLog(ctx, filepath.Join(hub.Dir, "nats"))
	if err != nil {
		return err
	}
	b.row(r, got, stored, got.PerSecond()*float64(max(r.points, 1)))
	return whole(got, stored)
}

// throughHub loads a hub with an influxd of its own.
func (b *ingestBench) throughHub(ctx context.Context, dir string, r round) (got load.Result, s side, err error) {
	spec, err := b.spec(r)
	if err != nil {
		return got, s, err
	}
	store, err := startInflux(ctx, dir+"-influx")
	if err != nil {
		return got, s, err
	}
	defer func() { err = errors.Join(err, store.stop(), os.RemoveAll(dir), os.RemoveAll(dir+"-influx")) }()
	hub := b.hubSpec(dir, r)
	hub.InfluxURL = store.url
	p, err := startHub(hub, &spec)
	if err != nil {
		return got, s, err
	}
	spec.PIDs = append(spec.PIDs, store.cmd.Process.Pid)
	got, s, err = loadThrough(ctx, spec, store)
	return got, s, errors.Join(err, b.endHub(p))
}

// endHub kills the hub, so that only what it had synced counts; or lets it end, so that its profile is written.
func (b *ingestBench) endHub(p *part) error {
	if b.profile != "" {
		return p.stop()
	}
	return p.kill()
}

// pair runs a round and its reference in turns.
func (b *ingestBench) pair(ctx context.Context, dir string, r round) error {
	_, measure := b.times()
	var ratio spread
	for range b.repeats() {
		direct, err := directLoad(ctx, filepath.Join(dir, "direct"), directSpec{devices: r.devices, units: r.units, passes: r.passes, during: measure})
		if err != nil {
			return err
		}
		_, hub, err := b.throughHub(ctx, filepath.Join(dir, "pair"), r)
		if err != nil {
			return err
		}
		ratio = append(ratio, hub.stored/direct.stored)
		fmt.Fprintf(b.out, "%-24s influxdb-client-go %8.0f points/s, influxd %.2f us; hub %8.0f points/s, hub %.2f us, influxd %.2f us, %d stored, lost 0; %.2f x\n",
			r.name, direct.stored, direct.cpu[0]*1e6, hub.stored, hub.cpu[0]*1e6, hub.cpu[1]*1e6, hub.points, hub.stored/direct.stored)
	}
	b.seen[r.name] = seen{ratio: ratio}
	return nil
}

// row prints a round; stored below 0: nothing is.
func (b *ingestBench) row(r round, got load.Result, stored int64, points float64) {
	b.seen[r.name] = seen{perSecond: got.PerSecond(), cpu: got.FrameCPU(), p50: got.P50, p99: got.P99}
	kept, lost := "-", "-"
	if stored >= 0 {
		kept, lost = fmt.Sprint(stored), fmt.Sprint(int64(got.Points)-stored)
	}
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	fmt.Fprintf(b.out, "%-24s %7d %10d %10s %5s %9.0f %9.0f %12.2f %6.2f %6.2f %9.0f %8.2f %8.2f %6d\n",
		r.name, got.Bytes, got.Acked, kept, lost, got.PerSecond(), points,
		float64(got.FrameCPU())/1e3, got.CPU[0]/got.Seconds, got.OwnCPU/got.Seconds, got.Batches/got.Seconds, ms(got.P50), ms(got.P99), got.Late)
}

// runLoad loads from a process of its own.
func runLoad(spec load.Spec) (r load.Result, err error) {
	p, err := startPart("load", spec)
	if err != nil {
		return r, err
	}
	if err := p.answer(&r); err != nil {
		return r, errors.Join(err, p.kill())
	}
	return r, p.stop()
}
