package ingest_test

import (
	"bytes"
	"errors"
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
	const batches, held = 160, 100 // the first that is not written
	b := openBus(t, t.TempDir(), false)
	text := strings.Repeat("x", 4000)
	for i := range batches {
		var lines strings.Builder
		for n := range linesOfABatch {
			fmt.Fprintf(&lines, "m,n=%d batch=%d,text=%q 1\n", n, i+1, text)
		}
		// They are of 1970, so whoever has one before him is far behind.
		if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, ingest.EncodeBatch(lines.String())); err != nil {
			t.Fatal(err)
		}
	}
	starts := b.Files(bus.StreamTelemetry)()
	n, _ := slices.BinarySearch(starts, held+1)
	if n < 2 || starts[n-1] == held {
		t.Fatalf("files begin with %v: batch %d is not within one", starts, held)
	}
	file := starts[n-1] // that holds it
	s, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}

	known := writeUpTo(t, b, held, func(*ingest.WriterOptions) {})
	if first := wantFirst(t, s, func(s jetstream.StreamState) bool { return s.FirstSeq >= file }); first != file {
		t.Errorf("the log is cut at %d, want %d, where a file begins", first, file)
	}
	known.stop()
	unknown := writeUpTo(t, b, held, func(o *ingest.WriterOptions) { o.Files = nil })
	if first := wantFirst(t, s, func(s jetstream.StreamState) bool { return s.FirstSeq > file }); first > held {
		t.Errorf("the log is cut at %d, and %d is not written", first, held)
	}
	close(unknown.goOn)
	wantFirst(t, s, empty)
	unknown.stop()
}

const linesOfABatch = 45

// heldWriter is a writer whose store holds on to one batch.
type heldWriter struct {
	goOn chan struct{} // lets the store take it
	stop func()
}

// writeUpTo starts a writer that writes one batch at a time, from the moment on at which it knows that it is behind, and
// none from held on.
func writeUpTo(t *testing.T, b *bus.Bus, held int, change func(*ingest.WriterOptions)) heldWriter {
	begin, goOn, stopped := make(chan struct{}), make(chan struct{}), make(chan struct{})
	store := newScripted(func(body []byte, call int) error {
		if call == 1 {
			<-begin
		}
		if bytes.Contains(body, fmt.Appendf(nil, " batch=%d,", held)) {
			select {
			case <-goOn:
			case <-stopped:
				return errors.New("the test goes on without it")
			}
		}
		return nil
	})
	w, _, stop := startWriterWith(t, b, store, func(o *ingest.WriterOptions) {
		o.Config.WriteLines = linesOfABatch
		change(o)
	})
	for w.Lag() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	close(begin)
	return heldWriter{goOn, func() {
		close(stopped)
		stop()
	}}
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
