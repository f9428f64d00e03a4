package devices_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
)

func listening(clock interface{ now() time.Time }) func(*options) {
	return func(o *options) {
		o.now = clock.now
		o.cfg.Devices.Heartbeat = 1000 * time.Hour // the clock jumps; liveness is another test's
		o.cfg.Devices.Expect = []configs.Expectation{
			{Selector: "kind=pump,site=x", Every: time.Minute}, {Selector: "kind=pump", Every: time.Hour},
		}
	}
}

// expecting makes a device whose record says how often it sends.
func (h *hub) expecting(id string, every time.Duration, labels map[string]string) (token string) {
	h.t.Helper()
	return h.made(&devices.Record{ID: id, ExpectEvery: every, Labels: labels})
}

func (h *hub) wantSilent(ids ...string) {
	h.t.Helper()
	want := map[string]bool{}
	for _, id := range ids {
		want[id] = true
	}
	eventually(h.t, fmt.Sprintf("silent are just %q", ids), func() bool {
		page, err := h.records.List(devices.Query{Silent: h.presence.Silent}, h.presence.Status)
		if err != nil {
			h.t.Fatal(err)
		}
		same := len(page.Records) == len(ids)
		for _, rec := range page.Records {
			same = same && want[rec.ID] && h.presence.State(rec.ID).Silent
		}
		return same
	})
}

func TestSilenceIsFoundAndEnds(t *testing.T) {
	t.Parallel()
	clock := newStopped()
	h := startHub(t, listening(clock))
	next := h.listen()
	pump := map[string]string{"kind": "pump"}
	record := h.connect(h.expecting("by-record", 60*time.Second, pump))
	h.connect(h.expecting("by-rule", 0, map[string]string{"kind": "pump", "site": "x"}))
	h.connect(h.expecting("slow-rule", 0, pump))
	h.connect(h.expecting("exempt", -1, map[string]string{"kind": "pump", "site": "x"}))
	h.connect(h.device("other"))
	h.expecting("never-heard", time.Second, nil)
	plug := "plug-1"
	h.expecting(plug, time.Minute, nil)
	h.presence.Set(plug, true, "announced", "mqtt:embedded")
	poster := h.expecting("poster", time.Minute, nil)
	if a := h.post(poster, "text/plain", "m a=1"); a.status != 204 {
		t.Fatalf("%+v", a)
	}
	if got := h.presence.State("by-record").Expect; got != time.Minute {
		t.Fatalf("expected every %s", got)
	}

	clock.advance(50 * time.Second)
	said := clock.now()
	eventually(t, "the clock is read", func() bool { return h.registry.Clocked(said) })
	record.send(point(1))
	record.wantAck(1)
	h.presence.Pointed(plug)
	clock.advance(20 * time.Second) // 70 s after they came, 20 s after two of them spoke
	h.wantSilent("by-rule", "poster")
	if e := next("it is told", func(e liveEvent) bool { return e.Silent && e.Device == "by-rule" }); e.Status != "online" || e.SilentSince == 0 {
		t.Errorf("%+v", e)
	}
	if n := h.metric("fairlead_devices_silent"); n != 2 {
		t.Errorf("%v counted", n)
	}
	clock.advance(50 * time.Second) // and 70 s after those spoke; all sockets are well
	h.wantSilent("by-rule", "poster", "by-record", plug)
	if st := h.presence.State("by-record"); st.Status != devices.Online || !near(st.SilentSince, said) {
		t.Errorf("silent since %s, spoke at %s: %+v", st.SilentSince, said, st)
	}

	// The next point ends it, whichever way it comes.
	record.send(point(2))
	record.wantAck(2)
	h.presence.Pointed(plug)
	if a := h.post(poster, "text/plain", "m a=1"); a.status != 204 {
		t.Fatalf("%+v", a)
	}
	h.wantSilent("by-rule")
	next("its end is told", func(e liveEvent) bool { return !e.Silent && e.Device == "by-record" })
	// So does giving up the expectation.
	if _, err := h.records.Update(t.Context(), "by-rule", 0, func(r *devices.Record) (bool, error) { r.ExpectEvery = -1; return true, nil }); err != nil {
		t.Fatal(err)
	}
	h.wantSilent()
	clock.advance(2 * time.Hour)
	h.wantSilent("by-record", "slow-rule", "poster", plug)
}

