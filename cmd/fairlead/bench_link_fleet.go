package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// linkFleet is several hubs on one NATS server, each with a crowd of its own.
type linkFleet struct {
	nats   *natsServer
	hubs   []*fleetHub
	crowds []crowd
	each   int // devices at a hub
}

type fleetHub struct {
	*part
	at hubAnswer
}

// fleetSize is how many hubs there are, how many devices each holds, and how long commands are sent.
func (b *linkBench) fleetSize() (hubs, each int, during time.Duration) {
	if b.short {
		return 2, 500, 2 * time.Second
	}
	return 4, 15_000, 20 * time.Second
}

// fleet holds devices at several hubs that share one NATS server, and commands random ones from random hubs.
func (b *linkBench) fleet(ctx context.Context, dir string) (err error) {
	hubs, each, during := b.fleetSize()
	f := &linkFleet{each: each}
	defer func() { err = errors.Join(err, f.end()) }()
	start := time.Now()
	if err := f.start(dir, hubs, each); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%d hubs on one nats-server serve %d device records after %.1fs\n", hubs, hubs*each, time.Since(start).Seconds())
	start = time.Now()
	if err := f.join(); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%d devices on line after %.1fs\n", hubs*each, time.Since(start).Seconds())
	quiet := 35 * time.Second
	if b.short {
		quiet = 3 * time.Second
	}
	if err := b.fleetIdle(ctx, f, quiet); err != nil {
		return err
	}
	got, err := f.command(ctx, during)
	if err != nil {
		return err
	}
	b.fleetCommands(got)
	if err := f.unbroken(); err != nil {
		return err
	}
	if got.succeeded != len(got.took) {
		return fmt.Errorf("%d of %d commands succeeded, e.g. %s", got.succeeded, len(got.took), got.other)
	}
	return nil
}

func (f *linkFleet) start(dir string, hubs, each int) (err error) {
	if f.nats, err = startNATS(dir + "-nats"); err != nil {
		return err
	}
	for i := range hubs {
		spec := hubSpec{
			Dir: filepath.Join(dir, fmt.Sprint(i)), InfluxURL: nowhere, Node: fmt.Sprintf("hub-%d", i),
			NATS: []string{f.nats.URL}, KeysDir: filepath.Join(dir, "keys"), LogBytes: 1 << 30,
		}
		if i == 0 { // the others find the records on the bus
			spec.Devices = hubs * each
		}
		p, err := startPart("hub", spec)
		if err != nil {
			return err
		}
		h := &fleetHub{part: p}
		f.hubs = append(f.hubs, h)
		if i == 0 { // makes the keys that all use
			if err := p.answer(&h.at); err != nil {
				return err
			}
		}
	}
	for _, h := range f.hubs[1:] {
		if err := h.answer(&h.at); err != nil {
			return err
		}
	}
	return nil
}

func (f *linkFleet) end() (err error) {
	for _, c := range f.crowds {
		err = errors.Join(err, c.kill())
	}
	for _, h := range f.hubs {
		err = errors.Join(err, h.kill())
	}
	if f.nats != nil {
		err = errors.Join(err, f.nats.kill())
	}
	return err
}

// join brings all devices on line, at all hubs at once.
func (f *linkFleet) join() error {
	var g errgroup.Group
	for i, h := range f.hubs {
		c, err := startCrowd(load.CrowdSpec{Frames: 1, Target: load.Target{
			URL: h.at.URL, Tokens: f.hubs[0].at.Tokens[i*f.each : (i+1)*f.each], Sources: sources, Net: byte(i + 1), Lean: true,
		}})
		if err != nil {
			return err
		}
		f.crowds = append(f.crowds, c)
		g.Go(func() error {
			_, err := c.ask(crowdAsk{Join: f.each})
			return err
		})
	}
	return g.Wait()
}

