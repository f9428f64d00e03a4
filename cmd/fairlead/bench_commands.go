package main

import (
	"context"
	"encoding/json"
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

// commandsBench measures the way of a command from the operator's request to the device's result in its answer.
type commandsBench struct {
	short   bool
	only    string
	profile string
	dir     string

	out  io.Writer
	hub  hubAnswer
	bare load.PingPong // of a server at rest
	best float64       // telemetry frames a second that the hub takes by itself
}

// The devices of a hub under measurement.
const (
	commandRate  = 200 // commands a second of the open loop
	restDevices  = 100 // that they go to
	frameDevices = 200 // that send telemetry beside
	manyDevices  = 5000
)

// commandRound is one row of the table.
type commandRound struct {
	name      string
	devices   int
	rate      float64 // commands a second; 0: as fast as the operators ask
	operators int
	frames    float64 // telemetry beside, frames a second
	share     float64 // instead of frames: of the peak
	job       bool    // one job instead of many requests
}

func newBenchCommandsCommand() *cobra.Command {
	b := commandsBench{}
	cmd := &cobra.Command{
		Use: "commands", Args: exactArgs(0),
		Short: "Commands to devices and back: round trip at rest and under telemetry, and how many a second",
		Long: `Commands devices of a hub of its own, from a process of its own. A round trip is from the moment at which an operator
was due to ask, over HTTP, to the hub's answer that holds the device's result; the command, its result and the audit
record are on disk by then. Each run proves its count: what operators were told is held against what devices did.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.out = cmd.OutOrStdout()
			return b.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&b.short, "short", false, "a round of under a minute")
	cmd.Flags().StringVar(&b.only, "only", "", "only rounds whose name holds this")
	cmd.Flags().StringVar(&b.profile, "profile", "", "write a processor profile of the hub there")
	cmd.Flags().StringVar(&b.dir, "dir", "", "directory on the disk to measure (default: a temporary one)")
	return cmd
}

func (b *commandsBench) rounds() []commandRound {
	many := b.many()
	return []commandRound{
		{name: "at rest", devices: restDevices, rate: commandRate, operators: 256},
		{name: "20,000 frames/s beside", devices: restDevices, rate: commandRate, operators: 256, frames: 20_000},
		{name: "50% of peak beside", devices: restDevices, rate: commandRate, operators: 256, share: 0.5},
		{name: "many devices", devices: many, rate: commandRate, operators: 256},
		{name: "many, 64 operators", devices: many, operators: 64},
		{name: "many, 512 operators", devices: many, operators: 512},
		{name: "many, one job", devices: many, operators: 1, job: true},
	}
}

func (b *commandsBench) many() int {
	if b.short {
		return manyDevices / 10
	}
	return manyDevices
}

func (b *commandsBench) times() (warm, measure time.Duration) {
	if b.short {
		return 500 * time.Millisecond, 1500 * time.Millisecond
	}
	return 2 * time.Second, 10 * time.Second
}

func (b *commandsBench) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(b.dir, "fairlead-bench-")
	if err != nil {
		return fmt.Errorf("bench directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintf(b.out, "fairlead %s, %s, %d processors\n", version(), runtime.Version(), runtime.NumCPU())
	_, measure := b.times()
	if b.bare, err = b.pingPong(ctx, nil); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "bare gorilla/websocket ping-pong, %d/s: %s\n", commandRate, pingPongText(b.bare))
	disk, err := load.ProbeDisk(dir, 512, measure/5, time.Second/commandRate)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "disk: append and fdatasync of 512 bytes, %d/s: p50 %s, p99 %s\n", commandRate, disk.P50, disk.P99)
	fmt.Fprintf(b.out, "two round trips, of the operator and of the device, and two syncs: p50 %s\n", (2*b.bare.P50 + 2*disk.P50).Round(time.Microsecond))
	spec := hubSpec{Dir: filepath.Join(dir, "hub"), InfluxURL: nowhere, Devices: b.many() + frameDevices}
	if b.profile != "" {
		spec.Profile = filepath.Join(b.profile, "commands.pprof")
	}
	p, err := startPart("hub", spec)
	if err != nil {
		return err
	}
	if err := p.answer(&b.hub); err != nil {
		return errors.Join(err, p.kill())
	}
	err = b.table(ctx)
	if b.profile != "" {
		return errors.Join(err, p.stop()) // in order, so that the profile is written
	}
	return errors.Join(err, p.kill())
}

// pingPong measures the reference: the library's server with nothing behind it, and the same telemetry beside it if beside
// is given.
func (b *commandsBench) pingPong(ctx context.Context, beside *load.Spec) (got load.PingPong, err error) {
	p, err := startPart("echo", echoSpec{ReadBuffer: 4 << 10})
	if err != nil {
		return got, err
	}
	var echo echoAnswer
	if err := p.answer(&echo); err != nil {
		return got, errors.Join(err, p.kill())
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	warm, measure := b.times()
	if beside == nil {
		return load.RunPingPong(ctx, echo.URL, commandRate, measure/2)
	}
	spec := *beside
	spec.URL, spec.CAFile, spec.PIDs, spec.Metrics = echo.URL, "", []int{echo.PID}, ""
	spec.Warm, spec.Measure = warm, warm+measure/2
	talk, err := startPart("load", spec)
	if err != nil {
		return got, err
	}
	if err := awaitWork(ctx, echo.PID); err != nil {
		return got, errors.Join(err, talk.kill())
	}
	if got, err = load.RunPingPong(ctx, echo.URL, commandRate, measure/2); err != nil {
		return got, errors.Join(err, talk.kill())
	}
	var t load.Result
	if err := talk.answer(&t); err != nil {
		return got, errors.Join(err, talk.kill())
	}
	return got, talk.stop()
}

// awaitWork waits until a process is at work, and still is when it looks again: its loader has connected and sends.
func awaitWork(ctx context.Context, pid int) error {
	const look, busy, most = 250 * time.Millisecond, 0.04, 80 // of a processor; looks
	worked := false
	for range most {
		before, err := load.CPU(pid)
		if err != nil {
			return err
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := load.CPU(pid)
		if err != nil {
			return err
		}
		works := after-before >= busy*look.Seconds()
		if works && worked {
			return nil
		}
		worked = works
	}
	return fmt.Errorf("process %d was not loaded within %s", pid, most*look)
}

func pingPongText(p load.PingPong) string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s", p.P50.Round(time.Microsecond), p.P99.Round(time.Microsecond), p.Max.Round(time.Microsecond))
}

func (b *commandsBench) table(ctx context.Context) error {
	fmt.Fprintf(b.out, "%-24s %8s %9s %5s %6s %10s %8s %8s %8s %8s %9s %9s %6s %6s %5s\n", "round", "made", "succeeded", "lost", "double",
		"commands/s", "p50 ms", "p99 ms", "max ms", "x bare", "commits/c", "commit ms", "cores", "loader", "late")
	for _, r := range b.rounds() {
		if !strings.Contains(r.name, b.only) {
			continue
		}
		if err := b.round(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// round runs one row, with telemetry beside it if it wants some.
func (b *commandsBench) round(ctx context.Context, r commandRound) error {
	if r.share > 0 {
		if err := b.peak(); err != nil {
			return err
		}
		r.frames = b.best * r.share
	}
	warm, measure := b.times()
	var beside *part
	bare := b.bare
	if r.frames > 0 {
		var err error
		spec := b.telemetry(load.Spec{
			Window: 16, Rate: r.frames / frameDevices, Burst: max(1, int(r.frames/100_000)*8),
			Warm: warm, Measure: warm + measure + 2*time.Second,
		})
		if bare, err = b.pingPong(ctx, &spec); err != nil {
			return fmt.Errorf("bare server: %w", err)
		}
		// It begins before the commands and ends after them.
		if beside, err = startPart("load", spec); err != nil {
			return err
		}
	}
	got, err := runOrders(b.orders(r))
	if beside != nil {
		var t load.Result
		if terr := beside.answer(&t); terr != nil {
			err = errors.Join(err, terr, beside.kill())
		} else if err = errors.Join(err, beside.stop()); err == nil {
			r.name += fmt.Sprintf(" (%.0fk)", t.PerSecond()/1000)
			defer fmt.Fprintf(b.out, "%24s %.0f frames/s, acked p50 %.2f ms, p99 %.2f ms, loader %.2f cores\n%24s %s\n", "beside it:",
				t.PerSecond(), float64(t.P50)/1e6, float64(t.P99)/1e6, t.OwnCPU/t.Seconds, "bare beside the same:", pingPongText(bare))
		}
	}
	if err != nil {
		return err
	}
	return b.proved(r, got, bare)
}

func (b *commandsBench) orders(r commandRound) load.OrderSpec {
	warm, measure := b.times()
	s := load.OrderSpec{
		URL: b.hub.URL, CAFile: b.hub.CA, Tokens: b.hub.Tokens[:r.devices], API: b.hub.API, Operator: b.hub.Operator,
		Rate: r.rate, Operators: r.operators, Job: r.job, Warm: warm, Measure: measure,
		PIDs: []int{b.hub.PID}, Metrics: b.hub.Admin + "/metrics",
	}
	for i := range r.devices {
		s.Devices = append(s.Devices, fmt.Sprintf("bench-%05d", i))
	}
	return s
}

// telemetry is a load of the devices that get no commands.
func (b *commandsBench) telemetry(s load.Spec) load.Spec {
	s.URL, s.CAFile, s.Tokens, s.PIDs, s.Metrics = b.hub.URL, b.hub.CA, b.hub.Tokens[b.many():], []int{b.hub.PID}, b.hub.Admin+"/metrics"
	s.Settle = 30 * time.Second
	return s
}

// peak measures how much telemetry the hub takes with nothing beside it.
func (b *commandsBench) peak() error {
	if b.best > 0 {
		return nil
	}
	warm, measure := b.times()
	got, err := runLoad(b.telemetry(load.Spec{Window: 16, Warm: warm / 2, Measure: measure / 4}))
	if err != nil {
		return err
	}
	b.best = got.PerSecond()
	fmt.Fprintf(b.out, "%24s %.0f frames/s\n", "telemetry alone, peak:", b.best)
	return nil
}

// proved prints the row, and fails if operators and devices do not agree.
func (b *commandsBench) proved(r commandRound, got load.OrderResult, bare load.PingPong) error {
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	fmt.Fprintf(b.out, "%-24s %8d %9d %5d %6d %10.0f %8.2f %8.2f %8.2f %8.1f %9.2f %9.2f %6.2f %6.2f %5d\n",
		r.name, got.Made, got.Succeeded, got.Lost, got.Double, got.PerSecond(), ms(got.P50), ms(got.P99), ms(got.Max),
		float64(got.P50)/float64(bare.P50), got.Commits/float64(max(got.Done, 1)), got.Waited/max(got.Commits, 1)*1000,
		got.CPU[0]/got.Seconds, got.OwnCPU/got.Seconds, got.Late)
	switch {
	case got.Refused > 0:
		return fmt.Errorf("%d requests refused, the first: %s", got.Refused, got.Problem)
	case got.Lost > 0 || got.Double > 0 || got.Succeeded != got.Made || got.Acted != got.Made:
		return fmt.Errorf("%d commands made, %d acted on, %d lost, %d double, ended as %v", got.Made, got.Acted, got.Lost, got.Double, got.Ended)
	}
	return nil
}

func runOrdersPart(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var spec load.OrderSpec
	if err := readSpec(ctx, in, &spec, nothing); err != nil {
		return err
	}
	r, err := load.RunOrders(ctx, spec)
	return errors.Join(err, out.Encode(r))
}

// runOrders commands from a process of its own.
func runOrders(spec load.OrderSpec) (r load.OrderResult, err error) {
	p, err := startPart("orders", spec)
	if err != nil {
		return r, err
	}
	if err := p.answer(&r); err != nil {
		return r, errors.Join(err, p.kill())
	}
	return r, p.stop()
}
