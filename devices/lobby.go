package devices

import (
	"errors"
	"net"
	"time"
)

// lobby is a listener that lets connections in at a pace. Who waits to be let in costs an open file and nothing else: Go's
// poller does not know the connection yet, so nobody who is in waits behind it.
type lobby struct {
	net.Listener // of the callers
	callers      *callers
	crowded      func() bool // letting in pauses

	pace pace // owned by who accepts
}

const (
	// usualPace is between two who are let in, for each turn: that leaves most of its time while handshakes are cheap, and
	// is more than devices that come, post and go need.
	usualPace = 800 * time.Microsecond
	// storm is how many wait where a fleet comes at once.
	storm = 500
	// slowestPace is between two of a fleet that is not so large that it takes the whole time.
	slowestPace = 600 * time.Microsecond
	// paceCredit is how far back a pause may be made up for: so many come in at once after it.
	paceCredit = 20 * time.Millisecond
	// paceStep is how long nobody is let in, and then a few are: they are woken up for at once, which costs less time of the
	// processors than one after the other.
	paceStep = 5 * time.Millisecond
	// lookAround is how often a crowd is looked at while it lasts.
	lookAround = time.Millisecond
)

// Accept waits until somebody may come in.
func (l *lobby) Accept() (net.Conn, error) {
	for {
		next, waiting, err := l.callers.take()
		if err != nil {
			return nil, err
		}
		time.Sleep(l.pace.next(time.Now(), waiting))
		for l.crowded() && !l.callers.isClosed() {
			time.Sleep(lookAround)
		}
		conn, err := next.enter()
		var fault net.Error
		switch {
		case err == nil && conn.RemoteAddr() != nil:
			return conn, nil
		case err == nil:
			conn.Close() // whoever it was has gone
		case errors.As(err, &fault) && fault.Temporary(): //nolint:staticcheck // it is what http.Server asks
			return nil, err // no more files may be open: the server takes a breath
		}
	}
}

// Close ends the listener, and the connections that wait.
func (l *lobby) Close() error { return l.callers.close() }

// pace spreads a fleet that comes at once over a time. Its end is fixed when the fleet comes: who comes meanwhile does not put
// it off, or a steady stream behind a storm would wait for ever.
type pace struct {
	// static
	spread time.Duration
	usual  time.Duration

	until time.Time // all who wait are to be in; zero: no fleet comes
	due   time.Time // the next may come in
}

func newPace(spread time.Duration, turns int) pace {
	return pace{spread: spread, usual: usualPace / time.Duration(turns)}
}

// next says how long the next one still waits; so many more wait behind it.
func (p *pace) next(now time.Time, behind int) time.Duration {
	if p.spread == 0 {
		return 0
	}
	switch {
	case behind == 0:
		p.until = time.Time{}
	case behind >= storm && p.until.IsZero():
		p.until = now.Add(p.spread)
	}
	step := p.usual
	if !p.until.IsZero() {
		step = min(slowestPace, max(0, p.until.Sub(now))/time.Duration(behind+1))
	}
	if credit := now.Add(-paceCredit); p.due.Before(credit) {
		p.due = credit
	}
	wait := p.due.Sub(now)
	p.due = p.due.Add(step)
	if wait < paceStep {
		return 0
	}
	return wait
}
