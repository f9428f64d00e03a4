package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// ingestBench measures the way from a device's frame to the log and to InfluxDB.
type ingestBench struct {
	short   bool
	only    string
	profile string
	dir     string

	out      io.Writer
	fsync    load.Disk
	best     float64 // frames a second of the first round
	directly float64 // points a second of the direct load
}

// round is one row of the table.
type round struct {
	name          string
	devices       int
	window        int
	rate          float64 // of one device; 0: as fast as it goes
	share         float64 // instead of rate: of the first round's frames a second, all devices together
	burst, points int
	tls, influx   bool
	bare          bool // the reference: no hub, but the bare server
}

func newBenchIngestCommand() *cobra.Command {
	b := ingestBench{}
	cmd := &cobra.Command{
		Use: "ingest", Args: cobra.NoArgs,
		Short: "Frames acknowledged, their latency and cost, through to InfluxDB; each run proves its count",
		Long: `Loads a hub of its own from a process of its own. A frame counts when the hub has acknowledged it; after each run the
log, or InfluxDB, is counted and must hold exactly what was acknowledged. The hub is killed before the log is counted.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.out = cmd.OutOrStdout()
			return b.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&b.short, "short", false, "a round of under a minute")
	cmd.Flags().StringVar(&b.only, "only", "", "only rounds whose name holds this")
	cmd.Flags().StringVar(&b.profile, "profile", "", "write processor profiles of the hub there, one a round")
	cmd.Flags().StringVar(&b.dir, "dir", "", "directory on the disk to measure (default: a temporary one)")
	return cmd
}

// rounds are the rows, references beside what is held against them.
func (b *ingestBench) rounds() []round {
	many := 10_000
	if b.short {
		many = 2_000
	}
	return []round{
		{name: "log 200x16", devices: 200, window: 16},
		{name: "bare server 200x16", devices: 200, window: 16, bare: true},
		{name: "log 200x16 tls", devices: 200, window: 16, tls: true},
		{name: "log 200x1", devices: 200, window: 1},
		{name: "bare server 200x1", devices: 200, window: 1, bare: true},
		{name: "log 1,000 frames/s", devices: 200, window: 1, rate: 5},
		{name: "log 10% of peak", devices: 200, window: 16, share: 0.1, burst: 16},
		{name: "log 50% of peak", devices: 200, window: 16, share: 0.5, burst: 16},
		{name: "log 80% of peak", devices: 200, window: 16, share: 0.8, burst: 16},
		{name: "log 200, as many frames", devices: 200, window: 1, rate: 2 * float64(many) / 200},
		{name: "log many at 2/s", devices: many, window: 1, rate: 2},
		{name: "bare server many at 2/s", devices: many, window: 1, rate: 2, bare: true},
		{name: "influx 200x16", devices: 200, window: 16, influx: true},
		{name: "influx 100 points", devices: 200, window: 2, points: 100, influx: true},
	}
}

func (b *ingestBench) times() (warm, measure time.Duration) {
	if b.short {
		return 500 * time.Millisecond, 1500 * time.Millisecond
	}
	return 3 * time.Second, 10 * time.Second
}

func (b *ingestBench) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(b.dir, "fairlead-bench-")
	if err != nil {
		return fmt.Errorf("bench directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := b.references(ctx, dir); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%-24s %7s %10s %10s %5s %9s %9s %12s %6s %6s %9s %8s %8s %6s\n", "round", "frame B", "acked", "stored", "lost",
		"frames/s", "points/s", "cpu us/frame", "cores", "loader", "commits/s", "p50 ms", "p99 ms", "late")
	for i, r := range b.rounds() {
		if !strings.Contains(r.name, b.only) {
			continue
		}
		if err := b.round(ctx, filepath.Join(dir, fmt.Sprint(i)), r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// references measures what the disk and the bus do by themselves.
func (b *ingestBench) references(ctx context.Context, dir string) error {
	during := time.Second
	if b.short {
		during /= 2
	}
	fmt.Fprintf(b.out, "fairlead %s, %s, %d processors\n", version(), runtime.Version(), runtime.NumCPU())
	for _, block := range []int{200, 64 << 10, 256 << 10} {
		d, err := load.ProbeDisk(dir, block, during)
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "disk: append and fdatasync of %d bytes: %.0f/s, p50 %s, p99 %s\n", block, d.PerSec, d.P50, d.P99)
		if b.fsync.Block == 0 {
			b.fsync = d
		}
	}
	if b.only == "" {
		perSecond, err := perMessage(ctx, filepath.Join(dir, "per-message"), during)
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "jetstream, one frame a message, synced: %.0f/s\n", perSecond)
	}
	if !strings.Contains("influx 100 points", b.only) {
		return nil
	}
	_, measure := b.times()
	direct, err := directLoad(ctx, filepath.Join(dir, "direct"), 200, measure)
	if err != nil {
		return err
	}
	b.directly = direct.perSecond
	fmt.Fprintf(b.out, "influxdb-client-go, blocking, ready-made lines of 3 fields: %.0f points/s, influxd %.2f us a point\n",
		direct.perSecond, direct.cpu*1e6)
	return nil
}

// round runs one row.
func (b *ingestBench) round(ctx context.Context, dir string, r round) error {
	spec := load.Spec{
		Window: r.window, Rate: r.rate, Burst: r.burst, Points: r.points, Settle: 30 * time.Second,
		Tokens: make([]string, r.devices), Sources: r.devices / 5000,
	}
	spec.Warm, spec.Measure = b.times()
	if r.share > 0 {
		if b.best == 0 {
			return errors.New("needs the first round's figure")
		}
		spec.Rate = b.best * r.share / float64(r.devices)
	}
	if r.bare {
		return b.bareRound(spec, r)
	}
	var store *influxd
	hub := hubSpec{Dir: dir, InfluxURL: nowhere, TLS: r.tls, Devices: r.devices}
	if r.influx {
		var err error
		if store, err = startInflux(ctx, dir+"-influx"); err != nil {
			return err
		}
		defer store.stop()
		hub.InfluxURL = store.url
	}
	if b.profile != "" {
		hub.Profile = filepath.Join(b.profile, strings.NewReplacer(" ", "-", "/", "-").Replace(r.name)+".pprof")
	}
	return b.hubRound(ctx, hub, spec, r, store)
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
	b.row(r, got, got.Points, "-", got.Seconds)
	return nil
}

// hubRound loads a hub and proves its count.
func (b *ingestBench) hubRound(ctx context.Context, hub hubSpec, spec load.Spec, r round, store *influxd) error {
	p, err := startPart("hub", hub)
	if err != nil {
		return err
	}
	var at hubAnswer
	if err := p.answer(&at); err != nil {
		return errors.Join(err, p.kill())
	}
	spec.URL, spec.CAFile, spec.Tokens, spec.PIDs, spec.Metrics = at.URL, at.CA, at.Tokens, []int{at.PID}, at.Admin+"/metrics"
	before, start := 0.0, time.Now()
	if store != nil {
		spec.PIDs = append(spec.PIDs, store.cmd.Process.Pid)
		before, _ = load.CPU(at.PID)
	}
	got, err := runLoad(spec)
	if err != nil {
		return errors.Join(err, p.kill())
	}
	if b.best == 0 && spec.Rate == 0 {
		b.best = got.PerSecond()
	}
	if store == nil {
		if err := endHub(p, b.profile != ""); err != nil {
			return err
		}
		stored, err := countLog(ctx, filepath.Join(hub.Dir, "nats"))
		if err != nil {
			return err
		}
		return b.proved(r, got, stored, got.Seconds)
	}
	stored, err := awaitStored(ctx, store, int64(got.Points))
	took := time.Since(start)
	after, _ := load.CPU(at.PID)
	// Of the whole way, through to InfluxDB's answer.
	got.CPU[0] = (after - before) * float64(got.Frames) / float64(got.Acked)
	if err := errors.Join(err, endHub(p, b.profile != "")); err != nil {
		return err
	}
	return b.proved(r, got, stored, took.Seconds())
}

// endHub kills the hub, so that only what it had synced counts; or lets it end, so that its profile is written.
func endHub(p *part, inOrder bool) error {
	if inOrder {
		return p.stop()
	}
	return p.kill()
}

// proved prints the row, and fails if anything acknowledged is missing or anything is there twice.
func (b *ingestBench) proved(r round, got load.Result, stored int64, seconds float64) error {
	b.row(r, got, uint64(stored), fmt.Sprint(int64(got.Points)-stored), seconds)
	switch {
	case got.Rejected > 0 || got.Broken > 0:
		return fmt.Errorf("%d frames rejected, %d connections broken", got.Rejected, got.Broken)
	case got.Acked != got.Sent:
		return fmt.Errorf("%d of %d frames acknowledged in the end", got.Acked, got.Sent)
	case uint64(stored) != got.Points:
		return fmt.Errorf("%d points acknowledged, %d stored", got.Points, stored)
	}
	return nil
}

func (b *ingestBench) row(r round, got load.Result, stored uint64, lost string, seconds float64) {
	points := float64(got.Points) / seconds
	if seconds == got.Seconds {
		points = float64(got.Frames) * float64(max(r.points, 1)) / seconds
	}
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	fmt.Fprintf(b.out, "%-24s %7d %10d %10d %5s %9.0f %9.0f %12.2f %6.2f %6.2f %9.0f %8.2f %8.2f %6d\n",
		r.name, got.Bytes, got.Acked, stored, lost, got.PerSecond(), points,
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

// storedTime bounds how long InfluxDB may take for what is in the log.
const storedTime = 5 * time.Minute

// awaitStored waits until InfluxDB holds all that was acknowledged, and returns how much it holds.
func awaitStored(ctx context.Context, store *influxd, want int64) (n int64, err error) {
	for until := time.Now().Add(storedTime); time.Now().Before(until) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if n, err = store.count(ctx); err != nil || n >= want {
			return n, err
		}
	}
	return n, nil
}
