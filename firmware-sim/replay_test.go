package sim_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	sim "github.com/fairlead-hub/fairlead/firmware-sim"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func replay(t *testing.T, u *sim.Uplink, o sim.ReplayOptions) *sim.Replay {
	t.Helper()
	r, err := sim.NewReplay(u, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// series is a file in the manner of real ones: a reading each five minutes, and one hour that comes twice because the
// clock was set back. want is what a store holds that keeps the last row of a time.
func series(rows int) (text string, want map[int64]string, repeated int) {
	var b strings.Builder
	b.WriteString("timestamp,value\n")
	want = map[int64]string{}
	at := time.Date(2013, 11, 3, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		value := fmt.Sprintf("%.8f", 70+float64(i%97)/7)
		value = strings.TrimRight(strings.TrimRight(value, "0"), ".")
		fmt.Fprintf(&b, "%s,%s\n", at.Format("2006-01-02 15:04:05"), value)
		if _, twice := want[at.UnixNano()]; twice {
			repeated++
		}
		want[at.UnixNano()] = "value=" + value
		at = at.Add(5 * time.Minute)
		if i == rows/2 {
			at = at.Add(-time.Hour)
		}
	}
	return b.String(), want, repeated
}

func wantFinal(t *testing.T, h *hub, device string, want map[int64]string) {
	t.Helper()
	got := h.final(device)
	if len(got) != len(want) {
		t.Errorf("%d times stored, want %d", len(got), len(want))
	}
	for at, fields := range want {
		if got[at] != fields {
			t.Fatalf("%s is %q, want %q", time.Unix(0, at).UTC(), got[at], fields)
		}
	}
}

// The hub dies twice on the way, with frames that it has stored and not acked, and with frames that it has lost.
func TestReplaySurvivesKills(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.CBOR} {
		for _, forgetful := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s forgetful=%v", codec.Subprotocol(), forgetful), func(t *testing.T) {
				text, want, repeated := series(3000)
				h := newHub(t)
				h.limits = wire.Limits{FrameBytes: 8192, PointsPerFrame: 50, UnackedFrames: 8}
				h.script = func(n int, s *link) {
					if n > 2 {
						s.obey()
						return
					}
					for range 14 {
						s.take(s.telemetry())
					}
					s.store(s.telemetry()) // stored, and the ack is lost
					s.telemetry()          // lost
					s.telemetry()
					s.cut()
				}
				h.start()
				var out bytes.Buffer
				r := replay(t, h.uplink(codec), sim.ReplayOptions{File: write(t, "machine 7.csv", text), Out: &out})
				if forgetful {
					r.Forget()
				}
				err := finish(t, r)
				if forgetful {
					if len(h.final("machine-7")) == len(want) {
						t.Error("nothing is missing although nothing was sent again: the test proves nothing")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				wantFinal(t, h, "machine-7", want)
				tally := r.Tally()
				if tally.Rows != 3000 || tally.Repeated != uint64(repeated) || tally.DistinctTimes != uint64(len(want)) || tally.AtLeast {
					t.Errorf("%v", tally)
				}
				if tally.Tally.Acked != 3000 || tally.Tally.Unacked != 0 || tally.Tally.Resent == 0 || tally.Tally.Reconnects != 2 {
					t.Errorf("%v", tally)
				}
				line := fmt.Sprintf("device=machine-7 rows=3000 distinct_times=%d repeated=%d acked=3000 unacked=0 rejected=0 resent=%d reconnects=2",
					len(want), repeated, tally.Tally.Resent)
				if !strings.Contains(out.String(), line) || repeated == 0 {
					t.Errorf("printed %s\nwant %s", out.String(), line)
				}
			})
		}
	}
}

