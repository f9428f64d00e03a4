package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// A broker that is dead keeps half of the log, and no more: devices are taken from all the while. When it is back it has
// what the log still holds, which is the control, and what it has not had is counted.
func TestADeadOutletLeavesRoomInTheLog(t *testing.T) {
	const logBytes, batches, size = bus.MinTelemetryBytes, 60, 400 << 10 // more than the log
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := openBusOf(t, logBytes, t.TempDir(), false)
	log, err := b.Stream(ctx, bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	o, err := ingest.NewOutlet(log, "broker-1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	store := newScripted(nil)
	startWriter(t, b, store)
	first := make(chan func() error, 1)
	go func() { // the broker takes one batch and says nothing any more
		_, done, err := o.Next(ctx)
		if err != nil {
			t.Error(err)
		}
		first <- done
	}()
	for { // until its cursor stands
		if _, err := log.Consumer(ctx, "out-broker-1"); err == nil {
			break
		}
	}

	for i := range batches {
		line := fmt.Sprintf("m,device=d n=%d,text=%q %d\n", i, strings.Repeat("x", size), time.Now().UnixNano())
		for err := bus.ErrNoRoom; err != nil; {
			_, err = b.JetStream().Publish(ctx, bus.TelemetrySubject, ingest.EncodeBatch(line))
			if err != nil && !bus.IsFull(err) {
				t.Fatalf("batch %d, with everything before it written: %v", i, err)
			}
		}
	}
	store.wait(batches)
	done := <-first
	wantFirst(t, log, func(s jetstream.StreamState) bool { return s.Bytes <= logBytes/2 })

	if err := done(); err != nil { // the broker is back
		t.Fatal(err)
	}
	had := uint64(1)
	for n := uint64(0); n < batches-1; had++ {
		points, done, err := o.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n, err = fieldN(points); err != nil {
			t.Fatal(err)
		}
		if err := done(); err != nil {
			t.Fatal(err)
		}
	}
	if had+o.Lost() != batches {
		t.Errorf("%d batches passed on and %d lost, of %d", had, o.Lost(), batches)
	}
	if kept := had * size; kept < logBytes/2-2*size {
		t.Errorf("the outlet had %d bytes, want nearly half of %d", kept, logBytes)
	}
	wantFirst(t, log, empty)
}

// fieldN is the field n of a batch of one point.
func fieldN(points []ingest.StoredPoint) (n uint64, err error) {
	if len(points) != 1 {
		return 0, fmt.Errorf("%d points, want 1", len(points))
	}
	_, err = fmt.Sscan(string(points[0].Point.Fields[0].Value), &n)
	return n, err
}

func TestShareOfOutlets(t *testing.T) {
	for _, tt := range []struct {
		what           string
		most           int64
		first, batches uint64
		holds, want    uint64
	}{
		{"less than half", 1000, 5, 40, 400, 0},
		{"half", 1000, 5, 50, 500, 0},
		{"a byte more", 1000, 5, 50, 501, 5},
		{"full", 1000, 5, 100, 1000, 54},
		{"more than may be", 1000, 1, 300, 3000, 250},
		{"one large batch", 1000, 7, 1, 900, 7},
		{"no bound", -1, 5, 100, 1000, 0},
		{"nothing", 1000, 5, 0, 0, 0},
	} {
		got := ingest.ShareEnds(&jetstream.StreamInfo{
			Config: jetstream.StreamConfig{MaxBytes: tt.most},
			State:  jetstream.StreamState{FirstSeq: tt.first, Msgs: tt.batches, Bytes: tt.holds},
		})
		if got != tt.want {
			t.Errorf("%s: cut at %d, want %d", tt.what, got, tt.want)
		}
	}
}
