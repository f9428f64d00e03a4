//go:build linux

package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

const (
	muchRoom   = 8 << 30  // for all streams, and nearly for the log that onDisk asks for
	lessRoom   = 7 << 29  // for a small log
	littleRoom = 1 << 30  // less than the other streams reserve
	smallLog   = 16 << 20 // the least that makes sense
)

// disk is a disk whose size can be changed. It needs root, for the mount.
type disk string

func newDisk(t *testing.T, size int64) disk {
	t.Helper()
	d := disk(t.TempDir())
	run(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs", string(d))
	t.Cleanup(func() { run(t, "umount", string(d)) })
	return d
}

func (d disk) resize(t *testing.T, size int64) {
	t.Helper()
	run(t, "mount", "-o", fmt.Sprintf("remount,size=%d", size), string(d))
}

func (d disk) used(t *testing.T) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(string(d), &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, args, err, out)
	}
}

func onDisk(t *testing.T, d disk, log slog.Handler) (*bus.Bus, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return bus.Open(ctx, bus.Options{
		Dir: string(d), Node: "n1", Sync: true, MinFree: 64 << 20, Log: slog.New(log),
		Sizes: bus.Sizes{TelemetryBytes: 4 << 30, DeadletterKeep: time.Hour, CommandsBytes: 1 << 20, CommandsKeep: time.Hour},
	})
}

func mustOpen(t *testing.T, d disk, log slog.Handler) *bus.Bus {
	t.Helper()
	b, err := onDisk(t, d, log)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func publish(t *testing.T, b *bus.Bus, messages, size int) {
	t.Helper()
	for range messages {
		if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRead reads the whole log as the writer does, with a cursor of its own.
func wantRead(t *testing.T, b *bus.Bus, messages int) {
	t.Helper()
	s := telemetry(t, b)
	if n := s.CachedInfo().State.Msgs; n != uint64(messages) {
		t.Fatalf("%d messages are in the log, want %d", n, messages)
	}
	cons, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		msg, err := cons.Next()
		if err != nil {
			t.Fatalf("message %d: %v", i+1, err)
		}
		if meta, err := msg.Metadata(); err != nil || meta.Sequence.Stream != uint64(i+1) {
			t.Fatalf("message %v (%v), want %d", meta, err, i+1)
		}
	}
}

func telemetry(t *testing.T, b *bus.Bus) jetstream.Stream {
	t.Helper()
	s, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A hub that has started once starts on a disk that others have filled since, with a smaller log. The first start refuses
// such a disk: the control.
func TestStartsWithLessRoomThanBefore(t *testing.T) {
	if b, err := onDisk(t, newDisk(t, littleRoom), slog.DiscardHandler); !errors.Is(err, bus.ErrNoRoom) {
		t.Errorf("first start with little room: %v, want %v", err, bus.ErrNoRoom)
		if err == nil {
			b.Close()
		}
	}
	for _, tt := range []struct {
		what        string
		room        int64
		least, most int64 // that the log may hold then
	}{
		{"less room", lessRoom, smallLog + 1, 1 << 30},
		{"little room", littleRoom, smallLog, smallLog},
	} {
		t.Run(tt.what, func(t *testing.T) {
			d := newDisk(t, muchRoom)
			b := mustOpen(t, d, slog.DiscardHandler)
			before := logBytes(t, b)
			publish(t, b, 3, 1000)
			closeBus(t, b)

			d.resize(t, tt.room)
			b = mustOpen(t, d, slog.DiscardHandler)
			wantRead(t, b, 3)
			if now := logBytes(t, b); now < tt.least || now > tt.most {
				t.Errorf("the log may hold %d bytes, want %d to %d", now, tt.least, tt.most)
			}
			publish(t, b, 1, 1000)
			closeBus(t, b)

			d.resize(t, muchRoom)
			b = mustOpen(t, d, slog.DiscardHandler)
			wantRead(t, b, 4)
			if again := logBytes(t, b); again < before-1<<20 {
				t.Errorf("with room again the log may hold %d bytes, want %d as before", again, before)
			}
			closeBus(t, b)
		})
	}
}

func logBytes(t *testing.T, b *bus.Bus) int64 {
	t.Helper()
	return telemetry(t, b).CachedInfo().Config.MaxBytes
}

func closeBus(t *testing.T, b *bus.Bus) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// A log that holds more than it may by now keeps all of it, and takes nothing until the writer has cut it.
func TestASmallerLogLosesNothing(t *testing.T) {
	const messages, size = 40, 512 << 10 // more than smallLog
	d := newDisk(t, muchRoom)
	b := mustOpen(t, d, slog.DiscardHandler)
	publish(t, b, messages, size)
	closeBus(t, b)

	d.resize(t, littleRoom)
	b = mustOpen(t, d, slog.DiscardHandler)
	defer b.Close()
	wantRead(t, b, messages)
	if _, err := b.JetStream().Publish(t.Context(), bus.TelemetrySubject, []byte("x")); !bus.IsFull(err) {
		t.Errorf("publish to a log that holds too much: %v, want that it is full", err)
	}
	if err := telemetry(t, b).Purge(t.Context(), jetstream.WithPurgeSequence(messages)); err != nil {
		t.Fatal(err)
	}
	publish(t, b, 1, size)
}

// outcomes is a log that tells how mending ended.
type outcomes struct {
	slog.Handler
	ended chan string
}

func (o outcomes) Enabled(context.Context, slog.Level) bool { return true }

func (o outcomes) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "embedded nats is back" && r.Message != "start embedded nats again" {
		return nil
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += ": " + a.Value.String()
		return true
	})
	select {
	case o.ended <- text:
	default: // the test has its answer
	}
	return nil
}

// A disk that was full, and then has less room than at the start, but more than is to stay free, is enough to go on.
func TestMendsWithLessRoomThanBefore(t *testing.T) {
	for what, room := range map[string]int64{"less room": lessRoom, "little room": littleRoom} {
		t.Run(what, func(t *testing.T) {
			d := newDisk(t, muchRoom)
			mending := outcomes{slog.DiscardHandler, make(chan string, 1)}
			b := mustOpen(t, d, mending)
			defer closeBus(t, b)
			defer watch(t, b)()
			publish(t, b, 3, 1000)

			d.resize(t, d.used(t)+1<<20)
			for b.Room() == nil {
				time.Sleep(time.Millisecond)
			}
			d.resize(t, room)
			if got := <-mending.ended; got != "embedded nats is back" {
				t.Fatalf("mending ended with %q", got)
			}
			if err := b.Healthy(); err != nil {
				t.Error(err)
			}
			wantRead(t, b, 3)
			publish(t, b, 1, 1000)
		})
	}
}

// watch lets b look after its disk until stop is called.
func watch(t *testing.T, b *bus.Bus) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
