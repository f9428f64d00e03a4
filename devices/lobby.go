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
	// slowestPace is the longest between two that are let in, however few wait.
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

// pace spreads those who come at once over a time.
type pace struct {
	spread time.Duration
	most   int       // who waited at once since nobody did
	due    time.Time // when the next may come in
}

// next says how long the next one still waits; so many more wait behind it.
func (p *pace) next(now time.Time, behind int) time.Duration {
	p.most = max(p.most, behind+1)
	step := min(slowestPace, p.spread/time.Duration(p.most))
	if behind == 0 {
		p.most = 0
	}
	if credit := now.Add(-paceCredit); p.due.Before(credit) {
		p.due = credit
	}
	wait := max(0, p.due.Sub(now))
	p.due = p.due.Add(step)
	if wait < paceStep {
		return 0
	}
	return wait
}
