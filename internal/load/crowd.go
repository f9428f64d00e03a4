package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// CrowdSpec is a crowd of devices that are there and do little: they say a few frames after their first connect, answer
// pings and commands, and come back whenever their connection ends.
type CrowdSpec struct {
	Target
	Frames int // of telemetry that each device sends after its first connect, one after the other's ack
	// Frame is a device's frame, without its number: {"type":"telemetry","seq":N,Frame}. Empty: a small one.
	Frame string
}

// Crowd is a crowd at work.
type Crowd struct {
	spec    CrowdSpec
	dialer  *dialer
	members []*member
	slots   chan struct{} // handshakes at once while joining

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	changed chan struct{} // something below rose

	up       atomic.Int64 // connected and welcomed
	settled  atomic.Int64 // sent all their frames
	returns  atomic.Int64 // welcomes since the last storm began
	dials    atomic.Int64
	refusals atomic.Int64 // answered with another status than 101
	faults   atomic.Int64 // dials and handshakes that broke
	breaks   atomic.Int64 // connections that the crowd did not end itself
	pings    atomic.Int64
	answered atomic.Int64 // commands
	lastErr  atomic.Pointer[error]
	storming atomic.Bool
	took     []atomic.Int64 // nanoseconds from the storm's begin to each device's return
	began    atomic.Int64
}

// CrowdReport is how a crowd fares; counts are since its begin, or since the last storm's.
type CrowdReport struct {
	Up       int64         `json:"up"`
	Dials    int64         `json:"dials"`
	Refusals int64         `json:"refusals"`
	Faults   int64         `json:"faults"`
	Breaks   int64         `json:"breaks"`
	Pings    int64         `json:"pings"`
	Answered int64         `json:"answered"`
	Took     time.Duration `json:"took"` // of what was asked
	Half     time.Duration `json:"half"` // of a storm: until half of them were back
	LastErr  string        `json:"last_err,omitempty"`
}

// NewCrowd returns a crowd of which nobody is there yet.
func NewCrowd(ctx context.Context, spec CrowdSpec) (*Crowd, error) {
	d, err := newDialer(spec.Target)
	if err != nil {
		return nil, err
	}
	if spec.Frame == "" {
		spec.Frame = `"fields":{"temp":21.5,"humidity":40.2,"open":false}`
	}
	c := &Crowd{
		spec: spec, dialer: d, slots: make(chan struct{}, connects), changed: make(chan struct{}, 1),
		took: make([]atomic.Int64, len(spec.Tokens)),
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c, nil
}

// Join brings the crowd up to n devices and waits until all have said their frames.
func (c *Crowd) Join(n int) (CrowdReport, error) {
	start := time.Now()
	for i := len(c.members); i < min(n, len(c.spec.Tokens)); i++ {
		m := &member{crowd: c, number: i}
		c.members = append(c.members, m)
		c.wg.Go(m.live)
	}
	err := c.await(func() bool {
		return c.up.Load() == int64(len(c.members)) && c.settled.Load() == int64(len(c.members))
	})
	r := c.Report()
	r.Took = time.Since(start)
	return r, err
}

// Storm breaks every connection at once, and waits until all devices are back; they come as fast as they may.
func (c *Crowd) Storm() (CrowdReport, error) {
	for _, n := range []*atomic.Int64{&c.returns, &c.dials, &c.refusals, &c.faults, &c.breaks} {
		n.Store(0)
	}
	start := time.Now()
	c.began.Store(start.UnixNano())
	c.storming.Store(true)
	for _, m := range c.members {
		m.cut()
	}
	err := c.await(func() bool { return c.returns.Load() >= int64(len(c.members)) && c.up.Load() == int64(len(c.members)) })
	c.storming.Store(false)
	r := c.Report()
	r.Took, r.Half = time.Since(start), c.half()
	return r, err
}

// half is when half of the devices were back.
func (c *Crowd) half() time.Duration {
	var h histogram
	for i := range c.members {
		h.record(time.Duration(c.took[i].Load()))
	}
	return h.quantile(0.5)
}

// crowdTime bounds how long a crowd is waited for.
const crowdTime = 2 * time.Minute

func (c *Crowd) await(done func() bool) error {
	late := time.NewTimer(crowdTime)
	defer late.Stop()
	for !done() {
		select {
		case <-c.changed:
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-late.C:
			return fmt.Errorf("%d of %d devices after %s, the last fault: %w", c.up.Load(), len(c.members), crowdTime, c.fault())
		}
	}
	return nil
}

func (c *Crowd) fault() error {
	if err := c.lastErr.Load(); err != nil {
		return *err
	}
	return errors.New("none")
}

// Report tells how the crowd fares now.
func (c *Crowd) Report() CrowdReport {
	r := CrowdReport{
		Up: c.up.Load(), Dials: c.dials.Load(), Refusals: c.refusals.Load(), Faults: c.faults.Load(), Breaks: c.breaks.Load(),
		Pings: c.pings.Load(), Answered: c.answered.Load(),
	}
	if err := c.lastErr.Load(); err != nil {
		r.LastErr = (*err).Error()
	}
	return r
}

// Close ends all connections.
func (c *Crowd) Close() {
	c.cancel()
	for _, m := range c.members {
		m.cut()
	}
	c.wg.Wait()
}

// tell wakes who waits.
func (c *Crowd) tell() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}
