package load

import (
	"context"
	"sync"
	"time"
)

// senders is how many goroutines send by the schedule; one that a full socket holds up delays only its share.
const senders = 4

// schedule sends at fixed times, whatever the hub does: latency is counted from the time at which a frame was due.
func (f *fleet) schedule(ctx context.Context) {
	var wg sync.WaitGroup
	for part := range senders {
		var mine []*link
		for i := part; i < len(f.links); i += senders {
			mine = append(mine, f.links[i])
		}
		if len(mine) > 0 {
			wg.Go(func() { f.sendByClock(ctx, mine, part) })
		}
	}
	wg.Wait()
}

func (f *fleet) sendByClock(ctx context.Context, mine []*link, part int) {
	timer := newTimer()
	defer timer.close()
	gap := float64(f.spec.Burst) / (f.spec.Rate * float64(len(mine))) * 1e9
	start := time.Now().Add(time.Duration(gap * float64(part) / senders))
	for n := 0; !f.stopping.Load(); n++ {
		due := start.Add(time.Duration(gap * float64(n)))
		if !timer.until(ctx, due) {
			return
		}
		l := mine[n%len(mine)]
		if l.gone.Load() {
			continue
		}
		if l.sent.Load()-l.acked.Load()+uint64(f.spec.Burst) > MaxWindow {
			f.late.Add(uint64(f.spec.Burst)) // a device may not; it would have to drop or to wait
			continue
		}
		if err := l.send(f.spec.Burst, due.UnixNano()); err != nil {
			_ = l.conn.Close() // serve sees it
		}
	}
}
