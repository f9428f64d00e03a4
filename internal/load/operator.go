package load

import (
	"context"
	"sync"
	"time"
)

// orderBody is what operators ask for.
const orderBody = `{"name":"set_interval","params":{"seconds":10},"ttl":"1m","timeout":"20s"}`

// ask lets operators ask until asking ends; what was asked by then is heard to its end.
func (o *orders) ask(asking, ctx context.Context) {
	pool := newAPIPool(o.spec)
	defer pool.hangUp()
	var wg sync.WaitGroup
	defer wg.Wait()
	if o.spec.Rate == 0 {
		for n := range o.spec.Operators {
			wg.Go(func() {
				for i := n; asking.Err() == nil; i += o.spec.Operators {
					o.one(ctx, pool, i, time.Now())
				}
			})
		}
		return
	}
	free := make(chan struct{}, o.spec.Operators)
	byClock(asking, o.spec.Rate, func(i int, due time.Time) {
		select {
		case free <- struct{}{}:
		default:
			o.late()
			return
		}
		wg.Go(func() {
			defer func() { <-free }()
			o.one(ctx, pool, i, due)
		})
	})
}

// one asks device i, in turn, and waits for the end. due is when it ought to have been asked.
func (o *orders) one(ctx context.Context, pool *apiPool, i int, due time.Time) {
	i %= len(o.spec.Devices)
	var c ordered
	err := pool.ask(ctx, o.spec.Devices[i], &c)
	took := time.Since(due)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.result.Refused++
		if o.result.Problem == "" {
			o.result.Problem = err.Error()
		}
		return
	}
	o.made[c.ID] = i
	o.result.Ended[c.State]++
	if c.State == "succeeded" {
		o.result.Succeeded++
	}
	if o.measuring.Load() {
		o.result.Done++
		o.latency.record(took)
	}
}

// ordered is what an operator reads of a command.
type ordered struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

func (o *orders) late() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.result.Late++
}
