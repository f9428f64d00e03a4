package load

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errBehind says that a device on a schedule has a window of frames unacknowledged; a real one would have to stop, and
// latency counted on would say little.
var errBehind = errors.New("schedule not held: a whole window is unacknowledged")

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
	gap := float64(f.spec.Burst) / (f.spec.Rate * float64(len(mine))) * 1e9
	start := time.Now().UnixNano() + int64(gap*float64(part)/senders)
	for n := 0; !f.stopping.Load() && ctx.Err() == nil; n++ {
		due := start + int64(gap*float64(n))
		if ahead := due - time.Now().UnixNano(); ahead > int64(time.Millisecond)/2 && !sleep(ctx, time.Duration(ahead)) {
			return
		}
		l := mine[n%len(mine)]
		if l.gone.Load() {
			continue
		}
		if l.sent.Load()-l.acked.Load()+uint64(f.spec.Burst) > MaxWindow {
			f.firstErr.CompareAndSwap(nil, &errBehind)
			f.broken.Add(1)
			l.gone.Store(true)
			continue
		}
		if err := l.send(f.spec.Burst, due); err != nil {
			_ = l.conn.Close() // serve sees it
		}
	}
}
