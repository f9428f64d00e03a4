package load

import (
	"context"
	"time"
)

// byClock calls each at fixed times until ctx ends, whatever happens: due is when it ought to be called.
func byClock(ctx context.Context, rate float64, each func(i int, due time.Time)) {
	timer := newTimer()
	defer timer.close()
	gap := time.Duration(float64(time.Second) / rate)
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(i) * gap)
		if !timer.until(ctx, due) {
			return
		}
		each(i, due)
	}
}

// timerLate is more than what the runtime's timers are late by.
const timerLate = 3 * time.Millisecond

// until waits until due; false if ctx ended. It leaves the end of it to the kernel's timer: the runtime's own are up to a
// millisecond late on an idle machine, which is as long as what is measured.
func (t *timer) until(ctx context.Context, due time.Time) bool {
	if ahead := time.Until(due) - timerLate; ahead > 0 && !sleep(ctx, ahead) {
		return false
	}
	if ahead := time.Until(due); ahead > 0 {
		t.sleep(ahead)
	}
	return ctx.Err() == nil
}
