package jobs

import "time"

// rate is how many devices a minute get their command when started have got theirs. It depends on nothing else, so a job
// goes on at the rate it had reached, on whatever node and after whatever pause.
func (r Rollout) rate(started int) float64 {
	rate := r.PerMinute
	if r.Growth <= 1 {
		return rate
	}
	for edge := rate; float64(started) >= edge && rate < MaxPerMinute; edge += rate {
		rate = min(rate*r.Growth, MaxPerMinute)
	}
	return rate
}

// pacer spreads devices over time.
type pacer struct {
	rollout Rollout
	next    time.Time // when the next device may start
}

// paceSlack is how much of a delay is caught up.
const paceSlack = time.Second

// slowest is the longest time between two devices: one beyond what a time.Duration holds would be none at all.
const slowest = 365 * 24 * time.Hour

// resume goes on after another driver, which started the last device at last: each restart would else start one more at
// once. A last that lies ahead, for a clock was set back, is now.
func (p *pacer) resume(now, last time.Time, started int) {
	if p.rollout.PerMinute > 0 {
		p.next = now.Add(p.gap(started) - max(now.Sub(last), 0))
	}
}

// gap is the time between two devices.
func (p *pacer) gap(started int) time.Duration {
	return time.Duration(min(float64(time.Minute)/p.rollout.rate(started), float64(slowest)))
}

// take returns how many of at most want devices may start now, and how long to wait for the next.
func (p *pacer) take(now time.Time, started, want int) (n int, wait time.Duration) {
	if p.rollout.PerMinute <= 0 {
		return want, 0
	}
	if p.next.Before(now.Add(-paceSlack)) {
		p.next = now
	}
	for n < want && !p.next.After(now) {
		p.next = p.next.Add(p.gap(started + n))
		n++
	}
	return n, max(p.next.Sub(now), 0)
}
