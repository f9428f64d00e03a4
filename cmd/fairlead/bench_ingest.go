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

	out   io.Writer
	fsync load.Disk // one append after the other
	paced load.Disk // the same at pacedRate
	best  float64   // frames a second of the first round
	seen  map[string]seen
}

// seen is what a round measured.
type seen struct {
	perSecond float64 // frames
	cpu       time.Duration
	p50, p99  time.Duration
	ratio     spread // of a pair: hub to reference
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
	small         bool // 3 fields a point
	units, passes int  // series of one device, and points of each; 0: one series, and as many points as go
}

func newBenchIngestCommand() *cobra.Command {
	b := ingestBench{seen: make(map[string]seen)}
	cmd := &cobra.Command{
		Use: "ingest", Args: exactArgs(0),
		Short: "Frames acknowledged, their latency and cost, through to InfluxDB; each run proves its count",
		Long: `Loads a hub of its own from a process of its own. A frame counts when the hub has acknowledged it; after each run the
log, or InfluxDB, is counted and must hold exactly what was acknowledged. The hub is killed before the log is counted.
The whole takes about six minutes; it ends with what is asked of each figure beside the figure.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.out = cmd.OutOrStdout()
			return b.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&b.short, "short", false, "a round of about a minute")
	cmd.Flags().StringVar(&b.only, "only", "", "only rounds whose name holds this")
	cmd.Flags().StringVar(&b.profile, "profile", "", "write processor profiles of the hub there, one a round")
	cmd.Flags().StringVar(&b.dir, "dir", "", "directory on the disk to measure (default: a temporary one)")
	return cmd
}

// pacedRate is the frames a second of the rounds that look at the latency of one ack.
const pacedRate = 1000

// The names of rounds that a bar is about.
const (
	roundPeak     = "log 200x16"
	roundTLS      = "log 200x16 tls"
	roundOne      = "log 200x1"
	roundThousand = "log 1,000 frames/s"
	bareThousand  = "bare server 1,000/s"
	roundHalf     = "log 50% of peak"
	roundFew      = "log 200, as many frames"
	roundMany     = "log many at 2/s"
	pairHundred   = "influx 100 points"
	pairNew       = "influx new series"
)

// rounds are the rows, references beside what is held against them.
func (b *ingestBench) rounds() []round {
	many := b.pick(10_000, 2_000)
	return []round{
		{name: roundPeak, devices: 200, window: 16},
		{name: "bare server 200x16", devices: 200, window: 16, bare: true},
		{name: roundTLS, devices: 200, window: 16, tls: true},
		{name: roundOne, devices: 200, window: 1},
		{name: "bare server 200x1", devices: 200, window: 1, bare: true},
		{name: roundThousand, devices: 200, window: 1, rate: pacedRate / 200},
		{name: bareThousand, devices: 200, window: 1, rate: pacedRate / 200, bare: true},
		{name: "log 10% of peak", devices: 200, window: 16, share: 0.1, burst: 16},
		{name: roundHalf, devices: 200, window: 16, share: 0.5, burst: 16},
		{name: "log 80% of peak", devices: 200, window: 16, share: 0.8, burst: 16},
		{name: roundFew, devices: 200, window: 1, rate: 2 * float64(many) / 200},
		{name: roundMany, devices: many, window: 1, rate: 2},
		{name: "bare server many at 2/s", devices: many, window: 1, rate: 2, bare: true},
		{name: "influx 200x16", devices: 200, window: 16, influx: true},
	}
}

// pairs are the rounds through to InfluxDB whose reference is the same load without a hub. The new series are 100,000
// things behind 200 gateways, because one process holds at most some 19,000 sockets here: what is new to InfluxDB is the
// series, and a session of its own for each would measure handshakes.
func (b *ingestBench) pairs() []round {
	return []round{
		{name: pairHundred, devices: 200, window: 2, points: 100, small: true, influx: true},
		{name: pairNew, devices: 200, window: 4, points: 100, small: true, influx: true, units: b.pick(500, 100), passes: 5},
	}
}

// repeats of each pair, one after the other.
func (b *ingestBench) repeats() int { return b.pick(3, 1) }

func (b *ingestBench) pick(full, short int) int {
	if b.short {
		return short
	}
	return full
}

func (b *ingestBench) times() (warm, measure time.Duration) {
	if b.short {
		return 500 * time.Millisecond, 1500 * time.Millisecond
	}
	return 2 * time.Second, 8 * time.Second
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
	var failed error // one round that fails does not keep the others from being seen
	for i, r := range b.rounds() {
		if !strings.Contains(r.name, b.only) {
			continue
		}
		at := filepath.Join(dir, fmt.Sprint(i))
		if err := b.round(ctx, at, r); err != nil {
			failed = errors.Join(failed, b.failed(r, err))
		}
		if err := errors.Join(os.RemoveAll(at), ctx.Err()); err != nil {
			return err
		}
	}
	for _, r := range b.pairs() {
		if !strings.Contains(r.name, b.only) {
			continue
		}
		if err := b.pair(ctx, dir, r); err != nil {
			failed = errors.Join(failed, b.failed(r, err))
		}
	}
	b.printBars()
	return failed
}

func (b *ingestBench) failed(r round, err error) error {
	fmt.Fprintf(b.out, "%-24s failed: %v\n", r.name, err)
	return fmt.Errorf("%s: %w", r.name, err)
}

// references measures what the disk and the bus do by themselves.
func (b *ingestBench) references(ctx context.Context, dir string) error {
	during := time.Second
	if b.short {
		during /= 2
	}
	fmt.Fprintf(b.out, "fairlead %s, %s, %d processors\n", version(), runtime.Version(), runtime.NumCPU())
	for _, block := range []int{200, 64 << 10, 256 << 10} {
		d, err := load.ProbeDisk(dir, block, during, 0)
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "disk: append and fdatasync of %d bytes: %.0f/s, p50 %s, p99 %s\n", block, d.PerSec, d.P50, d.P99)
		if b.fsync.Block == 0 {
			b.fsync = d
		}
	}
	// A disk, and a processor, that have rested take longer than those that are kept awake.
	var err error
	if b.paced, err = load.ProbeDisk(dir, b.fsync.Block, during, time.Second/pacedRate); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "disk: the same of %d bytes, with a pause of 1/%d s between: p50 %s, p99 %s\n", b.paced.Block, pacedRate, b.paced.P50, b.paced.P99)
	if b.only != "" {
		return nil
	}
	perSecond, err := perMessage(ctx, filepath.Join(dir, "per-message"), during)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "jetstream, one frame a message, synced: %.0f/s\n", perSecond)
	return nil
}
