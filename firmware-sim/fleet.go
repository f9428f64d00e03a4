package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Bounds of a fleet.
const (
	maxDevices     = 100_000
	maxRate        = 1000 // points a second of one device: its clock counts milliseconds
	defaultSpread  = 2 * time.Second
	defaultReport  = 10 * time.Second
	bufferedPeriod = 10 * time.Minute // of points, within fleetBuffer
)

var fleetBuffer = struct{ least, most int }{64, 4096}

// FleetOptions describes a fleet of simulated devices.
type FleetOptions struct {
	Devices int
	Rate    float64  // points a second of each device
	Prefix  string   // device ids are <prefix>-1 ...; empty: <model>-1 ...
	Models  []string // taken in turn; empty: all
	Seed    uint64
	Faults  Faults
	Buffer  int           // points a device keeps; 0: ten minutes of its rate, 64 to 4096
	Spread  time.Duration // the devices' first connects are spread over it; 0: 2 s
	Report  time.Duration // between two lines of progress; 0: 10 s
	Out     io.Writer     // of progress and summary; nil: none
}

// Fleet is many devices in one process.
type Fleet struct {
	opts    FleetOptions
	uplink  *Uplink
	devices []*Device
}

// NewFleet checks the options and makes the devices. They do not run yet.
func NewFleet(u *Uplink, o FleetOptions) (*Fleet, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := u.prepare(); err != nil {
		return nil, err
	}
	f := &Fleet{opts: o, uplink: u}
	for i, id := range o.IDs() {
		d, err := NewDevice(u, DeviceOptions{
			ID: id, Model: o.Models[i%len(o.Models)], Interval: time.Duration(float64(time.Second) / o.Rate),
			Seed: mix(o.Seed + uint64(i)), Buffer: o.Buffer, Faults: o.Faults,
		})
		if err != nil {
			return nil, err
		}
		f.devices = append(f.devices, d)
	}
	return f, nil
}

func (o *FleetOptions) check() error {
	if o.Devices < 1 || o.Devices > maxDevices {
		return fmt.Errorf("fleet: %d devices, want 1 to %d", o.Devices, maxDevices)
	}
	if !(o.Rate >= 1/maxInterval.Seconds() && o.Rate <= maxRate) {
		return fmt.Errorf("fleet: a rate of %v points a second and device, want 1 an hour to %d a second", o.Rate, maxRate)
	}
	if len(o.Models) == 0 {
		o.Models = Models()
	}
	if o.Buffer <= 0 {
		o.Buffer = max(fleetBuffer.least, min(fleetBuffer.most, int(o.Rate*bufferedPeriod.Seconds())))
	}
	if o.Spread <= 0 {
		o.Spread = defaultSpread
	}
	if o.Report <= 0 {
		o.Report = defaultReport
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	return nil
}

// IDs returns the ids of the fleet's devices.
func (o FleetOptions) IDs() []string {
	models := o.Models
	if len(models) == 0 {
		models = Models()
	}
	ids := make([]string, o.Devices)
	for i := range ids {
		prefix := o.Prefix
		if prefix == "" {
			prefix = models[i%len(models)]
		}
		ids[i] = prefix + "-" + strconv.Itoa(i+1)
	}
	return ids
}

// Tally counts what the fleet has done so far.
func (f *Fleet) Tally() Tally {
	t := f.uplink.Counts.Tally()
	t.Devices = len(f.devices)
	return t
}

// Run keeps the fleet going until the context ends, and prints a line of progress now and then and a last one. It returns
// an error if every device was sent away for good: the first one's.
func (f *Fleet) Run(ctx context.Context) error {
	var running, reporting sync.WaitGroup
	errs, over := make([]error, len(f.devices)), make(chan struct{})
	for i := range f.devices {
		running.Go(func() { errs[i] = f.start(ctx, i) })
	}
	reporting.Go(func() { f.report(over) })
	running.Wait()
	close(over)
	reporting.Wait()
	f.print(f.Tally())
	if slices.Contains(errs, nil) {
		return nil
	}
	return fmt.Errorf("all devices stopped: %w", errs[0])
}

func (f *Fleet) start(ctx context.Context, i int) error {
	if !sleep(ctx, time.Duration(i)*f.opts.Spread/time.Duration(len(f.devices))) {
		return nil
	}
	err := f.devices[i].Run(ctx)
	var stopped *Stopped
	if errors.As(err, &stopped) {
		f.uplink.complain("device stopped", keyDevice, stopped.Device, keyCode, stopped.Code, keyReason, stopped.Reason)
	}
	return err
}

func (f *Fleet) report(over <-chan struct{}) {
	ticker := time.NewTicker(f.opts.Report)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			f.print(f.Tally())
		case <-over:
			return
		}
	}
}

// print writes a line; a writer that does not take it cannot be told of that either.
func (f *Fleet) print(t Tally) { _, _ = fmt.Fprintln(f.opts.Out, t) }

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
