package sim_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	sim "github.com/fairlead-hub/fairlead/firmware-sim"
)

// scene runs a device against a script of the hub, and ends when the script has.
func scene(t *testing.T, h *hub, o sim.DeviceOptions, script func(n int, s *link)) *sim.Uplink {
	t.Helper()
	over := make(chan struct{})
	h.script = func(n int, s *link) {
		script(n, s)
		if n == 1 {
			close(over)
		}
		s.obey()
	}
	h.start()
	u := h.uplink(wire.JSON)
	stop := run(t, device(t, u, o))
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatal("the script did not end")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return u
}

// settle waits for the result of a command and records it.
func (s *link) result(id string) *wire.Answer {
	for {
		a := s.answer(wire.Result)
		if a == nil || a.ID == id {
			s.send(&wire.Ack{ID: id})
			if a == nil {
				return &wire.Answer{}
			}
			return a
		}
	}
}

func (s *link) command(id, name, params string) {
	c := &wire.Command{ID: id, Name: name, Attempt: 1, Expires: time.Now().Add(s.h.ahead).Add(time.Minute).UnixMilli(), TimeoutMS: 30000}
	if params != "" {
		c.Params = json.RawMessage(params)
	}
	s.send(c)
}

func TestCommandsOfModels(t *testing.T) {
	tests := []struct{ model, name, params, result, fault string }{
		{"thermostat", "set_interval", `{"seconds":0.01}`, `{"seconds":0.01}`, ""},
		{"thermostat", "set_target", `{"celsius":22.5}`, `{"setpoint":22.5}`, ""},
		{"thermostat", "set_target", `{"celsius":99}`, "", "invalid_params"},
		{"thermostat", "set_target", `{"kelvin":300}`, "", "invalid_params"},
		{"thermostat", "set_target", "", "", "invalid_params"},
		{"thermostat", "set_interval", `{"seconds":"5"}`, "", "invalid_params"},
		{"thermostat", "fly", "", "", "unknown_command"},
		{"pump", "stop", "", `{"rpm":0,"running":false}`, ""},
		{"pump", "start", "{}", "", ""},
		{"pump", "set_speed", `{"rpm":900}`, `{"rpm":900,"running":true}`, ""},
		{"pump", "set_speed", `{"rpm":-1}`, "", "invalid_params"},
		{"pump", "stop", `{"now":true}`, "", "invalid_params"},
		{"meter", "relay", `{"on":false}`, `{"relay":false}`, ""},
		{"meter", "relay", `{"on":1}`, "", "invalid_params"},
		{"meter", "relay", "", "", "invalid_params"},
		{"meter", "reset_counter", "", "", ""},
		{"tracker", "locate", "", "", ""},
		{"tracker", "reboot", "", "", "unknown_command"},
	}
	for _, tt := range tests {
		t.Run(tt.model+" "+tt.name+tt.params, func(t *testing.T) {
			t.Parallel()
			scene(t, newHub(t), sim.DeviceOptions{Model: tt.model, Interval: 20 * time.Millisecond}, func(_ int, s *link) {
				s.command("c1", tt.name, tt.params)
				if tt.fault == "" {
					if a := s.answer(wire.Accept); a == nil || a.ID != "c1" {
						t.Errorf("accept: %+v", a)
					}
				}
				a := s.result("c1")
				if a.OK != (tt.fault == "") || tt.result != "" && string(a.Result) != tt.result {
					t.Errorf("result %s, %+v", a.Result, a.Error)
				}
				if tt.fault != "" && (a.Error == nil || a.Error.Code != tt.fault || a.Error.Message == "") {
					t.Errorf("fault %+v", a.Error)
				}
			})
		})
	}
}

