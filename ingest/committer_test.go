package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// logged reads the whole log as line protocol.
func logged(tb testing.TB, b *bus.Bus) []string {
	tb.Helper()
	s, err := b.Stream(tb.Context(), bus.StreamTelemetry)
	if err != nil {
		tb.Fatal(err)
	}
	info, err := s.Info(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	var lines []string
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		msg, err := s.GetMsg(tb.Context(), seq)
		if err != nil {
			tb.Fatal(err)
		}
		got, err := ingest.BatchLines(msg.Data)
		if err != nil {
			tb.Fatal(err)
		}
		lines = append(lines, got...)
	}
	return lines
}

func TestAckMeansLogged(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, stop := startCommitter(t, b.JetStream(), nil)
	const devices, frames = 20, 200
	var wg sync.WaitGroup
	for d := range devices {
		wg.Go(func() {
			w := newWaiter()
			src := c.Open(fmt.Sprintf("dev-%d", d), nil, w)
			for i := 1; i <= frames; i++ {
				if err := src.Append(frame(t, fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"n":%d},"time":%d}`, i, i, 1700000000000+i))); err != nil {
					t.Error(err)
					return
				}
			}
			w.wait(frames)
		})
	}
	wg.Wait()
	stop()
	last := make(map[string]int64)
	lines := logged(t, b)
	for _, l := range lines {
		head, rest, _ := strings.Cut(l, " ")
		var at int64
		if _, err := fmt.Sscan(l[strings.LastIndexByte(l, ' '):], &at); err != nil {
			t.Fatal(err)
		}
		if at <= last[head] {
			t.Fatalf("%s %s stands behind a later one", head, rest)
		}
		last[head] = at
	}
	if len(lines) != devices*frames {
		t.Errorf("%d lines in the log, want %d", len(lines), devices*frames)
	}
}

func TestStopCommitsWhatIsOpen(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, stop := startCommitter(t, b.JetStream(), nil)
	w := newWaiter()
	src := c.Open("d", nil, w)
	for i := 1; i <= 500; i++ {
		if err := src.Append(frame(t, fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"n":1}}`, i))); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if w.stored() != 500 {
		t.Errorf("stored up to %d when the committer had stopped, want 500", w.stored())
	}
	if err := src.Append(frame(t, `{"type":"telemetry","seq":501,"fields":{"n":1}}`)); !errors.Is(err, ingest.ErrClosed) {
		t.Errorf("append after stop: %v", err)
	}
}

// flaky is a bus that refuses some publishes, and stores some that it says it did not.
type flaky struct {
	jetstream.JetStream
	n atomic.Int64
}

var errFlaky = errors.New("no room today")

type refusal struct{ err chan error }

func (r refusal) Ok() <-chan *jetstream.PubAck { return nil }
func (r refusal) Err() <-chan error            { return r.err }
func (r refusal) Msg() *nats.Msg               { return nil }

func (f *flaky) PublishAsync(subject string, data []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	switch f.n.Add(1) % 5 {
	case 1:
		return nil, errFlaky
	case 3: // stored, but the ack is lost
		if _, err := f.JetStream.Publish(context.Background(), subject, data); err != nil {
			return nil, err
		}
		r := refusal{make(chan error, 1)}
		r.err <- errFlaky
		return r, nil
	}
	return f.JetStream.PublishAsync(subject, data, opts...)
}

func (f *flaky) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if f.n.Add(1)%4 == 0 {
		return nil, errFlaky
	}
	return f.JetStream.Publish(ctx, subject, data, opts...)
}

func TestRefusedPublishesKeepOrderAndLoseNothing(t *testing.T) {
	b := openBus(t, t.TempDir(), true)
	c, stop := startCommitter(t, &flaky{JetStream: b.JetStream()}, func(o *ingest.Options) { o.Config.BatchBytes = 2 << 10 })
	const frames = 300
	w := newWaiter()
	src := c.Open("d", nil, w)
	for i := 1; i <= frames; i++ {
		if err := src.Append(frame(t, numbered(i))); err != nil {
			t.Fatal(err)
		}
	}
	w.wait(frames)
	stop()
	wantInOrder(t, logged(t, b), frames)
}

