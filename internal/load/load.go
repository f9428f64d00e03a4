// Package load drives a hub, or a server that it is measured against, from a process of its own: many devices, a
// window or a schedule of frames each, and the latency of every acknowledgement. It is shared by the benchmark and the
// tests that break things under load.
package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Spec is one load.
type Spec struct {
	URL     string   // ws:// or wss:// with the path; mqtt:// is an MQTT 3.1.1 broker, QoS 1, one line a message
	CAFile  string   // to trust; empty: the system's
	Tokens  []string // one device each
	Window  int      // frames in flight of one device; at most MaxWindow
	Rate    float64  // frames a second of one device; 0: as fast as the window allows
	Burst   int      // frames that a device on a schedule sends at once; 0: 1
	Points  int      // of a frame
	Small   bool     // 3 fields a point, also where a frame has one
	Units   int      // series of one device, told apart by the tag unit; 0: one without it
	Frames  uint64   // of one device, then it is done and so is measuring; 0: no end
	Text    string   // name of the measurement; empty: bench
	Sources int      // loopback addresses to connect from; 0: one
	Lean    bool     // as of Target

	Warm    time.Duration // before measuring
	Measure time.Duration
	Settle  time.Duration // at most, for the last acks

	// Start is the Unix milliseconds of every device's first point; 0: a day ago. From is how many frames each device had
	// acknowledged before: it goes on behind them, and so sends again what was under way when its connection broke.
	Start int64
	From  []uint64
	// Breaks says that connections may break, or not come to be: that is what is tested.
	Breaks bool

	// Phase, if set, is which part of the load it is now; who moves it on has the latencies of each part apart.
	Phase *atomic.Int32 `json:"-"`
	// Last is the phase with which measuring ends, before Measure is over; 0: none does.
	Last int

	PIDs    []int  // whose processor time is measured
	Metrics string // address whose counters are read, or empty
}

// MaxPhases bounds the parts of a load.
const MaxPhases = 4

// Phase is the latency of the frames that were acknowledged in one part of a load.
type Phase struct {
	Frames        uint64
	P50, P99, Max time.Duration
}

// MaxWindow bounds the frames in flight of one device.
const MaxWindow = 256

// Result is what a load saw.
type Result struct {
	Sent, Acked uint64 // frames, over the whole load
	Points      uint64 // acked, over the whole load
	Rejected    uint64
	Broken      int    // connections that ended early
	Late        uint64 // frames not sent on schedule, because a whole window was unacknowledged; latency leaves them out

	Began    int64  // Unix nanoseconds at which all were connected and began to send
	Frames   uint64 // acked while measured
	Seconds  float64
	CPU      []float64 // seconds of processor time while measured, of each of PIDs
	OwnCPU   float64   // of the loader
	Batches  float64   // committed while measured, by Metrics
	P50, P99 time.Duration
	Max      time.Duration
	Bytes    int     // of one frame
	Phases   []Phase // up to the one in which it ended

	Start   int64  // of every device's points, Unix milliseconds
	Devices []Mark // what each device knows: the ledger
}

// Mark is what one device knows of its frames, the first of its life counted as well.
type Mark struct{ Sent, Acked uint64 }

// PerSecond is the rate of acknowledged frames.
func (r Result) PerSecond() float64 { return float64(r.Frames) / r.Seconds }

// FrameCPU is the processor time per acknowledged frame of the first process.
func (r Result) FrameCPU() time.Duration {
	if len(r.CPU) == 0 || r.Frames == 0 {
		return 0
	}
	return time.Duration(r.CPU[0] / float64(r.Frames) * 1e9)
}

// fleet is a load at work.
type fleet struct {
	spec      Spec
	links     []*link
	measuring atomic.Bool
	stopping  atomic.Bool
	rejected  atomic.Uint64
	broken    atomic.Int64
	late      atomic.Uint64
	firstErr  atomic.Pointer[error]
}

// connects is how many devices connect at once.
const connects = 64