func TestHelloAnnouncesCommands(t *testing.T) {
	for _, model := range sim.Models() {
		scene(t, newHub(t), sim.DeviceOptions{Model: model}, func(_ int, s *link) {
			hello, ok := s.next().(*wire.Hello)
			if !ok || hello.Firmware == "" || hello.Model == "" {
				t.Errorf("%s: first frame is %+v", model, hello)
				return
			}
			for _, c := range hello.Commands {
				var schema struct{ Type string }
				if json.Unmarshal(c.Params, &schema) != nil || schema.Type != "object" || c.Title == "" {
					t.Errorf("%s: command %s has schema %s", model, c.Name, c.Params)
				}
			}
			if len(hello.Commands) < 2 {
				t.Errorf("%s has %d commands", model, len(hello.Commands))
			}
		})
	}
}

// A command that comes twice is answered twice and done once; also across a reconnect.
func TestCommandIsDoneOnce(t *testing.T) {
	first := ""
	var u *sim.Uplink
	h := newHub(t)
	again := make(chan struct{})
	u = scene(t, h, sim.DeviceOptions{}, func(n int, s *link) {
		switch n {
		case 1:
			s.command("c1", "reset_counter", "")
			a := s.answer(wire.Result) // it gets lost: no ack
			if a == nil {
				return
			}
			first = string(a.Result)
			s.command("c1", "reset_counter", "")
			if a := s.answer(wire.Result); a == nil || string(a.Result) != first {
				t.Errorf("answers %s, then %+v", first, a)
			}
			s.cut()
			<-again
		case 2:
			defer close(again)
			// Unasked, because it is not acked; and once more because it is asked.
			if a := s.answer(wire.Result); a == nil || string(a.Result) != first {
				t.Errorf("after the reconnect: %+v", a)
			}
			s.send(&wire.Command{ID: "c1", Name: "reset_counter", Attempt: 2, Expires: 1})
			if a := s.result("c1"); string(a.Result) != first {
				t.Errorf("to attempt 2: %s", a.Result)
			}
			s.command("c2", "reset_counter", "")
			if a := s.result("c2"); string(a.Result) == first {
				t.Errorf("another command got the answer %s", a.Result)
			}
		}
	})
	if got := u.Counts.Tally(); got.Commands != 2 || got.Repeats != 2 {
		t.Error(got)
	}
}

// The result of a reboot comes after it, from the next session.
func TestRebootAnswersAfterwards(t *testing.T) {
	t.Parallel()
	back := make(chan struct{})
	scene(t, newHub(t), sim.DeviceOptions{Model: "thermostat"}, func(n int, s *link) {
		if n == 1 {
			s.command("c1", "reboot", "")
			for s.next() != nil { // until it goes down
			}
			<-back
			return
		}
		defer close(back)
		if a := s.result("c1"); !a.OK || string(a.Result) != `{"boots":1}` {
			t.Errorf("%s %+v", a.Result, a.Error)
		}
	})
}

// Expiry goes by the hub's clock, whatever the device's own says.
func TestCommandExpiresByTheHubsClock(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Hour, 0, time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			h := newHub(t)
			h.ahead = ahead
			scene(t, h, sim.DeviceOptions{}, func(_ int, s *link) {
				s.command("good", "reset_counter", "")
				if a := s.result("good"); !a.OK {
					t.Errorf("%+v", a.Error)
				}
				s.send(&wire.Command{ID: "late", Name: "reset_counter", Attempt: 1, Expires: time.Now().Add(ahead).Add(-time.Second).UnixMilli()})
				if a := s.result("late"); a.OK || a.Error.Code != "expired" {
					t.Errorf("%+v", a)
				}
			})
		})
	}
}

func TestCancel(t *testing.T) {
	scene(t, newHub(t), sim.DeviceOptions{Model: "pump"}, func(_ int, s *link) {
		s.command("c1", "set_speed", `{"rpm":700}`)
		if p := s.answer(wire.Progress); p == nil || p.Percent != 25 {
			t.Errorf("progress %+v", p)
		}
		s.send(&wire.Cancel{ID: "c1"})
		if a := s.result("c1"); a.OK || a.Error.Code != "cancelled" {
			t.Errorf("%+v", a)
		}
		// A cancel that overtakes its command, or whose command was lost.
		s.send(&wire.Cancel{ID: "c2"})
		if a := s.result("c2"); a.OK || a.Error.Code != "cancelled" {
			t.Errorf("%+v", a)
		}
		s.command("c2", "stop", "")
		if a := s.result("c2"); a.OK {
			t.Error("a cancelled command was done")
		}
		// Too late: the earlier answer.
		s.command("c3", "start", "")
		if a := s.result("c3"); !a.OK {
			t.Errorf("%+v", a.Error)
		}
		s.send(&wire.Cancel{ID: "c3"})
		if a := s.result("c3"); !a.OK {
			t.Errorf("%+v", a.Error)
		}
	})
}

