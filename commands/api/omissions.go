package api

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What the audit log takes of the refused changes of one caller: a burst, and then one each refusedEvery. The log is bounded
// in bytes and gives up its oldest records. At this rate a caller who is refused without end makes 1 MB of it a day, or 10 MB
// with the longest records that there are.
const (
	operatorRefused = 60
	strangerRefused = 20 // of all strangers together
	refusedEvery    = time.Minute

	// tellEvery is how often the log is told how many were left out.
	tellEvery = 10 * time.Minute
)

// strangers is the caller that all are whom the hub does not know.
const strangers = ""

const omittedAction = "audit.omitted"

// What becomes of a refused change.
type fate int

const (
	kept fate = iota
	lastKept
	omitted
)

// omissions bounds the refused changes in the audit log, and counts those that are left out.
type omissions struct {
	now func() time.Time

	mu sync.Mutex
	of map[string]*omission // guarded by mu; by caller, of whom there are as many as operators
}

// omission is what is left out of one caller.
type omission struct {
	limit *rate.Limiter
	n     int
	since time.Time // of the first
	last  Record
}

func newOmissions(now func() time.Time) *omissions {
	return &omissions{now: now, of: map[string]*omission{}}
}

// take decides whether a refused change of a caller is recorded, and counts it if not.
func (o *omissions) take(caller string, rec Record) fate {
	now := o.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.of[caller]
	if m == nil {
		burst := operatorRefused
		if caller == strangers {
			burst = strangerRefused
		}
		m = &omission{limit: rate.NewLimiter(rate.Every(refusedEvery), burst)}
		o.of[caller] = m
	}
	if !m.limit.AllowN(now, 1) {
		if m.n == 0 {
			m.since = now
		}
		m.n++
		m.last = rec
		return omitted
	}
	if m.limit.TokensAt(now) < 1 {
		return lastKept
	}
	return kept
}

// told is what the log has to be told of one caller.
type told struct {
	caller string
	omission
}

// due takes what was left out since the last time, and forgets callers who may have a whole burst recorded again.
func (o *omissions) due() (all []told) {
	now := o.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for caller, m := range o.of {
		switch {
		case m.n > 0:
			all = append(all, told{caller, *m})
			m.n = 0
		case m.limit.TokensAt(now) >= float64(m.limit.Burst()):
			delete(o.of, caller)
		}
	}
	return all
}

// again puts back what the log could not be told.
func (o *omissions) again(t told) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.of[t.caller]
	if m == nil {
		m = &t.omission
		o.of[t.caller] = m
		return
	}
	if m.n == 0 {
		m.last = t.last
	}
	m.n += t.n
	m.since = t.since
}

func (t told) record() Record {
	whose := "of " + t.caller
	if t.caller == strangers {
		whose = "of unknown callers and devices that enrol"
	}
	return Record{
		Actor: "hub", Action: omittedAction, Target: cmp.Or(t.caller, unknownActor), Remote: t.last.Remote, Outcome: outcomeOK,
		Detail: fmt.Sprintf("%d refused changes %s since %s are not recorded; the last: %s",
			t.n, whose, t.since.UTC().Format(time.RFC3339), strings.TrimSpace(t.last.Action+" "+t.last.Outcome+" "+t.last.Target)),
	}
}

// tellOmissions keeps the log from being silent about what it leaves out, until ctx ends.
func (a *API) tellOmissions(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		a.tellOmitted(ctx) // at the end too; the log waits for the disk whatever ctx is
	}
	return nil
}

func (a *API) tellOmitted(ctx context.Context) {
	all := a.omissions.due()
	for i, t := range all {
		if a.record(ctx, t.record()) == nil {
			continue
		}
		for _, rest := range all[i:] { // the log is away: later
			a.omissions.again(rest)
		}
		return
	}
}
