package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairlead-hub/fairlead/ingest"
)

// naming is a store that takes the good lines of every body, and names the others by their number, off by so many: what
// InfluxDB 3 Core does, if off is 0.
type naming struct {
	*scripted
	bad   func(line []byte) bool
	off   int
	calls atomic.Int64
}

func (s *naming) Write(ctx context.Context, body []byte) error {
	s.calls.Add(1)
	var good []byte
	named := make(map[int]string)
	n := bytes.Count(body, []byte("\n"))
	i := 0
	for line := range bytes.Lines(body) {
		if s.bad(line) {
			named[(i+s.off)%n] = fmt.Sprintf("the store dislikes %s", bytes.TrimSpace(line))
		} else {
			good = append(good, line...)
		}
		i++
	}
	if err := s.scripted.Write(ctx, good); err != nil || len(named) == 0 {
		return err
	}
	return &ingest.StoreError{Verdict: ingest.Refused, Status: 400, Err: fmt.Errorf("%d lines refused", len(named)), Lines: named}
}

// Lines that the store names are set aside by three writes, each with its own reason. If it names others than it refused,
// that costs more writes: no good line is set aside, and no bad one is lost.
func TestNamedLinesAreSetAside(t *testing.T) {
	const n = 1000
	for off, most := range map[int]int64{0: 3, 1: n} {
		t.Run(fmt.Sprintf("off by %d", off), func(t *testing.T) {
			isBad := func(i int) bool { return i%10 == 3 || i == 500 }
			var body strings.Builder
			var want []string
			for i := range n {
				line := fmt.Sprintf("m,device=dev-1 n=%d %d", i, i+1)
				if isBad(i) {
					line = fmt.Sprintf("m,device=dev-1 n=\"%d\" %d", i, i+1)
					want = append(want, line)
				}
				body.WriteString(line + "\n")
			}
			store := &naming{scripted: newScripted(nil), off: off, bad: func(line []byte) bool { return bytes.Contains(line, []byte(`"`)) }}
			b := openBus(t, t.TempDir(), false)
			publish(t, b, ingest.EncodeBatch(body.String()))
			w, dead, stop := startWriter(t, b, store)
			got := letters(t, dead, len(want))
			awaitEmptyLog(t, b)
			stop()
			if off == 0 && strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("letters %q, want %q", got, want)
			}
			found, err := dead.List(t.Context(), "", 0, n)
			if err != nil || len(found) != len(want) {
				t.Fatalf("%d letters (%v), want %d", len(found), err, len(want))
			}
			for _, l := range found {
				if !strings.Contains(l.Line, `"`) || !strings.HasPrefix(l.Reason, "the store dislikes") || off == 0 && !strings.HasSuffix(l.Reason, l.Line) {
					t.Errorf("letter %q because %q", l.Line, l.Reason)
				}
			}
			if calls := store.calls.Load(); calls > most {
				t.Errorf("%d writes, want at most %d", calls, most)
			}
			if len(store.lines) != n-len(want) {
				t.Errorf("%d lines stored, want %d", len(store.lines), n-len(want))
			}
			if err := w.Healthy(); err != nil {
				t.Errorf("healthy: %v", err)
			}
		})
	}
}
