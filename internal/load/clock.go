package load

import (
	"context"
	"runtime"
	"syscall"
	"time"
)

// byClock calls each at fixed times until ctx ends, whatever happens: due is when it ought to be called.
func byClock(ctx context.Context, rate float64, each func(i int, due time.Time)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gap := time.Duration(float64(time.Second) / rate)
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(i) * gap)
		if !sleepUntil(ctx, due) {
			return
		}
		each(i, due)
	}
}

// timerLate is more than what the runtime's timers are late by.
const timerLate = 3 * time.Millisecond

// sleepUntil waits until due; false if ctx ended. It sleeps the end of it in the kernel, for which the caller needs a
// thread of its own: the runtime's timers are up to a millisecond late on an idle machine, which is as long as what is
// measured.
func sleepUntil(ctx context.Context, due time.Time) bool {
	if ahead := time.Until(due) - timerLate; ahead > 0 && !sleep(ctx, ahead) {
		return false
	}
	for ahead := time.Until(due); ahead > 0; ahead = time.Until(due) {
		rest := syscall.NsecToTimespec(int64(ahead))
		_ = syscall.Nanosleep(&rest, nil) // a signal ends it early: then it goes on
	}
	return ctx.Err() == nil
}
