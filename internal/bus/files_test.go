package bus_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// A stream that is cut where one of its files begins loses the files before, and the others stay as they are. Cut within
// one, that is written anew: the control.
func TestFilesBeginWhereACutCostsLittle(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	defer b.Close()
	s, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	const messages, size = 160, 200 << 10 // of the 64 MiB that open allows
	for range messages {
		if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	list := b.Files(bus.StreamTelemetry)
	starts := list()
	if len(starts) < 4 || starts[0] != 1 || !slices.IsSorted(starts) || starts[len(starts)-1] > messages {
		t.Fatalf("files begin with %v of %d messages", starts, messages)
	}
	cut := func(first uint64) (files map[string]os.FileInfo) {
		t.Helper()
		if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(first)); err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(t.Context())
		if err != nil || info.State.FirstSeq != first {
			t.Fatalf("the stream begins with %d (%v), want %d", info.State.FirstSeq, err, first)
		}
		return logFiles(t, dir)
	}

	before := logFiles(t, dir)
	after := cut(starts[2])
	if len(after) != len(before)-2 {
		t.Errorf("%d files of %d are left, want 2 fewer", len(after), len(before))
	}
	for name, now := range after {
		if !os.SameFile(before[name], now) || !before[name].ModTime().Equal(now.ModTime()) {
			t.Errorf("%s was written anew", filepath.Base(name))
		}
	}
	if got := list(); !slices.Equal(got, starts[2:]) {
		t.Errorf("files begin with %v, want %v", got, starts[2:])
	}

	within := cut(starts[3] - 1) // most of the file is gone
	anew := 0
	for name, now := range within {
		if !os.SameFile(after[name], now) {
			anew++
		}
	}
	if anew != 1 {
		t.Errorf("a cut within a file wrote %d anew, want 1: then it need not be avoided", anew)
	}
	if got := list(); !slices.Equal(got, append([]uint64{starts[3] - 1}, starts[3:]...)) {
		t.Errorf("files begin with %v", got)
	}
}

// A file that holds no message, or cannot be read, is left out; so is a directory whose name means something to a shell.
func TestFilesThatHoldNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a [b]*")
	b := open(t, dir)
	defer b.Close()
	if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, []byte("x")); err != nil {
		t.Fatal(err)
	}
	msgs := filepath.Join(dir, "jetstream", "$G", "streams", bus.StreamTelemetry, "msgs")
	for name, text := range map[string][]byte{"7.blk": nil, "8.blk": make([]byte, 64), "9.blk": []byte("cut"), "10.txt": {1, 2}} {
		if err := os.WriteFile(filepath.Join(msgs, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Files(bus.StreamTelemetry)(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("files begin with %v, want [1]", got)
	}
}

// logFiles returns the files of the log.
func logFiles(t *testing.T, dir string) map[string]os.FileInfo {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "jetstream", "$G", "streams", bus.StreamTelemetry, "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]os.FileInfo)
	for _, name := range names {
		if files[name], err = os.Stat(name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