// near allows for the hub's clock, which is read a few times a second, and for the whole seconds that a session keeps.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Second }

func TestSilenceSurvivesARestart(t *testing.T) {
	t.Parallel()
	clock := &wall{}
	dir := t.TempDir()
	b := openBus(t, dir)
	h := startHub(t, listening(clock), func(o *options) { o.bus = b })
	h.connect(h.expecting("long-silent", time.Minute, nil))
	clock.advance(90 * time.Second)
	h.wantSilent("long-silent")
	h.connect(h.expecting("lively", time.Minute, nil))
	since := h.presence.State("long-silent").SilentSince
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	clock.advance(time.Hour) // the hub is down: nobody's fault
	b = openBus(t, dir)
	t.Cleanup(func() { b.Close() })
	h = startHub(t, listening(clock), func(o *options) { o.bus = b })
	eventually(t, "the records are there", func() bool { return h.presence.State("lively").Expect != 0 })
	h.wantSilent("long-silent")
	if st := h.presence.State("long-silent"); !near(st.SilentSince, since) {
		t.Errorf("silent since %s, was %s", st.SilentSince, since)
	}
	clock.advance(50 * time.Second)
	back := h.connect(h.token("long-silent"))
	h.wantSilent("long-silent") // coming back is not speaking
	back.send(point(1))
	back.wantAck(1)
	h.wantSilent()
	clock.advance(20 * time.Second) // and who does not come back is missed
	h.wantSilent("lively")
}

func TestSilenceIsKnownOnEveryNode(t *testing.T) {
	t.Parallel()
	one, two := twoNodes(t) // on the real clock: one that jumps would end the nodes' leases
	c := one.connect(one.expecting("pump-7", time.Second, nil))
	one.wantSilent("pump-7")
	two.wantSilent("pump-7")
	if n := one.metric("fairlead_devices_silent") + two.metric("fairlead_devices_silent"); n != 1 {
		t.Errorf("counted %v times", n)
	}
	spoken := two.listen()
	c.send(point(1))
	c.wantAck(1)
	spoken("its end is told", func(e liveEvent) bool { return e.Device == "pump-7" && !e.Silent })
	two.wantSilent("pump-7") // and again
	moved := two.connect(two.token("pump-7"))
	c.wantClose(devices.CloseReplaced)
	moved.send(point(1))
	moved.wantAck(1)
	spoken("the other node tells it", func(e liveEvent) bool { return e.Device == "pump-7" && !e.Silent })
	one.wantSilent("pump-7")
	two.wantSilent("pump-7")
}

// A device with a socket at one node posts at the other: it is not silent, and the node that has it knows.
func TestPostAtAnotherNodeEndsSilence(t *testing.T) {
	t.Parallel()
	one, two := twoNodes(t)
	one.connect(one.expecting("pump-7", time.Second, nil))
	one.wantSilent("pump-7")
	two.wantSilent("pump-7")
	for range 2 { // and once more, after it has fallen silent again, which is the negative control
		told := two.listen()
		if a := two.post(two.token("pump-7"), "text/plain", "m a=1"); a.status != 204 {
			t.Fatalf("%+v", a)
		}
		e := told("its end is told", func(e liveEvent) bool { return e.Device == "pump-7" && !e.Silent })
		if e.Status != "online" || e.Node != "n1" {
			t.Errorf("%+v", e)
		}
		two.wantSilent("pump-7")
		one.wantSilent("pump-7")
	}
}
