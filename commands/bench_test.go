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
	"github.com/fairlead-hub/fairlead/internal/bus"
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

// BenchmarkRoundTrip is an open loop of 200 commands a second: from Create to the durable final state. In between it
// measures a bare durable publish of the same server, which is what there is to be had: a command takes two.
func BenchmarkRoundTrip(b *testing.B) {
	f := newFleet(b)
	bs := openBus(b, b.TempDir())
	r, stop := start(b, bs, f, "n1")
	b.Cleanup(func() {
		stop()
		if err := bs.Close(); err != nil {
			b.Error(err)
		}
	})
	const devices = 100
	for i := range devices {
		f.add(fmt.Sprintf("d%d", i), obey)
		f.connect(fmt.Sprintf("d%d", i), "n1")
	}
	ctx := b.Context()
	took, admitted := make([]time.Duration, b.N), make([]time.Duration, b.N)
	var bare []time.Duration
	var wg sync.WaitGroup
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		if i%20 == 0 {
			start := time.Now()
			if _, err := bs.JetStream().Publish(ctx, bus.TelemetrySubject, make([]byte, 400)); err != nil {
				b.Fatal(err)
			}
			bare = append(bare, time.Since(start))
			continue
		}
		wg.Go(func() {
			start := time.Now()
			c, err := r.Create(ctx, commands.Request{Device: fmt.Sprintf("d%d", i%devices), Name: "set"})
			admitted[i] = time.Since(start)
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
	b.ReportMetric(float64(r.Applied())/float64(b.N-len(bare)), "syncs/command")
	for name, d := range map[string][]time.Duration{"publish": bare, "created": admitted, "final": took} {
		d = slices.DeleteFunc(d, func(d time.Duration) bool { return d == 0 })
		if len(d) > 0 {
			slices.Sort(d)
			b.ReportMetric(float64(d[len(d)/2].Microseconds()), name+"-p50-µs")
			b.ReportMetric(float64(d[len(d)*99/100].Microseconds()), name+"-p99-µs")
		}
	}
}
