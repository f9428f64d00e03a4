package ingest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// refused goes on with lines of which the store refused some, or all.
func (w *Writer) refused(ctx context.Context, lines []byte, reason error) error {
	all := countLines(lines)
	why, dropped := partial(reason)
	named := namedLines(reason)
	if all == 1 || len(named) == all || why != notDropped && dropped == all {
		w.metrics.dead.Add(float64(all))
		return w.dead.Keep(ctx, lines, reason)
	}
	if bad, rest, ok := splitByName(lines, named); ok {
		return w.apart(ctx, rest, bad)
	}
	if why == tooOld {
		if old, rest, ok := splitByAge(lines, dropped); ok {
			return w.apart(ctx, old, rest)
		}
	}
	return w.split(ctx, lines)
}

// split writes two halves apart.
func (w *Writer) split(ctx context.Context, lines []byte) error {
	cut := middle(lines)
	return w.apart(ctx, lines[:cut], lines[cut:])
}

func (w *Writer) apart(ctx context.Context, first, second []byte) error {
	w.metrics.splits.Inc()
	if err := w.write(ctx, first); err != nil {
		return err
	}
	return w.write(ctx, second)
}

// drop is why InfluxDB dropped points of a write and took the others.
type drop uint8

const (
	notDropped drop = iota // or for a reason that may be gone when a line is written again
	tooOld
	wrongType
)

// partial reads how many points of a write InfluxDB 1.8 and 2 dropped, and why. Each counts once, and none of them is
// stored. The count is no more than a lower bound: influxd answers with what the first shard says that dropped any. So all
// were dropped if it is all, and else nothing is known of any one line.
func partial(err error) (why drop, dropped int) {
	_, text, ok := strings.Cut(err.Error(), "partial write: ")
	at := strings.LastIndex(text, " dropped=")
	if !ok || at < 0 {
		return notDropped, 0
	}
	count, _, _ := strings.Cut(text[at+len(" dropped="):], " for database: ") // 2.x names it behind points that are too old
	dropped, bad := strconv.Atoi(count)
	switch {
	case bad != nil || dropped <= 0:
		return notDropped, 0
	case strings.HasPrefix(text, "points beyond retention policy "), // 1.8, and 2.x:
		strings.HasPrefix(text, "dropped ") && strings.Contains(text, " points outside retention policy "):
		return tooOld, dropped
	case strings.HasPrefix(text, "field type conflict: "):
		return wrongType, dropped
	}
	return notDropped, 0
}

// namedLines are the lines that the store says it refused, if it says so.
func namedLines(err error) map[int]string {
	var e *StoreError
	if !errors.As(err, &e) {
		return nil
	}
	return e.Lines
}

// splitByName parts the lines that the store named from the rest. It is believed by its next answers only: that it takes the
// rest, and refuses every one of the named lines. A line that was named by mistake is neither lost nor set aside.
func splitByName(lines []byte, named map[int]string) (bad, rest []byte, ok bool) {
	i := 0
	for line := range bytes.Lines(lines) {
		if _, refused := named[i]; refused {
			bad = append(bad, line...)
		} else {
			rest = append(rest, line...)
		}
		i++
	}
	return bad, rest, len(bad) > 0 && len(rest) > 0
}

// splitByAge parts the n oldest lines from the rest, so that what is beyond the retention stands by itself however it is
// mixed with other lines. It is a guess that the store's next answers confirm or not. Lines of one time stay together and
// in order: the last one of a series wins.
func splitByAge(lines []byte, n int) (old, rest []byte, ok bool) {
	times := make([]int64, 0, countLines(lines))
	for line := range bytes.Lines(lines) {
		at, ok := lineTime(line)
		if !ok {
			return nil, nil, false
		}
		times = append(times, at)
	}
	if n <= 0 || n >= len(times) {
		return nil, nil, false
	}
	sorted := slices.Sorted(slices.Values(times))
	newest := sorted[n-1] // of the old ones
	if newest == sorted[len(sorted)-1] {
		return nil, nil, false
	}
	i := 0
	for line := range bytes.Lines(lines) {
		if times[i] <= newest {
			old = append(old, line...)
		} else {
			rest = append(rest, line...)
		}
		i++
	}
	return old, rest, true
}

// lineTime reads the time of a line that the hub rendered, which always has one.
func lineTime(line []byte) (int64, bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	at, err := strconv.ParseInt(string(line[bytes.LastIndexByte(line, ' ')+1:]), 10, 64)
	return at, err == nil
}

// countLines counts also a last line that does not end.
func countLines(lines []byte) int {
	n := bytes.Count(lines, []byte("\n"))
	if !bytes.HasSuffix(lines, []byte("\n")) {
		n++
	}
	return n
}

// middle is the end of the line that holds the middle of lines, or of the one before it; len(lines) if there is just one.
func middle(lines []byte) int {
	half := len(lines) / 2
	if at := bytes.LastIndexByte(lines[:half], '\n'); at >= 0 {
		return at + 1
	}
	if at := bytes.IndexByte(lines[half:], '\n'); at >= 0 {
		return half + at + 1
	}
	return len(lines)
}