// The memory of commands is bounded, and a flood is refused, not queued without end.
func TestCommandFlood(t *testing.T) {
	busy, fine := 0, 0
	scene(t, newHub(t), sim.DeviceOptions{Model: "tracker"}, func(_ int, s *link) {
		const flood = 200
		for i := range flood {
			s.command(fmt.Sprint("c", i), "locate", "")
		}
		for range flood {
			a := s.answer(wire.Result)
			if a == nil {
				return
			}
			s.send(&wire.Ack{ID: a.ID})
			switch {
			case a.OK:
				fine++
			case a.Error.Code == "busy":
				busy++
			}
		}
	})
	if fine+busy != 200 || fine < 16 || busy == 0 {
		t.Errorf("%d done, %d refused", fine, busy)
	}
}

func TestDesiredState(t *testing.T) {
	scene(t, newHub(t), sim.DeviceOptions{Model: "thermostat"}, func(_ int, s *link) {
		s.send(&wire.State{Desired: json.RawMessage(`{"setpoint":17.5,"interval_s":0.02,"colour":"red"}`), Version: 7})
		wantReported(t, s, 7, map[string]any{"setpoint": 17.5, "interval_s": 0.02})
		s.send(&wire.State{Desired: json.RawMessage(`{"setpoint":170,"interval_s":"often"}`), Version: 8})
		wantReported(t, s, 8, map[string]any{"setpoint": 17.5, "interval_s": 0.02})
		// A command that changes the state shows there too.
		s.command("c1", "set_target", `{"celsius":20}`)
		wantReported(t, s, 8, map[string]any{"setpoint": 20.0, "interval_s": 0.02})
		s.send(&wire.Ack{ID: "c1"})
	})
}

func wantReported(t *testing.T, s *link, version uint64, want map[string]any) {
	t.Helper()
	for {
		switch f := s.next().(type) {
		case nil:
			t.Error("no report")
			return
		case *wire.Telemetry:
			s.take(f)
		case *wire.StateReport:
			if f.Version == 0 {
				continue // the one at connect
			}
			var got map[string]any
			if err := json.Unmarshal(f.Reported, &got); err != nil || f.Version != version || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("version %d: %s, want %d: %v", f.Version, f.Reported, version, want)
			}
			return
		}
	}
}

