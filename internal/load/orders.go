package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// OrderSpec is a load of commands: operators who ask, each waiting for the result, and the devices that obey.
type OrderSpec struct {
	URL     string // of the devices
	CAFile  string
	Tokens  []string
	Devices []string // their ids

	API       string // of the operators
	Operator  string // token
	Rate      float64
	Operators int  // asking at once without a Rate; with one, at most
	Job       bool // instead, one job to all devices

	Warm, Measure time.Duration
	PIDs          []int
	Metrics       string
}

// OrderResult is what a load of commands saw.
type OrderResult struct {
	Made      int // commands that operators were given an id of
	Succeeded int
	Refused   int            // requests that made no command
	Ended     map[string]int // by final state
	Acted     int            // commands that devices acted on
	Double    int            // commands that a device got more than once
	Lost      int            // commands made that no device acted on
	Late      int            // not asked on schedule, because too many operators waited

	Done     int // ended while measured
	Seconds  float64
	P50, P99 time.Duration
	Max      time.Duration
	CPU      []float64 // seconds of processor time while measured, of each of PIDs
	OwnCPU   float64
	Commits  float64 // group commits of the command log while measured
	Waited   float64 // seconds they took, all together
	Problem  string  // the first refusal
}

// PerSecond is the rate of commands whose result operators have heard.
func (r OrderResult) PerSecond() float64 { return float64(r.Done) / r.Seconds }

// orders is a load of commands at work.
type orders struct {
	spec      OrderSpec
	obeyed    []*obedient
	measuring atomic.Bool

	mu      sync.Mutex
	latency histogram      // guarded by mu, like all that follows
	made    map[string]int // ids, and which device they were for
	result  OrderResult
}

// RunOrders connects the devices, lets the operators ask, and compares what both saw.
func RunOrders(ctx context.Context, spec OrderSpec) (OrderResult, error) {
	if len(spec.Tokens) == 0 || len(spec.Tokens) != len(spec.Devices) || spec.Operators < 1 {
		return OrderResult{}, fmt.Errorf("%d tokens of %d devices, %d operators", len(spec.Tokens), len(spec.Devices), spec.Operators)
	}
	o := &orders{spec: spec, made: make(map[string]int), result: OrderResult{Ended: make(map[string]int)}}
	o.obeyed = make([]*obedient, len(spec.Tokens))
	var devices sync.WaitGroup
	defer devices.Wait()
	defer o.hangUp()
	if err := o.connect(ctx, &devices); err != nil {
		return OrderResult{}, err
	}
	err := o.load(ctx)
	o.hangUp()
	devices.Wait()
	o.compare()
	return o.result, err
}

func (o *orders) load(ctx context.Context) error {
	if o.spec.Job {
		return o.during(ctx, func() error { return o.commandAll(ctx) })
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	var asked sync.WaitGroup
	defer asked.Wait()
	defer stop()
	asked.Go(func() { o.ask(asking, ctx) })
	if !sleep(ctx, o.spec.Warm) {
		return ctx.Err()
	}
	return o.during(ctx, func() error {
		o.measuring.Store(true)
		defer o.measuring.Store(false)
		if !sleep(ctx, o.spec.Measure) {
			return ctx.Err()
		}
		return nil
	})
}

// connect opens the devices' connections, some at a time.
func (o *orders) connect(ctx context.Context, devices *sync.WaitGroup) error {
	d, err := newDialer(Target{URL: o.spec.URL, CAFile: o.spec.CAFile, Tokens: o.spec.Tokens})
	if err != nil {
		return err
	}
	slots := make(chan struct{}, connects)
	var first atomic.Pointer[error]
	var dialing sync.WaitGroup
	for i := range o.spec.Tokens {
		slots <- struct{}{}
		dialing.Go(func() {
			defer func() { <-slots }()
			conn, rest, err := d.dial(ctx, i)
			if err != nil {
				err = fmt.Errorf("device %d: %w", i, err)
				first.CompareAndSwap(nil, &err)
				return
			}
			b := &obedient{conn: conn, rest: rest, times: make(map[string]int)}
			o.obeyed[i] = b
			devices.Go(b.run)
		})
	}
	dialing.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

func (o *orders) hangUp() {
	for _, b := range o.obeyed {
		if b != nil {
			_ = b.conn.Close() // it is over
		}
	}
}

// during reads what the processes use while work is done.
func (o *orders) during(ctx context.Context, work func() error) error {
	f := &fleet{spec: Spec{PIDs: o.spec.PIDs}}
	before, err := f.sample(ctx)
	if err != nil {
		return err
	}
	n, waited, err := o.commits(ctx)
	if err != nil {
		return err
	}
	if err := work(); err != nil {
		return err
	}
	after, err := f.sample(ctx)
	if err != nil {
		return err
	}
	n2, waited2, err := o.commits(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	r := &o.result
	r.Seconds, r.OwnCPU = after.at.Sub(before.at).Seconds(), after.own-before.own
	for i := range after.cpu {
		r.CPU = append(r.CPU, after.cpu[i]-before.cpu[i])
	}
	r.Commits, r.Waited = n2-n, waited2-waited
	return err
}

func (o *orders) commits(ctx context.Context) (n, seconds float64, err error) {
	if o.spec.Metrics == "" {
		return 0, 0, nil
	}
	n, err = Counter(ctx, o.spec.Metrics, "fairlead_commands_commit_seconds_count")
	if err == nil {
		seconds, err = Counter(ctx, o.spec.Metrics, "fairlead_commands_commit_seconds_sum")
	}
	return n, seconds, err
}

// compare holds what operators were told against what devices did.
func (o *orders) compare() {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := &o.result
	for id, i := range o.made {
		if o.obeyed[i].times[id] == 0 {
			r.Lost++
		}
	}
	for _, b := range o.obeyed {
		r.Acted += len(b.times)
		for _, n := range b.times {
			if n > 1 {
				r.Double++
			}
		}
	}
	if !o.spec.Job {
		r.Made = len(o.made)
	}
	r.P50, r.P99, r.Max = o.latency.quantile(0.50), o.latency.quantile(0.99), o.latency.quantile(1)
}
