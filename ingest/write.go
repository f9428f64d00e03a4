package ingest

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// The wait between two attempts to write.
const (
	writeRetryFirst = 100 * time.Millisecond
	writeRetryMost  = 5 * time.Second
	// awayRetryMost is for a store that does not answer at all: to ask costs it nothing, and when it is back the log is
	// waiting.
	awayRetryMost = time.Second
)

// write stores lines, whatever it takes. It returns only when every line is in the store or with the dead letters, or
// when ctx ends.
func (w *Writer) write(ctx context.Context, lines []byte) error {
	wait := writeRetryFirst
	for {
		err := w.ask(ctx, lines)
		if err == nil {
			w.recovered()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		what, after := verdict(err)
		switch what {
		case Refused, TooLarge:
			w.recovered() // the store answers
			return w.refused(ctx, lines, err)
		case Misconfigured:
			w.metrics.held.Inc()
			w.failed(err, "InfluxDB refuses all writes; correct influx.token, influx.org or influx.bucket")
		default:
			w.metrics.retries.Inc()
			w.failed(err, "InfluxDB does not take points; they wait in the log")
		}
		if !pause(ctx, max(after, wait/2+rand.N(wait))) {
			return ctx.Err()
		}
		most := writeRetryMost
		if !answered(err) {
			most = awayRetryMost
		}
		wait = min(2*wait, most)
	}
}

// ask writes lines once, when it is the lane's turn. Nobody keeps the turn while it waits for a store that is away, or sets
// lines aside: the other lanes may have what the store takes.
func (w *Writer) ask(ctx context.Context, lines []byte) error {
	finished, err := w.pace.begin(ctx)
	if err != nil {
		return err
	}
	defer finished()
	start := time.Now()
	if err := w.store.Write(ctx, lines); err != nil {
		return err
	}
	w.metrics.wrote(lines, time.Since(start))
	return nil
}

// answered reports whether the store said no, and not nothing.
func answered(err error) bool {
	var e *StoreError
	return errors.As(err, &e) && e.Status != 0
}

// failed notes trouble: once in the log, and in readiness until it has passed.
func (w *Writer) failed(err error, what string) {
	if w.trouble.Swap(&err) == nil {
		w.metrics.up.Set(0)
		w.slog.Error(what, "err", err)
	}
}

func (w *Writer) recovered() {
	if w.trouble.Load() != nil && w.trouble.Swap(nil) != nil {
		w.metrics.up.Set(1)
		w.slog.Info("InfluxDB takes points again")
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
