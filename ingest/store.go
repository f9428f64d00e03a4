package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Store is where the log is written to.
type Store interface {
	// Write stores lines of line protocol with nanosecond times. It fails with a *StoreError that says what to do.
	// Writing the same lines again changes nothing.
	Write(ctx context.Context, lines []byte) error
}

// Verdict says what a failed write means for its lines.
type Verdict uint8

const (
	// Unavailable is everything that passes: no answer, 429, 5xx. The lines are written again for ever.
	Unavailable Verdict = iota
	// Refused means that some line is bad: 400, 422. The lines are parted until the bad ones stand alone, see refused.
	Refused
	// TooLarge means that the body is too big: 413. The lines are halved.
	TooLarge
	// Misconfigured means that no line can be written until an operator acts: 401, 403, 404. The lines wait.
	Misconfigured
)

// StoreError is a failed write.
type StoreError struct {
	Verdict    Verdict
	Status     int           // of HTTP; 0: no answer
	RetryAfter time.Duration // what the store asked for; 0: nothing
	Err        error
	// Lines are the refused ones and why, by their number from 0, where the store names them and says that it has taken the
	// others.
	Lines map[int]string
}

// Error tells status and reason.
func (e *StoreError) Error() string {
	if e.Status == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("%d: %v", e.Status, e.Err)
}

// Unwrap returns the reason.
func (e *StoreError) Unwrap() error { return e.Err }

// verdict classifies any error of a store.
func verdict(err error) (Verdict, time.Duration) {
	var e *StoreError
	if errors.As(err, &e) {
		return e.Verdict, e.RetryAfter
	}
	return Unavailable, 0
}
