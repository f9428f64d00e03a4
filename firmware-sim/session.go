package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Bounds of a session.
const (
	welcomeTimeout  = 15 * time.Second // from the upgrade to the welcome
	heartbeatMargin = 5 * time.Second  // beyond two heartbeats without a sign of the hub
	goodbyeTimeout  = time.Second      // for the hub to answer our close
	inboxFrames     = 16               // decoded and not handled
	framesPerTurn   = 32               // sent before the inbox is looked at
)

// session is one socket of a device.
type session struct {
	// static after attend
	d     *Device
	conn  *websocket.Conn
	inbox chan any       // from the reader: frames of the hub, and over at last
	quit  chan struct{}  // closed by the loop: the reader must not wait for room in the inbox
	calls sync.WaitGroup // reader and token renewal
	fresh chan renewal

	// owned by the reader
	patience time.Duration // without a sign of the hub

	// owned by the loop
	welcome *wire.Welcome
	most    room
	window  int
	seq     uint64
	flight  []frame // sent, oldest first
	bye     *wire.Bye
	renewal renewalState
	breakAt time.Time // --faults disconnect
	leaving bool      // the context has ended: nothing new
	writing []byte
}

type renewal struct {
	token string
	err   error
}

// renewalState is how far the renewal of the token is.
type renewalState uint8

const (
	renewalNone    renewalState = iota
	renewalAsked                // the token source is at work
	renewalOffered              // the hub has the new token and has not confirmed it
)

// over is the reader's last word: why there will be no more frames. (A reject frame is an error too.)
type over struct{ err error }

// outcome is how one attempt to connect went.
type outcome struct {
	cause    error
	bye      *wire.Bye
	welcomed bool
}

// attend connects and stays until the session ends. ctx asks it to finish, life ends it.
func (d *Device) attend(ctx, life context.Context) outcome {
	conn, err := d.uplink.dial(life, d.id, d.refused)
	if err != nil {
		return outcome{cause: err}
	}
	s := &session{
		d: d, conn: conn, inbox: make(chan any, inboxFrames), quit: make(chan struct{}), fresh: make(chan renewal, 1),
		patience: welcomeTimeout,
	}
	conn.SetReadLimit(readLimit)
	conn.SetPingHandler(s.pong)
	s.calls.Go(s.read)
	inner, cancel := context.WithCancel(life)
	err = s.loop(ctx, inner)
	if errors.Is(err, errDrained) {
		s.goodbye()
	}
	cancel()
	close(s.quit)
	_ = conn.Close() // it frees the reader; the reason why is in err
	s.calls.Wait()
	return outcome{cause: err, bye: s.bye, welcomed: s.welcome != nil}
}

// read is the only reader of the socket. It ends with the socket.
func (s *session) read() {
	for {
		s.alive()
		_, data, err := s.conn.ReadMessage()
		if err != nil {
			var slow net.Error
			if errors.As(err, &slow) && slow.Timeout() {
				err = fmt.Errorf("%w for %s", errSilent, s.patience)
			}
			s.deliver(over{err})
			return
		}
		f, err := decodeHub(s.d.shape.codec, data)
		if err != nil {
			var unknown *wire.UnknownType
			if errors.As(err, &unknown) {
				continue // a newer hub may say more than this device knows
			}
			s.deliver(over{err})
			return
		}
		if w, ok := f.(*wire.Welcome); ok && w.HeartbeatS > 0 {
			s.patience = 2*time.Duration(w.HeartbeatS)*time.Second + heartbeatMargin
		}
		if !s.deliver(f) {
			return
		}
	}
}

func (s *session) deliver(f any) bool {
	select {
	case s.inbox <- f:
		return true
	case <-s.quit:
		return false
	}
}

func (s *session) alive() { _ = s.conn.SetReadDeadline(time.Now().Add(s.patience)) } // the read tells if that went wrong

// pong answers a ping [RFC6455 5.5.2]; gorilla calls it on the reader.
func (s *session) pong(nonce string) error {
	s.alive()
	err := s.conn.WriteControl(websocket.PongMessage, []byte(nonce), time.Now().Add(s.patience))
	var slow net.Error
	if errors.Is(err, websocket.ErrCloseSent) || errors.As(err, &slow) && slow.Timeout() {
		return nil // the loop finds out by itself
	}
	return err
}

// loop is the only writer of the socket. It returns why the session is over.
func (s *session) loop(ctx, life context.Context) error {
	timer := time.NewTimer(welcomeTimeout)
	defer timer.Stop()
	stop := ctx.Done()
	for {
		if s.welcome != nil {
			next, err := s.turn(time.Now())
			if err != nil {
				return err
			}
			timer.Reset(time.Until(next))
		}
		select {
		case f := <-s.inbox:
			if err := s.handle(life, f); err != nil {
				return err
			}
		case r := <-s.fresh:
			if err := s.renewed(r); err != nil {
				return err
			}
		case <-timer.C:
		case <-stop:
			s.leaving, stop = true, nil
		case <-life.Done():
			return context.Cause(life)
		}
	}
}

// turn does what is due now and returns when it has to be called again at the latest.
func (s *session) turn(now time.Time) (next time.Time, err error) {
	d := s.d
	next = now.Add(time.Minute)
	sooner := func(at time.Time) {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	if !s.leaving && !d.exhausted {
		filled, err := d.fill(now)
		if err != nil {
			return next, err
		}
		sooner(filled.next)
	}
	due, reboot := d.orders.advance(now, d.hubClock(now))
	sooner(due)
	more, err := s.flush()
	if err != nil {
		return next, err
	}
	if more {
		next = now
	}
	switch {
	case reboot:
		return next, errReboot
	case !s.breakAt.IsZero() && !now.Before(s.breakAt):
		return next, errFault
	case (s.leaving || d.exhausted) && len(s.flight) == 0 && d.settled():
		return next, errDrained
	}
	sooner(s.breakAt)
	return next, nil
}

// goodbye closes the session in the proper way and waits a moment for the hub to do the same.
func (s *session) goodbye() {
	deadline := time.NewTimer(goodbyeTimeout)
	defer deadline.Stop()
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "done")
	if s.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(goodbyeTimeout)) != nil {
		return
	}
	for {
		select {
		case f := <-s.inbox:
			if _, ended := f.(over); ended {
				return
			}
		case <-deadline.C:
			return
		}
	}
}