// A file is not read further ahead than the buffer holds.
func TestReplayReadsNoFurtherThanAcks(t *testing.T) {
	text, want, _ := series(500)
	h := newHub(t)
	h.limits.PointsPerFrame = 10
	h.script = func(_ int, s *link) {
		for {
			var last *wire.Telemetry
			for range 2 { // the buffer of 20 rows is full with these
				if last = s.telemetry(); last == nil {
					return
				}
				s.store(last)
			}
			select {
			case f := <-s.frames:
				if f != nil {
					h.blame("more than the buffer holds came without an ack")
				}
			default:
			}
			s.ack(last.Seq, 2)
		}
	}
	h.start()
	r := replay(t, h.uplink(wire.JSON), sim.ReplayOptions{File: write(t, "a.csv", text), Buffer: 20})
	if err := finish(t, r); err != nil {
		t.Fatal(err)
	}
	wantFinal(t, h, "a", want)
}

func TestReplayKeepsOriginalTiming(t *testing.T) {
	h := newHub(t).start()
	u := h.uplink(wire.JSON)
	u.Drain = time.Millisecond
	text := "ts,a,b\n2020-01-01T00:00:00Z,1,2\n2020-01-01T00:00:01Z,3,\n2021-01-01T00:00:00Z,5,6\n"
	// A hundred times as fast: the second row is due after 10 ms, the third after days.
	r := replay(t, u, sim.ReplayOptions{File: write(t, "x.csv", text), Speed: 100, Measurement: "m", Device: "other"})
	stop := run(t, r)
	until(t, "two rows", func() bool { return len(h.points("other")) == 2 })
	err := stop()
	if err == nil || !strings.Contains(err.Error(), "stopped with 2 rows sent and 0 of them unacked") {
		t.Errorf("the replay was cut short, and says %v", err)
	}
	if got := h.points("other"); got[0].measurement != "m" || got[0].fields != "a=1 b=2" || got[1].fields != "a=3" {
		t.Errorf("%+v", got)
	}
}

func TestReplayFiles(t *testing.T) {
	tests := map[string]struct {
		text string
		want string // the points as stored, or the error
	}{
		"unix seconds":      {"time,v\n1700000000,1\n", "1700000000000000000 v=1"},
		"unix millis":       {"time,v\n1700000000123,1\n", "1700000000123000000 v=1"},
		"fractions":         {"time,v\n1700000000.5,1.5e-3\n", "1700000000500000000 v=0.0015"},
		"rfc3339":           {"Time,v\n2023-11-14T23:13:20+01:00,-1\n", "1700000000000000000 v=-1"},
		"bom and quotes":    {"\ufefftimestamp,\"v\"\n\"2023-11-14 22:13:20\",\"1\"\n", "1700000000000000000 v=1"},
		"text columns":      {"ts,name,v\n1700000000,pump,2\n", "1700000000000000000 v=2"},
		"names are cleaned": {"ts,Flow (m3/h),time,7up\n1700000000,1,2,3\n", "1700000000000000000 Flow__m3_h_=1 _7up=3 value_time=2"},
		"not finite":        {"ts,v,w\n1700000000,NaN,1\n1700000001,inf,\n", "1700000000000000000 w=1"},
		"last wins":         {"ts,v\n1700000000,1\n1700000000,2\n", "1700000000000000000 v=1; 1700000000000000000 v=2"},
		"header alone":      {"ts,v\n", ""},

		"empty":         {"", "f.csv is empty; want a header such as time,value"},
		"no header":     {"1700000000,1\n", `f.csv: header: the first column is "1700000000", want timestamp, time or ts`},
		"no values":     {"time\n1\n", "f.csv: header: there is no column beside the time"},
		"twice":         {"time,a b,a_b\n1,1,1\n", `f.csv: header: columns "a b" and "a_b" are the same field "a_b"`},
		"bad time":      {"time,v\n1700000000,1\nyesterday,2\n", `f.csv: line 3: time "yesterday": want RFC 3339, 2006-01-02 15:04:05 (UTC), or Unix seconds or milliseconds`},
		"out of range":  {"time,v\n1e30,1\n", `f.csv: line 2: time "1e30" is out of range; Unix times are seconds or milliseconds`},
		"ragged":        {"time,v\n1700000000,1,2\n", "read f.csv: record on line 2: wrong number of fields"},
		"a stray quote": {"time,v\n1700000000,\"1\n", `read f.csv: parse error on line 2, column 15: extraneous or missing " in quoted-field`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHub(t).start()
			r, err := sim.NewReplay(h.uplink(wire.JSON), sim.ReplayOptions{File: write(t, "f.csv", tt.text), Device: "d"})
			if err == nil {
				err = finish(t, r)
			}
			var got []string
			for _, p := range h.points("d") {
				got = append(got, fmt.Sprint(p.time, " ", p.fields))
			}
			text := strings.Join(got, "; ")
			if err != nil {
				text = err.Error()
			}
			if text != tt.want {
				t.Errorf("got  %s\nwant %s", text, tt.want)
			}
		})
	}
}

