package devices_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// liveEvent is an event of presence.
type liveEvent struct {
	Event, Device, Status, Cause, Address, Node string
	Flaps                                       int
	Conflict, Silent                            bool
	Addresses                                   []string
	Since                                       int64
	SilentSince                                 int64 `json:"silent_since"`
}

// listen hears the presence events of every device.
func (h *hub) listen() func(what string, is func(liveEvent) bool) liveEvent {
	h.t.Helper()
	subject, err := bus.PresenceEvent("*")
	if err != nil {
		h.t.Fatal(err)
	}
	sub, err := h.bus.Conn().SubscribeSync(subject)
	if err != nil {
		h.t.Fatal(err)
	}
	return func(what string, is func(liveEvent) bool) liveEvent {
		h.t.Helper()
		for {
			e, err := nextEvent(sub)
			if err != nil {
				h.t.Fatalf("%s: %v", what, err)
			}
			if is(e) {
				return e
			}
		}
	}
}

func nextEvent(sub *nats.Subscription) (e liveEvent, err error) {
	msg, err := sub.NextMsg(patience)
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(msg.Data, &e)
}

func fighting(clock interface{ now() time.Time }) func(*options) {
	return func(o *options) {
		o.now = clock.now
		o.cfg.Devices.Heartbeat, o.cfg.Devices.ConnectsPerMinute = 100*time.Hour, 0
		o.cfg.Devices.FlapLimit, o.cfg.Devices.FlapWindow = 4, time.Minute
	}
}

// fight has devices with one identity come in turn, n times.
func (h *hub) fight(token string, n int) *client {
	h.t.Helper()
	var last *client
	for range n {
		next := h.connect(token)
		if last != nil {
			last.wantClose(devices.CloseReplaced)
		}
		last = next
	}
	return last
}

func TestTwoDevicesWithOneIdentity(t *testing.T) {
	t.Parallel()
	clock := newStopped()
	h := startHub(t, fighting(clock))
	next := h.listen()
	token := h.device("pump-7")
	h.fight(token, 5)
	if st := h.presence.State("pump-7"); st.Flaps != 4 || st.Conflict {
		t.Fatalf("as many as allowed: %+v", st)
	}
	h.connect(token) // one too many
	st := h.presence.State("pump-7")
	if st.Flaps != 5 || !st.Conflict || h.metric("fairlead_devices_identity_conflicts") != 1 {
		t.Fatalf("%+v", st)
	}
	e := next("the conflict is told", func(e liveEvent) bool { return e.Event == "identity_conflict" })
	if e.Device != "pump-7" || e.Flaps != 5 || len(e.Addresses) != 2 || e.Addresses[1] != st.Address || e.Since == 0 {
		t.Errorf("%+v", e)
	}
	next("presence says so too", func(e liveEvent) bool { return e.Event == "presence" && e.Conflict && e.Flaps == 5 })
	// They take turns ever more slowly.
	last := 0
	for range 3 {
		r := h.refused(h.url, bearerOf(token))
		after, _ := strconv.Atoi(r.header.Get("Retry-After"))
		if r.status != 429 || r.body.Code != "identity_conflict" || after < 2*last*3/4 || after < 10 {
			t.Fatalf("%d %+v, Retry-After %d after %d", r.status, r.body, after, last)
		}
		last = after
		clock.advance(time.Duration(after) * time.Second)
		h.connect(token)
	}
	if told := h.conflicts.told(); len(told) != 1 || told[0].Device != "pump-7" {
		t.Errorf("recorded %+v, want it once", told)
	}
	// One of them gives up.
	clock.advance(10 * time.Minute)
	next("it is over", func(e liveEvent) bool { return e.Event == "presence" && !e.Conflict })
	if st := h.presence.State("pump-7"); st.Conflict || st.Flaps != 0 || st.Status != devices.Online {
		t.Errorf("%+v", st)
	}
	h.connect(token)
}

func TestComingBackIsNoConflict(t *testing.T) {
	clock := newStopped()
	h := startHub(t, fighting(clock))
	token := h.device("pump-7")
	for range 12 { // says goodbye each time
		c := h.connect(token)
		c.ws.Close()
		eventually(t, "it is off line", func() bool { return h.presence.Status("pump-7") == devices.Offline })
	}
	for range 12 { // its power fails now and then
		h.connect(token)
		clock.advance(30 * time.Second)
	}
	if st := h.presence.State("pump-7"); st.Conflict || len(h.conflicts.told()) != 0 {
		t.Errorf("%+v", st)
	}
	// And nobody minds where the limit is off: the negative control.
	free := startHub(t, fighting(clock), func(o *options) { o.cfg.Devices.FlapLimit = 0 })
	free.fight(free.device("pump-7"), 12)
	if st := free.presence.State("pump-7"); st.Conflict || st.Flaps != 0 {
		t.Errorf("%+v", st)
	}
}

func TestConflictIsKnownOnEveryNode(t *testing.T) {
	clock := newStopped()
	one, two := twoNodes(t, fighting(clock))
	one.device("pump-7")
	eventually(t, "the record is everywhere", func() bool { _, ok := two.records.Record("pump-7"); return ok })
	at := []*hub{one, two}
	var last *client
	for i := range 6 { // one stays at each node
		h := at[i%2]
		next := h.connect(h.token("pump-7"))
		if last != nil {
			last.wantClose(devices.CloseReplaced)
		}
		last = next
		eventually(t, "the other node knows", func() bool { return at[(i+1)%2].presence.State("pump-7").Session == next.welcome.Session })
	}
	for _, h := range at {
		eventually(t, "the conflict is known", func() bool { return h.presence.State("pump-7").Conflict })
		if r := h.refused(h.url, bearerOf(h.token("pump-7"))); r.status != 429 || r.body.Code != "identity_conflict" {
			t.Errorf("%d %+v", r.status, r.body)
		}
	}
	if n := len(one.conflicts.told()) + len(two.conflicts.told()); n != 1 {
		t.Errorf("recorded %d times", n)
	}
}
