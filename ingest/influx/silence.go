package influx

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// A store that hung and is back may never answer what it had taken on before: a proxy that lost its other side, a network
// that swallowed packets. Waiting for influx.timeout then only adds to the outage, so a write that is not answered is
// watched by pings, and given up when the store answers them again after it did not. To write the lines once more is
// harmless. Each time, the next write gets twice as long before it is watched: a store that is merely slow must get to
// its end.
type silence struct {
	mu    sync.Mutex
	after time.Duration // guarded by mu
}

// The bounds of watching one write.
const (
	watchFirst = 2 * time.Second
	pingEvery  = time.Second
	pingTime   = time.Second
)

// errGivenUp says that a write hung while the store came back.
var errGivenUp = errors.New("no answer to a write, and the store is back since")

func (s *silence) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.after, watchFirst)
}

// gaveUp makes the next write wait longer, answered as long as the first.
func (s *silence) gaveUp(most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = min(2*max(s.after, watchFirst), most)
}

func (s *silence) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = 0
}

// written writes, and watches if it takes long.
func (s *Store) written(ctx context.Context, write func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- write(ctx) }() // always waited for: it ends with ctx
	timer := time.NewTimer(s.silence.patience())
	defer timer.Stop()
	select {
	case err := <-done:
		s.silence.answered()
		return err
	case <-timer.C:
	}
	for silent := false; ; {
		if s.alive(ctx) {
			if silent {
				s.silence.gaveUp(s.http.Timeout)
				cancel(errGivenUp)
				if err := <-done; err != nil {
					return errors.Join(errGivenUp, err)
				}
				return nil // answered in the last moment
			}
		} else {
			silent = true
		}
		timer.Reset(pingEvery)
		select {
		case err := <-done:
			s.silence.answered()
			return err
		case <-timer.C:
		}
	}
}

// alive asks for no more than an answer.
func (s *Store) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	resp, err := s.get(ctx, http.MethodGet, "/ping", nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply))
	return errors.Join(err, resp.Body.Close()) == nil
}