func TestReplayCountsRepeatsBeyondItsMemory(t *testing.T) {
	h := newHub(t).start()
	r := replay(t, h.uplink(wire.CBOR), sim.ReplayOptions{
		File: write(t, "back.csv", "ts,v\n1700000003,1\n1700000001,2\n1700000003,3\n1700000001,4\n1700000002,5\n"),
	})
	if err := finish(t, r); err != nil {
		t.Fatal(err)
	}
	if got := r.Tally(); got.Repeated != 2 || got.DistinctTimes != 3 || got.AtLeast {
		t.Errorf("%v", got)
	}
}

func TestReplayTellsWhatIsWrong(t *testing.T) {
	u := &sim.Uplink{URL: "wss://localhost/v1/device", Tokens: idTokens{}}
	if _, err := sim.NewReplay(u, sim.ReplayOptions{File: filepath.Join(t.TempDir(), "none.csv")}); err == nil {
		t.Error("a file that is not there was taken")
	}
	if _, err := sim.NewReplay(u, sim.ReplayOptions{File: write(t, "f.csv", "ts,v\n"), Device: "no/way"}); err == nil {
		t.Error("a bad device id was taken")
	}
	for s, want := range map[string]float64{"1": 1, "max": 0, "0": 0, "0.5": 0.5, "3600": 3600} {
		if got, err := sim.ParseSpeed(s); err != nil || got != want {
			t.Errorf("speed %s is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "fast", "-1", "NaN", "+Inf"} {
		if _, err := sim.ParseSpeed(s); err == nil {
			t.Errorf("speed %q was taken", s)
		}
	}
}

// The hub's port is closed for a while, as between a kill and a restart.
func TestReplayWaitsForHub(t *testing.T) {
	h := newHub(t)
	h.refuse = func(n int) *sim.Refusal {
		if n > 1 && n < 20 {
			return &sim.Refusal{Status: 503, Code: "starting", Detail: "not yet"}
		}
		return nil
	}
	h.script = func(n int, s *link) {
		if n == 1 {
			s.telemetry()
			s.cut()
			return
		}
		s.obey()
	}
	h.start()
	text, want, _ := series(100)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := replay(t, h.uplink(wire.JSON), sim.ReplayOptions{File: write(t, "a.csv", text)}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	wantFinal(t, h, "a", want)
}

func TestReplayTellsWhatWasNotTaken(t *testing.T) {
	h := newHub(t)
	h.script = func(_ int, s *link) {
		for {
			f := s.telemetry()
			if f == nil {
				return
			}
			s.send(&wire.Reject{Seq: f.Seq, Code: wire.TypeConflict, Message: "points[0].fields.value: is a string"})
		}
	}
	h.start()
	r := replay(t, h.uplink(wire.JSON), sim.ReplayOptions{File: write(t, "f.csv", "ts,v\n1700000000,1\n1700000001,2\n"), Measurement: "m"})
	if err := finish(t, r); err == nil || !strings.Contains(err.Error(), "2 of 2 rows were not taken by the hub") {
		t.Errorf("got %v", err)
	}
	if got := r.Tally(); got.Tally.Rejected != 2 || got.Tally.Unacked != 0 {
		t.Errorf("%v", got)
	}
}
