package ingest_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// wantFirst waits until the log begins with a batch that will do, and returns it.
func wantFirst(t *testing.T, s jetstream.Stream, will func(jetstream.StreamState) bool) uint64 {
	t.Helper()
	for {
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if will(info.State) {
			return info.State.FirstSeq
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func empty(s jetstream.StreamState) bool { return s.Msgs == 0 }

func TestTheLogIsCutBehindTheWriter(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, _ := startCommitter(t, b.JetStream(), nil)
	store := newScripted(nil)
	startWriter(t, b, store)
	send(t, c, 4, 100)
	store.wait(400)
	s, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	wantFirst(t, s, empty)
}

// A writer that is behind cuts the log where its files begin, and what is left once it is up. One that does not know the
// files cuts where it is: the control.
func TestWhoIsBehindCutsWholeFiles(t *testing.T) {
	t.Run("files known", func(t *testing.T) {
		if first, starts := cutBehind(t, true); !slices.Contains(starts, first) {
			t.Errorf("the log is cut at %d, its files begin with %v", first, starts)
		}
	})
	t.Run("files unknown", func(t *testing.T) {
		if first, starts := cutBehind(t, false); slices.Contains(starts, first) {
			t.Errorf("the log is cut at %d, where a file begins: the test would pass without knowing the files", first)
		}
	})
}

// cutBehind has a writer stop in the middle of a log of some files and returns where the log begins then, and where the
// files began.
func cutBehind(t *testing.T, known bool) (first uint64, starts []uint64) {
	const batches, held = 160, 100
	b := openBus(t, t.TempDir(), false)
	list := b.Files(bus.StreamTelemetry)
	text := strings.Repeat("x", 4000)
	for i := range batches {
		var lines strings.Builder
		for n := range 45 {
			fmt.Fprintf(&lines, "m,n=%d batch=%d,text=%q 1\n", n, i, text)
		}
		// They are of 1970, so whoever has one before him is far behind.
		if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, ingest.EncodeBatch(lines.String())); err != nil {
			t.Fatal(err)
		}
	}
	starts = list()
	if len(starts) < 3 {
		t.Fatalf("files begin with %v: too few to tell", starts)
	}
	begin, goOn := make(chan struct{}), make(chan struct{})
	store := newScripted(func(body []byte, call int) error {
		if call == 1 {
			<-begin
		}
		if bytes.Contains(body, fmt.Appendf(nil, " batch=%d,", held)) {
			<-goOn
		}
		return nil
	})
	if !known {
		list = nil
	}
	w, _, _ := startWriterKnowing(t, b, store, list)
	for w.Lag() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	close(begin)
	s, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	first = wantFirst(t, s, func(s jetstream.StreamState) bool { return s.FirstSeq > starts[1]-1 })
	close(goOn)
	wantFirst(t, s, empty)
	return first, starts
}

// Whatever is read of the files, nothing is cut that is not written.
func TestWholeFiles(t *testing.T) {
	for _, tt := range []struct {
		what   string
		starts []uint64
		floor  uint64
		want   uint64
	}{
		{"within the second", []uint64{1, 41, 81}, 60, 40},
		{"the first is through", []uint64{1, 41, 81}, 40, 40},
		{"all but its last", []uint64{1, 41, 81}, 39, 0},
		{"within the last", []uint64{1, 41, 81}, 100, 80},
		{"nothing is written", []uint64{41, 81}, 0, 0},
		{"no file is known", nil, 60, 60},
		{"files behind all that is written", []uint64{900}, 60, 60},
		{"files that begin with nothing", []uint64{0, 0}, 60, 60},
	} {
		if got := ingest.WholeFiles(tt.starts, tt.floor); got != tt.want {
			t.Errorf("%s: cut at %d, want %d", tt.what, got, tt.want)
		}
	}
}
