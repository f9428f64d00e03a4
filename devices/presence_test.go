package devices_test

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// twoNodes are two hubs on one bus.
func twoNodes(t *testing.T, change ...func(*options)) (one, two *hub) {
	t.Helper()
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	node := func(name string) func(*options) {
		return func(o *options) {
			o.bus, o.node, o.shared = b, name, true
			for _, fn := range change {
				fn(o)
			}
		}
	}
	return startHub(t, node("n1")), startHub(t, node("n2"))
}

func TestPresenceOnEveryNode(t *testing.T) {
	one, two := twoNodes(t)
	token := one.device("pump-7")
	c := one.connect(token)
	eventually(t, "the other node knows where it is", func() bool {
		node, online := two.presence.Node("pump-7")
		return online && node == "n1"
	})
	c.ws.Close()
	eventually(t, "the other node knows that it went", func() bool {
		st := two.presence.State("pump-7")
		return st.Status == devices.Offline && st.Cause == "lost"
	})
}

// A device that is welcomed at one node while another has it already is not held twice.
func TestNewestWinsOverOneOnItsWayIn(t *testing.T) {
	one, two := twoNodes(t)
	token := one.device("pump-7")
	eventually(t, "the record is everywhere", func() bool { _, ok := two.records.Record("pump-7"); return ok })
	var newer sync.Once
	stop := one.registry.Trace("pump-7", func(f devices.TracedFrame) {
		if f.Type != "welcome" { // the session has its epoch and cannot be found yet
			return
		}
		newer.Do(func() {
			two.connect(two.token("pump-7"))
			eventually(t, "the older's node knows", func() bool { return one.presence.State("pump-7").Node == "n2" })
		})
	})
	defer stop()
	one.connect(token).wantClose(devices.CloseReplaced)
	if st := one.presence.State("pump-7"); st.Status != devices.Online || st.Node != "n2" {
		t.Errorf("presence is the older session: %+v", st)
	}
}

func TestNewestWinsAcrossNodes(t *testing.T) {
	one, two := twoNodes(t)
	old := one.connect(one.device("pump-7"))
	eventually(t, "the record is everywhere", func() bool { _, ok := two.records.Record("pump-7"); return ok })
	// Both nodes share one bus, but each made its own keys: the second's token is its own.
	fresh := two.connect(two.token("pump-7"))
	old.wantClose(devices.CloseReplaced)
	for _, h := range []*hub{one, two} {
		eventually(t, "presence is the new session", func() bool {
			st := h.presence.State("pump-7")
			return st.Status == devices.Online && st.Node == "n2" && st.Session == fresh.welcome.Session
		})
	}
	eventually(t, "the old session is gone", func() bool { return one.registry.Len() == 0 })
	if st := one.presence.State("pump-7"); st.Status != devices.Online || st.Node != "n2" {
		t.Fatalf("what the old session said counted: %+v", st)
	}
	// And back again: epochs grow across nodes.
	back := one.connect(one.token("pump-7"))
	fresh.wantClose(devices.CloseReplaced)
	back.send(point(1))
	back.wantAck(1)
}

func TestRevokedOnAnotherNode(t *testing.T) {
	one, two := twoNodes(t)
	c := one.connect(one.device("pump-7"))
	eventually(t, "the record is everywhere", func() bool { _, ok := two.records.Record("pump-7"); return ok })
	revoked := time.Now()
	if _, err := two.records.Revoke(t.Context(), "pump-7", time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	c.wantClose(devices.CloseRevoked)
	t.Logf("closed on the other node %s after the revocation was asked for", time.Since(revoked).Round(time.Millisecond))
}

func TestLastSeenSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	b := openBus(t, dir)
	h := startHub(t, func(o *options) { o.bus = b })
	c := h.connect(h.device("pump-7"))
	h.device("never-seen")
	c.ws.Close()
	eventually(t, "it is off line", func() bool { return h.presence.Status("pump-7") == devices.Offline })
	before := h.presence.State("pump-7")
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBus(t, dir)
	t.Cleanup(func() { b.Close() })
	h = startHub(t, func(o *options) { o.bus = b })
	after := h.presence.State("pump-7")
	if after.Status != devices.Offline || !after.LastSeen.Equal(before.LastSeen) || after.Cause != before.Cause {
		t.Fatalf("%+v after the restart, %+v before", after, before)
	}
	if got := h.presence.Status("never-seen"); got != devices.Never {
		t.Fatalf("never-seen is %s", got)
	}
	again := h.connect(h.token("pump-7"))
	if st := h.presence.State("pump-7"); st.Epoch <= before.Epoch || st.Session != again.welcome.Session {
		t.Fatalf("%+v after %+v", st, before)
	}
}

// TestHubThatWasKilled loses its bus before it can say that its devices went.
func TestHubThatWasKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBus(t, dir)
	h := startHub(t, func(o *options) { o.bus = b })
	h.connect(h.device("pump-7"))
	before := h.presence.State("pump-7")
	if err := h.presence.KeepAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	_ = h.stop() // it cannot store how it ends
	b = openBus(t, dir)
	t.Cleanup(func() { b.Close() })
	h = startHub(t, func(o *options) { o.bus = b })
	after := h.presence.State("pump-7")
	if after.Status != devices.Offline || after.Cause != "node_restarted" || after.LastSeen.Before(before.Since) {
		t.Fatalf("%+v after the restart, %+v before", after, before)
	}
}

func TestBridgedDevicesArePresent(t *testing.T) {
	h := startHub(t)
	h.device("plug-1")
	h.presence.Set("plug-1", true, "announced", "mqtt:embedded")
	st := h.presence.State("plug-1")
	if st.Status != devices.Online || st.Link != "mqtt:embedded" || st.Node != "n1" {
		t.Fatalf("%+v", st)
	}
	since := st.Since
	h.presence.Set("plug-1", true, "announced", "mqtt:embedded")
	if st := h.presence.State("plug-1"); !st.Since.Equal(since) {
		t.Fatalf("since moved though nothing changed: %+v", st)
	}
	h.presence.Set("plug-1", false, "will", "mqtt:other")
	if st := h.presence.State("plug-1"); st.Status != devices.Online {
		t.Fatal("another connection took it off line")
	}
	h.presence.Set("plug-1", false, "will", "mqtt:embedded")
	if st := h.presence.State("plug-1"); st.Status != devices.Offline || st.Cause != "will" {
		t.Fatalf("%+v", st)
	}
}

func TestPresenceEvents(t *testing.T) {
	h := startHub(t)
	subject, err := bus.PresenceEvent("*")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := h.bus.Conn().SubscribeSync(subject)
	if err != nil {
		t.Fatal(err)
	}
	next := func() (e struct {
		Event, Device, Status, Cause string
		Since                        int64
	},
	) {
		t.Helper()
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(msg.Data, &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	c := h.connect(h.device("pump-7"))
	if e := next(); e.Event != "presence" || e.Device != "pump-7" || e.Status != "online" || e.Since == 0 {
		t.Fatalf("%+v", e)
	}
	c.ws.Close()
	if e := next(); e.Status != "offline" || e.Cause != "lost" {
		t.Fatalf("%+v", e)
	}
}
