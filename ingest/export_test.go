package ingest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// RenderLine returns the line protocol of a frame, or why it is refused.
func RenderLine(s *Source, t *wire.Telemetry) ([]byte, error) {
	s.borrow()
	for {
		rej := s.render(t, time.Now().UnixNano())
		switch {
		case rej == nil:
			return s.buf, nil
		case rej != errUnsettled:
			return nil, rej
		}
		if err := s.settleTypes(t); err != nil {
			return nil, errors.Join(err)
		}
	}
}

// Held is for how many bytes of lines a source has room.
func Held(s *Source) int {
	if s.rendering == nil {
		return 0
	}
	return cap(s.buf)
}

// BatchLines returns the lines of an encoded batch.
func BatchLines(b []byte) ([]string, error) {
	_, lanes, err := readBatch(b)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range lanes {
		if len(l.data) > 0 {
			lines = append(lines, strings.Split(strings.TrimSuffix(string(l.data), "\n"), "\n")...)
		}
	}
	return lines, nil
}

// Look lets w find out whether it catches up, while its oldest point is so old.
func (w *Writer) Look(ctx context.Context, lag time.Duration, cons jetstream.Consumer) {
	w.lag.Store(int64(lag))
	w.look(ctx, cons)
}

// Turn waits for a lane's turn to write.
func (w *Writer) Turn(ctx context.Context) (finished func(), err error) { return w.pace.begin(ctx) }

// Waiting is how many lanes wait for a turn to write.
func (w *Writer) Waiting() int { return int(w.pace.waits.Load()) }

// WriteLines stores lines as a lane does.
func (w *Writer) WriteLines(ctx context.Context, lines []byte) error { return w.write(ctx, lines) }

// MaxUnwritten is how many batches may be in memory.
const MaxUnwritten = maxUnwritten

// EncodeBatch is a batch of the log with the lines of each lane, from the first on.
func EncodeBatch(lines ...string) []byte {
	var lanes [Lanes]lane
	for i, l := range lines {
		lanes[i] = lane{[]byte(l), strings.Count(l, "\n")}
	}
	return appendBatch(nil, 1, &lanes)
}

// WholeFiles is up to where a log that lies in these files is cut by a writer that is behind and has written up to floor.
func WholeFiles(starts []uint64, floor uint64) uint64 {
	f := files{list: func() []uint64 { return starts }}
	return f.whole(floor)
}

// ShareEnds is the last batch that is cut because outlets have used up their share of the log.
func ShareEnds(log *jetstream.StreamInfo) uint64 { return shareEnds(log) }