// numbered is the i-th frame of a device, from 1 on.
func numbered(i int) string {
	return fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"n":%d},"time":%d}`, i, i, 1700000000000+i)
}

// wantInOrder fails unless all numbered frames of the device d are logged. Lines may stand twice, but the last copy of each
// stands behind the last copy of the one before.
func wantInOrder(t *testing.T, lines []string, frames int) {
	t.Helper()
	at := make(map[string]int)
	for i, l := range lines {
		at[l] = i
	}
	if len(at) != frames {
		t.Fatalf("%d different lines, want %d", len(at), frames)
	}
	for i := 2; i <= frames; i++ {
		line := func(i int) string { return fmt.Sprintf("telemetry,device=d n=%d %d000000", i, 1700000000000+i) }
		if at[line(i)] < at[line(i-1)] {
			t.Fatalf("line %d stands before line %d", i, i-1)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), nil)
	src := c.Open("pump-7", map[string]string{}, nil)
	f := frame(t, `{"type":"telemetry","seq":1,"points":[{"measurement":"env","time":1763832000123,"tags":{"room":"b2"},"fields":{"temp":21.5,"hum":40.2,"s":"x"}}]}`)
	for range 1000 {
		if err := src.Append(f); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(2000, func() { _ = src.Append(f) }); n > 0.5 {
		t.Errorf("%v allocations a frame", n)
	}
}

// BenchmarkAppend is the way from a frame's bytes to the open batch, on a bus that syncs.
func BenchmarkAppend(b *testing.B) {
	bs := openBus(b, b.TempDir(), true)
	c, _ := startCommitter(b, bs.JetStream(), nil)
	w := newWaiter()
	src := c.Open("pump-7", nil, w)
	data := []byte(`{"type":"telemetry","points":[{"measurement":"env","time":1763832000123,"tags":{"room":"b2"},"fields":{"temp":21.5,"hum":40.2,"co2":612.25,"p":1013.25,"door":true}}]}`)
	var d wire.Decoder
	b.ReportAllocs()
	seq := uint64(0)
	for b.Loop() {
		f, err := d.Decode(wire.JSON, data)
		if err != nil {
			b.Fatal(err)
		}
		t := f.(*wire.Telemetry)
		seq++
		t.Seq = seq
		if err := src.Append(t); err != nil {
			b.Fatal(err)
		}
	}
	w.wait(seq)
}

// While there is no room nothing is published, whoever appends waits, and readiness says why; then all goes on.
func TestNoRoomHoldsBack(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	var full atomic.Bool
	full.Store(true)
	noRoom := errors.New("disk is full")
	c, stop := startCommitter(t, b.JetStream(), func(o *ingest.Options) {
		o.Room = func() error {
			if full.Load() {
				return noRoom
			}
			return nil
		}
	})
	w := newWaiter()
	src := c.Open("d", nil, w)
	const frames = 6000 // more than the open batch has room for
	appended := make(chan error, 1)
	go func() {
		for i := 1; i <= frames; i++ {
			if err := src.Append(frame(t, fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"text":%q}}`, i, strings.Repeat("x", 40)))); err != nil {
				appended <- err
				return
			}
		}
		appended <- nil
	}()
	for c.Healthy() == nil {
		runtime.Gosched()
	}
	if err := c.Healthy(); !errors.Is(err, noRoom) {
		t.Errorf("not ready because of %v", err)
	}
	s, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 0 || w.stored() != 0 {
		t.Errorf("%d batches were published and %d points acked without room", n, w.stored())
	}
	full.Store(false)
	w.wait(frames)
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	stop()
	if n := len(logged(t, b)); n != frames {
		t.Errorf("%d points in the log, want %d", n, frames)
	}
}

// balky is a bus that refuses every publish of some batches.
type balky struct {
	jetstream.JetStream
	refuses func(batch []byte) bool
	tried   chan struct{} // told of a refusal, if there is room
}

func (p *balky) PublishAsync(subject string, data []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	if p.refuses(data) {
		return nil, errFlaky
	}
	return p.JetStream.PublishAsync(subject, data, opts...)
}

func (p *balky) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if p.refuses(data) {
		select {
		case p.tried <- struct{}{}:
		default:
		}
		return nil, errFlaky
	}
	return p.JetStream.Publish(ctx, subject, data, opts...)
}

// A hub that stops while the log refuses a batch acks nothing that was sent after it: an ack says that all before is stored.
func TestStopAcksNothingBehindWhatIsNotStored(t *testing.T) {
	for name, refused := range map[string]bool{"refused": true, "the control": false} {
		b := openBus(t, t.TempDir(), true)
		log := &balky{JetStream: b.JetStream(), tried: make(chan struct{}, 1), refuses: func(batch []byte) bool {
			return refused && bytes.Contains(batch, []byte(" n=1 "))
		}}
		c, stop := startCommitter(t, log, nil)
		w := newWaiter()
		src := c.Open("d", nil, w)
		for i := 1; i <= 2; i++ {
			if err := src.Append(frame(t, numbered(i))); err != nil {
				t.Fatal(err)
			}
			if i == 1 && refused {
				<-log.tried // what comes now is sealed once that batch is given up
			}
		}
		stop()
		if want := map[bool]uint64{true: 0, false: 2}[refused]; w.stored() != want {
			t.Errorf("%s: acked up to %d, want %d; the log has %q", name, w.stored(), want, logged(t, b))
		}
	}
}

// A hub that stops while there is no room does not wait for it: nobody was acked.
func TestStopWithoutRoom(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, stop := startCommitter(t, b.JetStream(), func(o *ingest.Options) {
		o.Room = func() error { return errors.New("disk is full") }
	})
	w := newWaiter()
	if err := c.Open("d", nil, w).Append(frame(t, `{"type":"telemetry","seq":1,"fields":{"n":1}}`)); err != nil {
		t.Fatal(err)
	}
	stop()
	if w.stored() != 0 {
		t.Error("acked without room")
	}
}

// A device that has sent a block, which is far longer as lines, holds no room for it afterwards; one of short frames keeps its own.
func TestSourcesHoldNoRoomForLongLines(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), nil)
	tag := strings.Repeat("x", 200)
	block := fmt.Sprintf(`{"type":"telemetry","blocks":[{"start":1763832000000,"step_us":1000,"tags":{"a":%q,"b":%q},"fields":{"n":[%s1]}}]}`,
		tag, tag, strings.Repeat("1,", 999))
	src := c.Open("d", nil, nil)
	for _, f := range []struct {
		js    string
		holds bool
	}{{block, false}, {block, false}, {numbered(1), false}, {numbered(2), true}, {block, false}} {
		if err := src.Append(frame(t, f.js)); err != nil {
			t.Fatal(err)
		}
		if n := ingest.Held(src); n > 4<<10 || (n > 0) != f.holds && f.js != numbered(1) { // the first short one may have been lent a long room
			t.Errorf("after %.60s: room for %d bytes", f.js, n)
		}
	}
}