func TestFaults(t *testing.T) {
	faults := func(spec string) sim.DeviceOptions {
		f, err := sim.ParseFaults(spec)
		if err != nil {
			t.Fatal(err)
		}
		return sim.DeviceOptions{Faults: f}
	}
	t.Run("refuse", func(t *testing.T) {
		scene(t, newHub(t), faults("refuse=100%"), func(_ int, s *link) {
			s.command("c1", "reset_counter", "")
			if a := s.result("c1"); a.OK || a.Error.Code != "refused" {
				t.Errorf("%+v", a)
			}
		})
	})
	t.Run("drop", func(t *testing.T) {
		u := scene(t, newHub(t), faults("drop=100%"), func(_ int, s *link) {
			s.command("c1", "reset_counter", "")
			s.send(&wire.State{Desired: json.RawMessage(`{}`), Version: 3}) // what comes after the command is done
			for {
				switch f := s.next().(type) {
				case nil:
					return
				case *wire.Answer:
					t.Errorf("answered %+v", f)
				case *wire.Telemetry:
					s.take(f)
				case *wire.StateReport:
					if f.Version == 3 {
						return
					}
				}
			}
		})
		if got := u.Counts.Tally(); got.Commands != 0 {
			t.Error(got)
		}
	})
	t.Run("twice", func(t *testing.T) {
		scene(t, newHub(t), faults("twice=100%"), func(_ int, s *link) {
			s.command("c1", "reset_counter", "")
			one, two := s.answer(wire.Result), s.answer(wire.Result)
			if one == nil || two == nil || string(one.Result) != string(two.Result) {
				t.Errorf("%+v %+v", one, two)
			}
			s.send(&wire.Ack{ID: "c1"})
		})
	})
	t.Run("delay and late", func(t *testing.T) {
		scene(t, newHub(t), faults("delay=50ms,late=100%"), func(_ int, s *link) {
			sent := time.Now()
			s.send(&wire.Command{ID: "c1", Name: "reset_counter", Attempt: 1, TimeoutMS: 300})
			if a := s.result("c1"); !a.OK {
				t.Errorf("%+v", a)
			}
			// This is not how fast it is, but the fault itself.
			if took := time.Since(sent); took < 300*time.Millisecond {
				t.Errorf("it answered in time: after %s", took)
			}
		})
	})
	t.Run("delayed beyond expiry", func(t *testing.T) {
		scene(t, newHub(t), faults("delay=300ms"), func(_ int, s *link) {
			s.send(&wire.Command{ID: "c1", Name: "reset_counter", Attempt: 1, Expires: time.Now().Add(100 * time.Millisecond).UnixMilli()})
			if a := s.result("c1"); a.OK || a.Error.Code != "expired" {
				t.Errorf("%+v", a)
			}
		})
	})
}

func TestParseFaults(t *testing.T) {
	good, err := sim.ParseFaults(" refuse=5%, drop=2.5%,delay=3s@20%,twice=10%,late=1%,disconnect=5m ")
	want := sim.Faults{
		Refuse: 0.05, Drop: 0.025, Twice: 0.1, Late: 0.01, Delay: 3 * time.Second, DelayShare: 0.2, Disconnect: 5 * time.Minute,
	}
	if err != nil || good != want {
		t.Errorf("%+v, %v", good, err)
	}
	if none, err := sim.ParseFaults(""); err != nil || none != (sim.Faults{}) {
		t.Errorf("%+v, %v", none, err)
	}
	for spec, message := range map[string]string{
		"refuse":              `faults: "refuse" has no value; want refuse=5%, drop=2%, twice=10%, late=1%, delay=3s or delay=3s@20%, disconnect=5m`,
		"refuse=5":            `faults: refuse: "5" is not a share; want 0% to 100%`,
		"refuse=101%":         `faults: refuse: "101%" is not a share; want 0% to 100%`,
		"refuse=NaN%":         `faults: refuse: "NaN%" is not a share; want 0% to 100%`,
		"delay=soon":          `faults: delay: "soon" is not a time; want one such as 3s, at most 1h0m0s`,
		"delay=-1s":           `faults: delay: "-1s" is not a time; want one such as 3s, at most 1h0m0s`,
		"delay=1s@x":          `faults: delay: "x" is not a share; want 0% to 100%`,
		"disconnect=5%":       `faults: disconnect: "5%" is not a time; want one such as 3s, at most 1h0m0s`,
		"explode=1%":          `faults: explode: no such fault; want refuse=5%, drop=2%, twice=10%, late=1%, delay=3s or delay=3s@20%, disconnect=5m`,
		"late=1%,late=2%":     `faults: late is given twice`,
		"refuse=60%,drop=60%": `faults: refuse and drop are more than 100% together`,
		"late=1%,":            `faults: "" has no value; want refuse=5%, drop=2%, twice=10%, late=1%, delay=3s or delay=3s@20%, disconnect=5m`,
	} {
		if _, err := sim.ParseFaults(spec); err == nil || err.Error() != message {
			t.Errorf("%q:\n got %v\nwant %s", spec, err, message)
		}
	}
}