// unbroken reports whether a device lost its connection.
func (f *linkFleet) unbroken() error {
	for _, c := range f.crowds {
		r, err := c.ask(crowdAsk{})
		if err != nil {
			return err
		}
		if r.Up != int64(f.each) || r.Breaks > 0 {
			return fmt.Errorf("%d of %d devices on line, %d connections lost: %s", r.Up, f.each, r.Breaks, r.LastErr)
		}
	}
	return nil
}

// fleetIdle measures what the hubs cost while the devices do nothing but answer pings.
func (b *linkBench) fleetIdle(ctx context.Context, f *linkFleet, during time.Duration) error {
	pids, names := []int{f.nats.PID}, []string{"nats-server"}
	for i, h := range f.hubs {
		pids, names = append(pids, h.at.PID), append(names, fmt.Sprintf("hub-%d", i))
	}
	before := make([]float64, len(pids))
	for i, pid := range pids {
		var err error
		if before[i], err = load.CPU(pid); err != nil {
			return err
		}
	}
	select {
	case <-time.After(during):
	case <-ctx.Done():
		return ctx.Err()
	}
	fmt.Fprintf(b.out, "%-12s %8s %12s %14s\n", "idle", "devices", "resident MB", "% of a core")
	for i, pid := range pids {
		after, err := load.CPU(pid)
		if err != nil {
			return err
		}
		rss, err := load.Memory(pid)
		if err != nil {
			return err
		}
		devices := "-"
		if i > 0 {
			devices = fmt.Sprint(f.each)
		}
		fmt.Fprintf(b.out, "%-12s %8s %12.0f %14.2f\n", names[i], devices, rss/1e6, 100*(after-before[i])/during.Seconds())
	}
	return nil
}

// commanded is what became of commands.
type commanded struct {
	succeeded int
	took      []time.Duration
	other     string // an answer that is no success
	seconds   float64
}

// operators is how many commands wait for their answer at once.
const operators = 8

// command sends commands to random devices, each by a hub that does not hold the device.
func (f *linkFleet) command(ctx context.Context, during time.Duration) (all commanded, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for range operators {
		g.Go(func() error {
			for time.Since(start) < during {
				asked := time.Now()
				state, body, err := f.commandOne(ctx)
				if err != nil {
					return err
				}
				mu.Lock()
				all.took = append(all.took, time.Since(asked))
				if state == "succeeded" {
					all.succeeded++
				} else {
					all.other = body
				}
				mu.Unlock()
			}
			return nil
		})
	}
	err = g.Wait()
	all.seconds = time.Since(start).Seconds()
	return all, err
}

func (f *linkFleet) commandOne(ctx context.Context) (state, body string, err error) {
	n := rand.N(len(f.hubs) * f.each)
	other := (n/f.each + 1 + rand.N(len(f.hubs)-1)) % len(f.hubs)
	at := f.hubs[other].at
	url := at.API + "/api/v1/devices/" + deviceName("", n) + "/commands?wait=20s"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"name":"blink","params":{"times":3}}`))
	if err != nil {
		return "", "", fmt.Errorf("command: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+at.Operator)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", fmt.Errorf("command: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", fmt.Errorf("command: %w", err)
	}
	var answer struct{ State string }
	if err := json.Unmarshal(raw, &answer); err != nil {
		return "", "", fmt.Errorf("command: %s: %w", bytes.TrimSpace(raw), err)
	}
	return answer.State, resp.Status + ": " + string(bytes.TrimSpace(raw)), nil
}

func (b *linkBench) fleetCommands(got commanded) {
	slices.Sort(got.took)
	at := func(q float64) float64 {
		if len(got.took) == 0 {
			return 0
		}
		return float64(got.took[int(q*float64(len(got.took)-1))]) / 1e6
	}
	fmt.Fprintf(b.out, "commands by another hub to random devices: %d sent, %d succeeded, %.0f/s, p50 %.2f ms, p99 %.2f ms, most %.2f ms\n",
		len(got.took), got.succeeded, float64(len(got.took))/got.seconds, at(0.5), at(0.99), at(1))
}
