package sim_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	sim "github.com/fairlead-hub/fairlead/firmware-sim"
)

func TestDeviceDeliversAndDrains(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.CBOR} {
		t.Run(codec.Subprotocol(), func(t *testing.T) {
			h := newHub(t).start()
			u := h.uplink(codec)
			stop := run(t, device(t, u, sim.DeviceOptions{Model: "thermostat"}))
			until(t, "points stored", func() bool { return len(h.points("dev-1")) > 50 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			got := u.Counts.Tally()
			if got.Unacked != 0 || got.Acked != uint64(len(h.points("dev-1"))) || got.Acked != got.Made {
				t.Errorf("%v, but the hub holds %d", got, len(h.points("dev-1")))
			}
			wantDistinctTimes(t, h, "dev-1")
			if m := h.points("dev-1")[0].measurement; m != "env" {
				t.Errorf("measurement %q", m)
			}
		})
	}
}

func wantDistinctTimes(t *testing.T, h *hub, device string) {
	t.Helper()
	if all, distinct := len(h.points(device)), len(h.final(device)); all != distinct {
		t.Errorf("%s: %d points at %d times", device, all, distinct)
	}
}

// The hub takes a few frames, stores some of them, acks one, and dies. What it did not ack comes again.
func TestDeviceResendsAfterBreak(t *testing.T) {
	for _, forgetful := range []bool{false, true} {
		t.Run(fmt.Sprintf("forgetful=%v", forgetful), func(t *testing.T) {
			h := newHub(t)
			h.limits.UnackedFrames = 8
			h.script = func(n int, s *link) {
				if n > 5 {
					s.obey()
					return
				}
				s.take(s.telemetry())
				for range 6 {
					if s.telemetry() == nil { // taken, and lost with the hub
						return
					}
				}
				s.cut()
			}
			h.start()
			u := h.uplink(wire.JSON)
			d := device(t, u, sim.DeviceOptions{})
			if forgetful {
				d.Forget()
			}
			stop := run(t, d)
			until(t, "the sixth session at work", func() bool { return u.Counts.Tally().Connected >= 6 && len(h.points("dev-1")) > 40 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			got, kept := u.Counts.Tally(), uint64(len(h.final("dev-1")))
			if got.Unacked != 0 || got.Made != got.Acked+got.Dropped {
				t.Errorf("the counts do not add up: %v", got)
			}
			switch {
			case forgetful && kept == got.Made:
				t.Error("the ledger is whole although nothing was sent again: it proves nothing")
			case !forgetful && (kept != got.Made || got.Resent == 0):
				t.Errorf("%d points made, %d kept, %d sent again", got.Made, kept, got.Resent)
			}
			if !forgetful {
				wantInOrder(t, h, "dev-1")
			}
		})
	}
}

func wantInOrder(t *testing.T, h *hub, device string) {
	t.Helper()
	last := int64(0)
	for i, p := range h.points(device) {
		if p.time < last {
			t.Fatalf("point %d goes back in time", i)
		}
		last = p.time
	}
}

// The content of a point is the same each time it is sent.
func TestDeviceResendsTheSameContent(t *testing.T) {
	h := newHub(t)
	h.limits.UnackedFrames = 4
	h.script = func(n int, s *link) {
		if n > 4 {
			s.obey()
			return
		}
		for range 4 {
			f := s.telemetry()
			if f == nil {
				return
			}
			s.store(f) // kept, but the ack is lost
		}
		s.cut()
	}
	h.start()
	u := h.uplink(wire.CBOR)
	stop := run(t, device(t, u, sim.DeviceOptions{Model: "pump"}))
	until(t, "the fifth session at work", func() bool { return u.Counts.Tally().Connected > 4 && len(h.final("dev-1")) > 60 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	seen, again := map[int64]string{}, 0
	for _, p := range h.points("dev-1") {
		if was, twice := seen[p.time]; twice {
			again++
			if was != p.fields {
				t.Errorf("%d was %s and is %s", p.time, was, p.fields)
			}
		}
		seen[p.time] = p.fields
	}
	if again == 0 {
		t.Error("nothing was sent twice: the test shows nothing")
	}
	if made := u.Counts.Tally().Made; made != uint64(len(seen)) {
		t.Errorf("%d made, %d kept", made, len(seen))
	}
}

func TestDeviceKeepsToLimits(t *testing.T) {
	h := newHub(t)
	h.limits = wire.Limits{FrameBytes: 330, PointsPerFrame: 5, UnackedFrames: 3}
	answered := make(chan struct{})
	h.script = func(n int, s *link) {
		if n > 1 {
			s.obey()
			return
		}
		var last *wire.Telemetry
		for range 3 {
			last = s.telemetry()
			s.store(last)
		}
		// The window is full and the device has more. It answers a command, but sends no telemetry before the ack.
		s.send(&wire.Command{ID: "c1", Name: "reset_counter", Attempt: 1})
		for result := false; !result; {
			switch f := s.next().(type) {
			case *wire.Telemetry:
				h.blame("telemetry over the window")
			case *wire.Answer:
				result = f.Kind == wire.Result
			case nil:
				return
			}
		}
		close(answered)
		s.send(&wire.Ack{ID: "c1"})
		s.ack(last.Seq, 3)
		s.obey()
	}
	h.start()
	u := h.uplink(wire.JSON)
	stop := run(t, device(t, u, sim.DeviceOptions{Interval: time.Millisecond, Buffer: 500}))
	<-answered
	until(t, "points stored", func() bool { return len(h.points("dev-1")) > 300 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := u.Counts.Tally(); got.Unacked != 0 || got.Acked != uint64(len(h.points("dev-1"))) {
		t.Errorf("%v, the hub holds %d", got, len(h.points("dev-1")))
	}
}

// A point that does not fit into a frame of this hub is dropped and counted, not sent for ever.
func TestDeviceDropsWhatFitsNoFrame(t *testing.T) {
	h := newHub(t)
	h.limits.FrameBytes = 60
	h.start()
	u := h.uplink(wire.JSON)
	stop := run(t, device(t, u, sim.DeviceOptions{}))
	until(t, "points dropped", func() bool { return u.Counts.Tally().Dropped > 10 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := u.Counts.Tally(); got.Sent != 0 || got.Unacked != 0 {
		t.Error(got)
	}
}

func TestDeviceBufferIsBounded(t *testing.T) {
	h := newHub(t)
	h.script = func(_ int, s *link) {
		for s.next() != nil { // taken, never acked
		}
	}
	h.start()
	u := h.uplink(wire.JSON)
	u.Drain = time.Millisecond
	stop := run(t, device(t, u, sim.DeviceOptions{Interval: time.Millisecond, Buffer: 32}))
	until(t, "points dropped", func() bool { return u.Counts.Tally().Dropped > 100 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := u.Counts.Tally(); got.Unacked != 32 || got.Made != got.Dropped+32 {
		t.Error(got)
	}
}

// A rejected frame is neither acked nor sent again, also not after a reconnect.
func TestDeviceTakesReject(t *testing.T) {
	h := newHub(t)
	var refused atomic.Int64 // time of the point
	h.script = func(n int, s *link) {
		first := s.telemetry()
		if first == nil {
			return
		}
		if n > 1 {
			s.take(first)
			s.obey()
			return
		}
		second := s.telemetry()
		if second == nil {
			return
		}
		refused.Store(second.Points[0].Time)
		s.send(&wire.Reject{Seq: second.Seq, Code: wire.InvalidField, Message: "points[0].fields.power: no"})
		s.send(&wire.Ack{ID: "nothing"})
		s.telemetry() // the device has read the reject by now or will before it reads the end
		s.bye(1012, "draining", 1)
	}
	h.start()
	u := h.uplink(wire.JSON)
	stop := run(t, device(t, u, sim.DeviceOptions{}))
	until(t, "points stored", func() bool { return len(h.points("dev-1")) > 20 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got := u.Counts.Tally()
	if got.Rejected == 0 || got.Made != got.Acked+got.Rejected || got.Resent == 0 {
		t.Error(got)
	}
	if _, kept := h.final("dev-1")[refused.Load()]; kept {
		t.Error("the rejected point came again")
	}
}

func TestDeviceStopsOrComesBack(t *testing.T) {
	tests := []struct {
		code  int
		final bool
	}{
		{1001, false},
		{1009, false},
		{1011, false},
		{1012, false},
		{1013, false},
		{4400, false},
		{4401, false},
		{4408, false},
		{4429, false},
		{4499, false},
		{4500, true},
		{4501, true},
		{4502, true},
		{4999, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.code), func(t *testing.T) {
			h := newHub(t)
			h.script = func(n int, s *link) {
				if n == 1 {
					s.telemetry()
					s.bye(tt.code, "because", 20)
					for s.next() != nil {
					}
					return
				}
				s.obey()
			}
			h.start()
			u := h.uplink(wire.JSON)
			d := device(t, u, sim.DeviceOptions{})
			if !tt.final {
				stop := run(t, d)
				until(t, "the device to come back", func() bool { return len(h.points("dev-1")) > 0 })
				if err := stop(); err != nil || u.Counts.Tally().Unacked != 0 {
					t.Error(err, u.Counts.Tally())
				}
				return
			}
			var stopped *sim.Stopped
			if err := finish(t, d); !errors.As(err, &stopped) || stopped.Code != tt.code || stopped.Reason != "because" {
				t.Errorf("got %v", err)
			}
			if got := u.Counts.Tally(); got.Stopped != 1 || got.Connected != 1 {
				t.Error(got)
			}
		})
	}
}

func TestDeviceBearsRefusals(t *testing.T) {
	t.Run("the hub drains", func(t *testing.T) {
		h := newHub(t)
		h.refuse = func(n int) *sim.Refusal {
			if n < 12 {
				return &sim.Refusal{Status: 503, Code: "draining", Detail: "node is draining"}
			}
			return nil
		}
		h.start()
		u := h.uplink(wire.JSON)
		stop := run(t, device(t, u, sim.DeviceOptions{}))
		until(t, "points stored", func() bool { return len(h.points("dev-1")) > 5 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := u.Counts.Tally(); got.Refused != 11 || got.Unacked != 0 {
			t.Error(got)
		}
	})
	t.Run("the token is bad", func(t *testing.T) {
		h := newHub(t)
		h.refuse = func(int) *sim.Refusal {
			return &sim.Refusal{Status: 401, Code: "token_expired", Detail: "the token expired"}
		}
		h.start()
		err := finish(t, device(t, h.uplink(wire.JSON), sim.DeviceOptions{}))
		var stopped *sim.Stopped
		if !errors.As(err, &stopped) || stopped.Code != 401 || stopped.Reason != "connect: 401 Unauthorized: the token expired (token_expired)" {
			t.Errorf("got %v", err)
		}
	})
}

func TestBackoffKeepsToWhatWasAsked(t *testing.T) {
	b := sim.Backoff{Base: time.Second, Max: 8 * time.Second}
	for try := range 70 {
		for range 50 {
			if w := b.Wait(try, 0); w < 0 || w > 8*time.Second {
				t.Fatalf("try %d waits %s", try, w)
			}
			if w := b.Wait(try, 5*time.Second); w < 5*time.Second || w > 9*time.Second {
				t.Fatalf("try %d waits %s, asked were 5 s", try, w)
			}
		}
	}
	if w := b.Wait(0, 0); w > time.Second {
		t.Errorf("the first wait is %s", w)
	}
}

// A hub that accepts, welcomes and then says nothing is as good as dead.
func TestDeviceLeavesSilentHub(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.beat = 1
	h.script = func(n int, s *link) {
		if n > 1 {
			s.obey()
			return
		}
		for s.next() != nil {
		}
	}
	h.start()
	u := h.uplink(wire.JSON)
	stop := run(t, device(t, u, sim.DeviceOptions{Interval: 50 * time.Millisecond}))
	until(t, "a second session", func() bool { return u.Counts.Tally().Reconnects > 0 })
	if err := stop(); err != nil || u.Counts.Tally().Unacked != 0 {
		t.Error(err, u.Counts.Tally())
	}
}

// countedTokens hands out a new token each time.
type countedTokens struct{ n atomic.Int64 }

func (c *countedTokens) Token(_ context.Context, device string, _ bool) (string, error) {
	if n := c.n.Add(1); n > 1 {
		return fmt.Sprintf("%s.%d", device, n), nil
	}
	return device, nil
}

func TestDeviceRenewsToken(t *testing.T) {
	h := newHub(t)
	got := make(chan string, 4)
	h.script = func(_ int, s *link) {
		for range 2 {
			s.send(&wire.Token{Expires: time.Now().Add(time.Minute).UnixMilli()})
			for renewed := false; !renewed; {
				switch f := s.next().(type) {
				case nil:
					return
				case *wire.Telemetry:
					s.take(f)
				case *wire.TokenRenewal:
					got <- f.Token
					renewed = true
				}
			}
			s.send(&wire.Token{Expires: time.Now().Add(time.Hour).UnixMilli()})
		}
		s.obey()
	}
	h.start()
	u := h.uplink(wire.JSON)
	u.Tokens = &countedTokens{}
	run(t, device(t, u, sim.DeviceOptions{}))
	for _, want := range []string{"dev-1.2", "dev-1.3"} {
		select {
		case token := <-got:
			if token != want {
				t.Errorf("token %q, want %q", token, want)
			}
		case <-time.After(patience):
			t.Fatal("no renewal")
		}
	}
}

func TestDeviceOptionsAreChecked(t *testing.T) {
	u := &sim.Uplink{URL: "wss://localhost/v1/device", Tokens: idTokens{}}
	for name, o := range map[string]sim.DeviceOptions{
		"id":       {ID: "no.dots", Model: "pump", Interval: time.Second},
		"model":    {ID: "a", Model: "submarine", Interval: time.Second},
		"interval": {ID: "a", Model: "pump"},
	} {
		if _, err := sim.NewDevice(u, o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := sim.NewDevice(&sim.Uplink{}, sim.DeviceOptions{ID: "a", Model: "pump", Interval: time.Second}); err == nil {
		t.Error("an uplink to nowhere was taken")
	}
}

// Without credentials there is nothing to wait for.
func TestDeviceWithoutTokenStops(t *testing.T) {
	h := newHub(t).start()
	for name, source := range map[string]sim.TokenSource{
		"not in the file":  sim.FileTokens{},
		"no such operator": sim.NewMintedTokens(operator(t, &registry{}, "nobody"), nil),
	} {
		u := h.uplink(wire.JSON)
		u.Tokens = source
		var stopped *sim.Stopped
		if err := finish(t, device(t, u, sim.DeviceOptions{})); !errors.As(err, &stopped) || stopped.Reason == "" {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if h.requests != 0 {
		t.Errorf("%d requests without a token", h.requests)
	}
}
