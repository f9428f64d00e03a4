package load

import (
	"context"
	"runtime"
	"syscall"
	"time"
)

// byClock calls each at fixed times until ctx ends, whatever happens: due is when it ought to be called. It sleeps in
// the kernel on a thread of its own, for the runtime's timers are up to a millisecond late on an idle machine, which is
// as long as what is measured.
func byClock(ctx context.Context, rate float64, each func(i int, due time.Time)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gap := time.Duration(float64(time.Second) / rate)
	start := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		due := start.Add(time.Duration(i) * gap)
		for ahead := time.Until(due); ahead > 0; ahead = time.Until(due) {
			rest := syscall.NsecToTimespec(int64(ahead))
			_ = syscall.Nanosleep(&rest, nil) // a signal ends it early: then it goes on
		}
		each(i, due)
	}
}
