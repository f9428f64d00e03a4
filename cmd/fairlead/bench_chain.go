package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// chainBench holds the hub against what one would build from parts: Mosquitto, Telegraf, InfluxDB.
type chainBench struct {
	rounds  int
	measure time.Duration
	dir     string
	out     io.Writer
}

func newBenchChainCommand() *cobra.Command {
	var b chainBench
	cmd := &cobra.Command{
		Use: "chain", Args: exactArgs(0),
		Short: "Points through to InfluxDB beside Mosquitto and Telegraf, in turns",
		Long: `Two ways from 200 devices to an influxd 1.8.10 of their own, in turns in one run: through the hub (WebSocket, one point of
3 fields a frame, 16 frames in flight, each acknowledged once it is synced to disk), and through Mosquitto and Telegraf
(MQTT 3.1.1 at QoS 1, the same point as a line of line protocol a message, 16 in flight, acknowledged from memory). The
same loader drives both. A point counts once it was acknowledged; the time ends when influxd has taken the last one, and
influxd is asked by query how many it holds. .ci/telegraf installs Telegraf.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.out = cmd.OutOrStdout()
			return b.run(cmd.Context())
		},
	}
	cmd.Flags().IntVar(&b.rounds, "rounds", 3, "rounds of both")
	cmd.Flags().DurationVar(&b.measure, "measure", 10*time.Second, "how long each is loaded")
	cmd.Flags().StringVar(&b.dir, "dir", "", "directory on the disk to measure (default: a temporary one)")
	return cmd
}

// The load of both.
const (
	chainDevices = 200
	chainWindow  = 16
	chainBar     = 2.5
)

func (b *chainBench) run(ctx context.Context) (err error) {
	if b.rounds < 1 {
		return errors.New("--rounds: want at least 1")
	}
	dir, err := os.MkdirTemp(b.dir, "fairlead-bench-")
	if err != nil {
		return fmt.Errorf("bench directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk, err := load.ProbeDisk(dir, frameBytes, time.Second, 0)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "fairlead %s, %s, %d processors; fdatasync of %d bytes p50 %s\n", version(), runtime.Version(), runtime.NumCPU(), frameBytes, disk.P50)
	fmt.Fprintf(b.out, "%-6s %-22s %10s %12s %10s %6s  %s\n", "round", "way", "acked/s", "and stored/s", "stored", "lost", "processor us a point")
	var acked, stored, cost spread
	for i := range b.rounds {
		chain, err := b.chain(ctx, filepath.Join(dir, "chain"))
		if err != nil {
			return fmt.Errorf("mosquitto and telegraf: %w", err)
		}
		b.row(i, "mosquitto + telegraf", chain, "mosquitto", "telegraf", "influxd")
		hub, err := b.hub(ctx, filepath.Join(dir, "hub"))
		if err != nil {
			return fmt.Errorf("hub: %w", err)
		}
		b.row(i, "hub", hub, "hub", "influxd")
		acked = append(acked, hub.acked/chain.acked)
		stored = append(stored, hub.stored/chain.stored)
		cost = append(cost, (chain.cpu[0]+chain.cpu[1])/hub.cpu[0])
	}
	met := "met"
	if median(stored) < chainBar {
		met = "not met"
	}
	fmt.Fprintf(b.out, "\nacked and stored, hub beside the chain: %s x; bar >= %.1f x: %s\n", stored, chainBar, met)
	fmt.Fprintf(b.out, "acked alone: %s x; processor time of mosquitto and telegraf beside the hub's, a point: %s x\n", acked, cost)
	return nil
}

func (b *chainBench) row(round int, way string, s side, parts ...string) {
	fmt.Fprintf(b.out, "%-6d %-22s %10.0f %12.0f %10d %6d ", round+1, way, s.acked, s.stored, s.points, 0)
	for i, name := range parts {
		fmt.Fprintf(b.out, " %s %.2f", name, s.cpu[i]*1e6)
	}
	fmt.Fprintln(b.out)
}

// spec is the load of both ways.
func (b *chainBench) spec() load.Spec {
	return load.Spec{
		Window: chainWindow, Small: true, Tokens: make([]string, chainDevices),
		Warm: time.Second, Measure: b.measure, Settle: 30 * time.Second,
	}
}

func (b *chainBench) hub(ctx context.Context, dir string) (s side, err error) {
	store, err := startInflux(ctx, dir+"-influx")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, store.stop(), os.RemoveAll(dir), os.RemoveAll(dir+"-influx")) }()
	spec := b.spec()
	p, err := startHub(hubSpec{Dir: dir, InfluxURL: store.url, Devices: chainDevices}, &spec)
	if err != nil {
		return s, err
	}
	spec.PIDs = append(spec.PIDs, store.cmd.Process.Pid)
	_, s, err = loadThrough(ctx, spec, store)
	return s, errors.Join(err, p.kill())
}

func (b *chainBench) chain(ctx context.Context, dir string) (s side, err error) {
	store, err := startInflux(ctx, dir+"-influx")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, store.stop(), os.RemoveAll(dir), os.RemoveAll(dir+"-influx")) }()
	c, err := startChain(ctx, dir, store)
	if err != nil {
		return s, err
	}
	defer c.stop()
	spec := b.spec()
	spec.URL = "mqtt://" + c.addr
	spec.PIDs = []int{c.mosquitto.Process.Pid, c.telegraf.Process.Pid, store.cmd.Process.Pid}
	_, s, err = loadThrough(ctx, spec, store)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, c.log)
	}
	return s, err
}