// Run connects all devices, loads, and waits for what is unacknowledged. It fails if a device cannot connect.
func Run(ctx context.Context, spec Spec) (Result, error) {
	if spec.Window < 1 || spec.Window > MaxWindow {
		return Result{}, fmt.Errorf("window of %d frames: want 1 to %d", spec.Window, MaxWindow)
	}
	spec.Points, spec.Burst = max(spec.Points, 1), max(spec.Burst, 1)
	if spec.Text == "" {
		spec.Text = "bench"
	}
	if spec.Start == 0 {
		spec.Start = time.Now().Add(-history).UnixMilli()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &fleet{spec: spec, links: make([]*link, len(spec.Tokens))}
	defer f.close()
	if err := f.connect(ctx); err != nil {
		return Result{}, err
	}
	began := time.Now().UnixNano()
	var wg sync.WaitGroup
	left := new(atomic.Int64)
	left.Store(int64(len(f.links)))
	for _, l := range f.links {
		wg.Go(func() {
			f.serve(l)
			if left.Add(-1) == 0 {
				cancel() // nobody is left to measure
			}
		})
	}
	var sending sync.WaitGroup
	if spec.Rate > 0 {
		sending.Go(func() { f.schedule(ctx) })
	}
	r, err := f.measure(ctx)
	f.stopping.Store(true)
	sending.Wait()
	f.settle(ctx)
	f.close()
	wg.Wait()
	f.sum(&r)
	r.Began = began
	if spec.Breaks {
		return r, nil
	}
	if first := f.firstErr.Load(); err == nil && r.Broken > 0 && first != nil {
		err = fmt.Errorf("%d connections ended early, the first by: %w", r.Broken, *first)
	}
	return r, err
}

func (f *fleet) connect(ctx context.Context) error {
	d, err := newDialer(Target{URL: f.spec.URL, CAFile: f.spec.CAFile, Tokens: f.spec.Tokens, Sources: f.spec.Sources, Lean: f.spec.Lean})
	if err != nil {
		return err
	}
	slots := make(chan struct{}, connects)
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for i := range f.links {
		slots <- struct{}{}
		if first.Load() != nil && !f.spec.Breaks {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			conn, rest, err := d.dial(ctx, i)
			frames := newFrames
			if d.mqtt() {
				frames = newMessages
			}
			l := newLink(conn, rest, frames(f.spec, i))
			if i < len(f.spec.From) {
				l.from = f.spec.From[i]
				l.sent.Store(l.from)
				l.acked.Store(l.from)
			}
			f.links[i] = l
			if err != nil {
				err = fmt.Errorf("device %d: %w", i, err)
				first.CompareAndSwap(nil, &err)
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil && !f.spec.Breaks {
		return *err
	}
	return nil
}

func (f *fleet) close() {
	for _, l := range f.links {
		if l != nil && l.conn != nil {
			_ = l.conn.Close() // it is over
		}
	}
}

// measure waits for the warm-up, and then samples around the measured time.
func (f *fleet) measure(ctx context.Context) (Result, error) {
	if !sleep(ctx, f.spec.Warm) && !f.spec.Breaks {
		return Result{}, ctx.Err()
	}
	before, err := f.sample(ctx)
	if err != nil {
		return Result{}, err
	}
	f.measuring.Store(true)
	whole := f.wait(ctx)
	f.measuring.Store(false)
	after, err := f.sample(ctx)
	if err != nil || !whole && !f.spec.Breaks {
		return Result{}, errors.Join(err, ctx.Err())
	}
	r := Result{
		Frames: after.acked - before.acked, Seconds: after.at.Sub(before.at).Seconds(),
		OwnCPU: after.own - before.own, Batches: after.batches - before.batches,
	}
	for i := range after.cpu {
		r.CPU = append(r.CPU, after.cpu[i]-before.cpu[i])
	}
	return r, nil
}

// wait waits for the measured time to end, or what it is for to be over.
func (f *fleet) wait(ctx context.Context) bool {
	if f.spec.Frames == 0 && f.spec.Last == 0 {
		return sleep(ctx, f.spec.Measure)
	}
	for until := time.Now().Add(f.spec.Measure); time.Now().Before(until) && !f.through(); {
		if !sleep(ctx, time.Millisecond) {
			return false
		}
	}
	return true
}

// through is whether the last phase has begun, or all devices are done with their number of frames.
func (f *fleet) through() bool {
	if f.spec.Last > 0 && f.phase() >= f.spec.Last {
		return true
	}
	return f.spec.Frames > 0 && !slices.ContainsFunc(f.links, func(l *link) bool { return l.acked.Load() < f.spec.Frames })
}

// settle waits until everything sent is acknowledged, or the time for it is over.
func (f *fleet) settle(ctx context.Context) {
	until := time.Now().Add(f.spec.Settle)
	for time.Now().Before(until) {
		open := false
		for _, l := range f.links {
			open = open || l.acked.Load() < l.sent.Load() && !l.gone.Load()
		}
		if !open || !sleep(ctx, 10*time.Millisecond) {
			return
		}
	}
}

func (f *fleet) sum(r *Result) {
	var phases [MaxPhases]histogram
	for _, l := range f.links {
		r.Devices = append(r.Devices, Mark{Sent: l.sent.Load(), Acked: l.acked.Load()})
		r.Sent += l.sent.Load() - l.from
		r.Acked += l.acked.Load() - l.from
		for i := range l.latency {
			phases[i].add(&l.latency[i])
		}
		r.Bytes = l.frames.size
	}
	var h histogram
	for i := range phases {
		h.add(&phases[i])
		if i <= f.phase() && f.spec.Phase != nil {
			p := &phases[i]
			r.Phases = append(r.Phases, Phase{p.count(), p.quantile(0.50), p.quantile(0.99), p.quantile(1)})
		}
	}
	r.Rejected = f.rejected.Load()
	r.Acked -= r.Rejected
	r.Points = r.Acked * uint64(f.spec.Points)
	r.Start, r.Late = f.spec.Start, f.late.Load()
	r.Broken = int(f.broken.Load())
	r.P50, r.P99, r.Max = h.quantile(0.50), h.quantile(0.99), h.quantile(1)
}

// phase is which part of the load it is.
func (f *fleet) phase() int {
	if f.spec.Phase == nil {
		return 0
	}
	return min(int(f.spec.Phase.Load()), MaxPhases-1)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
