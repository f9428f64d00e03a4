package commands_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
)

// BenchmarkThroughput has 5,000 devices on line and operators that wait for each result.
func BenchmarkThroughput(b *testing.B) {
	const devices, operators = 5000, 1000
	f := newFleet(b)
	r := hub(b, f, func(c *configs.Commands) { c.MaxOpen = 1 << 20 })
	for i := range devices {
		f.add(fmt.Sprintf("d%d", i), obey)
		f.connect(fmt.Sprintf("d%d", i), "n1")
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	ctx := b.Context()
	b.ResetTimer()
	for range operators {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				c, err := r.Create(ctx, commands.Request{Device: fmt.Sprintf("d%d", i%devices), Name: "set", Params: []byte(`{"seconds":10}`)})
				if err == nil {
					c, err = r.Wait(ctx, c.ID)
				}
				if err != nil || c.State != commands.Succeeded {
					b.Error(err, c.State)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

// BenchmarkRoundTrip is an open loop of 200 commands a second: from Create to the durable final state.
func BenchmarkRoundTrip(b *testing.B) {
	f := newFleet(b)
	r := hub(b, f)
	const devices = 100
	for i := range devices {
		f.add(fmt.Sprintf("d%d", i), obey)
		f.connect(fmt.Sprintf("d%d", i), "n1")
	}
	ctx := b.Context()
	took := make([]time.Duration, b.N)
	created := make([]time.Duration, b.N)
	var wg sync.WaitGroup
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		wg.Go(func() {
			start := time.Now()
			c, err := r.Create(ctx, commands.Request{Device: fmt.Sprintf("d%d", i%devices), Name: "set"})
			created[i] = time.Since(start)
			if err == nil {
				_, err = r.Wait(ctx, c.ID)
			}
			if err != nil {
				b.Error(err)
			}
			took[i] = time.Since(start)
		})
	}
	wg.Wait()
	slices.Sort(took)
	slices.Sort(created)
	b.ReportMetric(float64(created[len(created)/2].Microseconds()), "created-p50-µs")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
