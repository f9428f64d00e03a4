//go:build !linux

package load

import "time"

// timer is the runtime's own.
type timer struct{}

func newTimer() *timer { return &timer{} }

func (*timer) sleep(d time.Duration) { time.Sleep(d) }

func (*timer) close() {}
