package sim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Bounds of a device.
const (
	defaultBuffer = 4096            // points kept
	bootTime      = 2 * time.Second // of a reboot on command
	refusalsBorne = 8               // in a row, about its own credentials, before a device gives up
	leastFrame    = 512             // bytes; a hub that finds even that too big gets it nevertheless
)

// DeviceOptions describes one simulated device.
type DeviceOptions struct {
	ID       string
	Model    string        // one of Models
	Interval time.Duration // between two points
	Seed     uint64        // of its signals and faults
	Buffer   int           // points kept until they are acked; 0: 4096
	Faults   Faults
}

// Device is a simulated device. It keeps its points and its memory of commands over any number of sessions.
type Device struct {
	// static after New
	id     string
	uplink *Uplink
	shape  shape
	source source
	panel  panel
	faults Faults
	forget bool // what was sent without an ack is not sent again: for tests only, to see that it is missed

	// owned by Run
	backlog   *backlog
	orders    orders
	exhausted bool // the source has no more
	byteCap   int  // the hub found a frame of twice that size too big; 0: it has not
	skew      int64
	sessions  int
	version   uint64 // of the desired state last applied
	reported  []byte // the state as last told
	told      wire.Code
	refused   bool // the hub did not take the last token
	refusals  int  // in a row, of this device's own doing
}

// NewDevice checks the options and returns a device that is not running.
func NewDevice(u *Uplink, o DeviceOptions) (*Device, error) {
	k, err := kindOf(o.Model)
	if err != nil {
		return nil, err
	}
	if o.Interval < minInterval || o.Interval > maxInterval {
		return nil, fmt.Errorf("device %s: an interval of %s is not between %s and %s", o.ID, o.Interval, minInterval, maxInterval)
	}
	m := newMachine(k.make(o.Seed), o.Interval)
	return newDevice(u, o, shape{measurement: []byte(k.measurement), columns: k.columns}, m, m)
}

func newDevice(u *Uplink, o DeviceOptions, sh shape, src source, p panel) (*Device, error) {
	if err := wire.CheckID(o.ID); err != nil {
		return nil, err
	}
	if err := u.prepare(); err != nil {
		return nil, err
	}
	if o.Buffer <= 0 {
		o.Buffer = defaultBuffer
	}
	sh.codec = u.Codec
	d := &Device{id: o.ID, uplink: u, shape: sh, source: src, panel: p, faults: o.Faults, backlog: newBacklog(len(sh.columns), o.Buffer)}
	d.orders = orders{panel: p, faults: &d.faults, seed: o.Seed, counts: u.Counts}
	return d, nil
}

// Run keeps the device connected until the context ends, and then for the drain time until everything it holds is acked.
// It returns nil then, a *Stopped if the hub sent the device away for good, and any other error if its source broke.
func (d *Device) Run(ctx context.Context) error {
	life, cancel := linger(ctx, d.uplink.Drain)
	defer cancel()
	for try := 0; ctx.Err() == nil || !d.settled(); try++ {
		started := time.Now()
		got := d.attend(ctx, life)
		end := endingOf(got.cause, got.bye)
		if errors.Is(end.err, errDrained) || life.Err() != nil {
			return nil
		}
		var broken *sourceError
		if errors.As(end.err, &broken) {
			return broken.err
		}
		if got.welcomed {
			d.refusals = 0
			if time.Since(started) >= steadySession {
				try = 0
			}
		}
		if stop := d.judge(&end); stop != nil {
			d.uplink.Counts.stopped.Add(1)
			return stop
		}
		if !d.pause(ctx, life, end, try) {
			return nil
		}
	}
	return nil
}

// judge learns from how a session or the attempt at one ended. It returns why the device is at its end, or nil.
func (d *Device) judge(end *ending) *Stopped {
	d.refused = end.code == closeTokenRefused
	if end.code == closeTooBig {
		d.shrinkFrames()
	}
	if end.final() {
		return &Stopped{Device: d.id, Code: end.code, Reason: end.text}
	}
	var (
		refusal *Refusal
		api     *APIError
		status  int
	)
	switch {
	case errors.As(end.err, &refusal):
		d.uplink.Counts.refused.Add(1)
		d.learnClock(refusal.Time)
		d.refused = refusal.Status == http.StatusUnauthorized || refusal.Status == http.StatusForbidden
		end.after = refusal.RetryAfter
		if !refusal.ours() {
			return nil
		}
		status = refusal.Status
	case errors.As(end.err, &api) && api.final():
		status = api.Status
	case errors.Is(end.err, ErrNoToken):
		d.refusals = refusalsBorne
	default:
		return nil
	}
	if d.refusals++; d.refusals < refusalsBorne {
		return nil
	}
	return &Stopped{Device: d.id, Code: status, Reason: end.err.Error()}
}

// pause waits before the next try. It reports false if there is to be none.
func (d *Device) pause(ctx, life context.Context, end ending, try int) bool {
	wait := d.uplink.Backoff.wait(try, end.after)
	if errors.Is(end.err, errReboot) {
		wait = bootTime
	}
	d.uplink.complain("link down", keyDevice, d.id, keyError, end.err, keyCode, end.code, keyReason, end.text, keyWait, wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	stop := ctx.Done()
	for {
		select {
		case <-timer.C:
			return true
		case <-stop:
			if d.settled() {
				return false
			}
			stop = nil
		case <-life.Done():
			return false
		}
	}
}

// settled reports whether the hub has everything the device has to give.
func (d *Device) settled() bool { return d.backlog.held() == 0 && d.orders.unrecorded() == 0 }

// shrinkFrames halves the biggest frame after the hub closed a session because of one.
func (d *Device) shrinkFrames() {
	if d.byteCap == 0 {
		d.byteCap = 64 << 10
	}
	d.byteCap = max(d.byteCap/2, leastFrame)
}

// learnClock sets the device's idea of the hub's clock, by which commands expire.
func (d *Device) learnClock(unixMillis int64) {
	if unixMillis != 0 {
		d.skew = unixMillis - time.Now().UnixMilli()
	}
}

func (d *Device) hubClock(now time.Time) int64 { return now.UnixMilli() + d.skew }

// sourceError is an error of the device's own source, which no reconnect can heal.
type sourceError struct{ err error }

// Error is that of the source.
func (e *sourceError) Error() string { return e.err.Error() }

// fill lets the source add what is due.
func (d *Device) fill(now time.Time) (filling, error) {
	f, err := d.source.fill(d.backlog, now)
	d.uplink.Counts.made.Add(uint64(f.made))
	d.uplink.Counts.dropped.Add(uint64(f.lost))
	if err != nil {
		return f, &sourceError{err}
	}
	d.exhausted = f.done
	return f, nil
}

// linger returns a context that ends the given time after ctx does.
func linger(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer *time.Timer
	set := make(chan struct{})
	disarm := context.AfterFunc(ctx, func() {
		timer = time.AfterFunc(after, cancel)
		close(set)
	})
	return life, func() {
		if !disarm() {
			<-set
			timer.Stop()
		}
		cancel()
	}
}
