package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

func jsonMap() configs.InMap {
	return configs.InMap{Topic: "site/{device}/{measurement}", QoS: 1}
}

func TestReadingBecomesPoint(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{Username: "hub", Password: "secret"})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), Username: "hub", Password: "secret", In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	broker.Pub("site/pump 7/env", `{"temp":21.5,"in":{"door":true},"text":"a"}`, "-q", "1")
	h.until("the point", func() bool { return len(h.points["pump-7"]) == 1 })
	p := h.stored("pump-7")[0]
	if string(p.Measurement) != "env" || field(p, "temp") != "21.5" || field(p, "in_door") != "true" || field(p, "text") != "a" {
		t.Errorf("point is %s %v", p.Measurement, p.Fields)
	}
	if got := seen(h, h.labels)["pump-7"]["name"]; got != "pump 7" {
		t.Errorf("label name is %q, want the fleet's name", got)
	}
	if got := seen(h, h.online)["pump-7"]; got != "online telemetry mqtt:site" {
		t.Errorf("presence is %q", got)
	}
	r.wantStatus("acknowledged", func(s bridge.Status) bool { return s.Acked == 1 })
}

func TestNamesThatBecomeOneIDAreToldApart(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	h.taken["pump-9"] = true // a device with a socket of its own
	r := start(t, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	for _, name := range []string{"a b", "a.b", "pump-9"} {
		broker.Pub("site/"+name+"/env", `{"v":1}`, "-q", "1")
	}
	h.until("three devices", func() bool { return len(h.points) == 3 })
	seen := map[string]bool{}
	for id, labels := range h.labels {
		if err := wire.CheckID(id); err != nil {
			t.Error(err)
		}
		seen[labels["name"]] = true
	}
	if len(seen) != 3 || len(h.stored("pump-9")) != 0 || len(h.stored("a-b")) != 1 {
		t.Errorf("devices are %v", h.labels)
	}
}

// The promise: PUBACK only after the commit. A bridge that dies before it must get the messages again; one that
// acknowledges on receipt loses them (TestAutoAckLoses).
func TestUnstoredMessagesComeAgain(t *testing.T) {
	const n = 50
	broker := mosquittotest.Start(t, mosquittotest.Options{Config: []string{"max_inflight_messages 0"}})
	first := newHub(t)
	first.hold()
	c := configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}}
	r := start(t, first, c)
	r.wantState(bridge.StateConnected)
	broker.PubLines("site/d1/env", numbered(n))
	first.until("all appended", func() bool { return len(first.points["d1"]) == n })
	r.stop() // the log was never synced
	if got := r.Status()[0].Acked; got != 0 {
		t.Fatalf("%d messages were acknowledged before they were stored", got)
	}
	second := newHub(t)
	start(t, second, c)
	second.until("all again", func() bool { return len(second.points["d1"]) == n })
	for i, p := range second.points["d1"] {
		if field(p, "n") != fmt.Sprint(i) {
			t.Fatalf("message %d is %s: order is lost", i, field(p, "n"))
		}
	}
}

// A message of which one part is rejected, and another could not be stored, is not acknowledged.
func TestRejectedPartHidesNoUnstoredOne(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), Profiles: []string{"tasmota"}})
	r.wantState(bridge.StateConnected)
	broker.Pub("tele/gate/SENSOR", `{"A":{"conflict":1},"ZigbeeReceived":{"0x1":{"x":1}}}`, "-q", "1")
	r.wantStatus("acknowledged, as what is rejected is", func(s bridge.Status) bool { return s.Acked == 1 && s.Dropped == 1 })
	broker.Pub("tele/gate/SENSOR", `{"A":{"conflict":1},"ZigbeeReceived":{"0x1":{"closed":1}}}`, "-q", "1")
	broker.Pub("tele/gate/SENSOR", `{"A":{"x":2}}`, "-q", "1")
	s := r.wantStatus("past the third", func(s bridge.Status) bool { return s.Acked >= 2 })
	if s.Acked != 2 || s.Dropped != 1 || !strings.Contains(s.LastError, "log is closed") {
		t.Errorf("%d acknowledged, %d dropped, error %q; want the second kept by the broker", s.Acked, s.Dropped, s.LastError)
	}
}

func TestStoredMessagesDoNotComeAgain(t *testing.T) {
	const n = 50
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	first := newHub(t)
	c := configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}}
	r := start(t, first, c)
	r.wantState(bridge.StateConnected)
	broker.PubLines("site/d1/env", numbered(n))
	r.wantStatus("acknowledged", func(s bridge.Status) bool { return s.Acked == n })
	r.stop()
	second := newHub(t)
	r = start(t, second, c)
	r.wantState(bridge.StateConnected)
	broker.Pub("site/d1/env", `{"n":"last"}`, "-q", "1")
	second.until("the last", func() bool { return len(second.points["d1"]) > 0 })
	if got := field(second.points["d1"][0], "n"); got != "last" {
		t.Errorf("message %s came again though it was stored", got)
	}
}

func numbered(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"n":%d}`, i)
	}
	return lines
}

// The broker dies while messages are on their way and comes back: the bridge finds it again, subscribes again, and what
// was acknowledged to the publisher is there.
func TestBrokerRestarts(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{Persistence: true})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	broker.PubLines("site/d1/env", numbered(20))
	h.until("the first 20", func() bool { return len(h.points["d1"]) == 20 })
	broker.Kill()
	h.until("offline", func() bool { return h.online["d1"] == "offline link_lost mqtt:site" })
	broker.Restart()
	broker.PubLines("site/d1/env", numbered(20))
	h.until("the next 20", func() bool { return len(h.points["d1"]) >= 40 })
	h.until("online again", func() bool { return strings.HasPrefix(h.online["d1"], "online") })
	r.wantStatus("a new link with an epoch of its own", func(s bridge.Status) bool { return s.Epoch > 1 })
}

// What the broker repeats after a reconnect, because our acknowledgement did not reach it, is not stored twice.
func TestRepeatedMessageIsStoredOnce(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{Persistence: true})
	h := newHub(t)
	h.hold()
	r := start(t, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	broker.PubLines("site/d1/env", numbered(5))
	h.until("five appended", func() bool { return len(h.points["d1"]) == 5 })
	broker.Stop() // the link is lost while the log is being synced
	r.wantStatus("down", func(s bridge.Status) bool { return s.State != bridge.StateConnected })
	broker.Restart()
	r.wantStatus("connected again", func(s bridge.Status) bool { return s.State == bridge.StateConnected && s.Epoch > 1 })
	h.release()
	broker.Pub("site/d1/env", `{"n":"last"}`, "-q", "1")
	h.until("the last", func() bool {
		ps := h.points["d1"]
		return len(ps) > 0 && field(ps[len(ps)-1], "n") == "last"
	})
	if got := len(h.stored("d1")); got != 6 {
		t.Errorf("%d points, want 6: five once each, and the last", got)
	}
}

// A broker that gives out packet ids anew repeats a message that never came, under the id of an old one that says the same: it is
// stored. (That a repetition of the last link is not stored twice is TestRepeatedMessageIsStoredOnce.)
func TestOldMessageHidesNoNewOne(t *testing.T) {
	broker := script(t, nil, granted)
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.url(), In: []configs.InMap{jsonMap()}})
	up := func(n int) {
		broker.until("link", func() bool { return broker.links == n && count(broker.held) > 0 })
		r.wantStatus("connected", func(s bridge.Status) bool { return s.State == bridge.StateConnected && int(s.Epoch) == n })
	}
	up(1)
	broker.send(1, false, "site/d1/env", `{"n":1}`)
	r.wantStatus("acknowledged", func(s bridge.Status) bool { return s.Acked == 1 })
	broker.cut()
	up(2)
	broker.cut()
	up(3)
	broker.send(1, true, "site/d1/env", `{"n":1}`)
	r.wantStatus("acknowledged", func(s bridge.Status) bool { return s.Acked == 2 })
	if got := len(h.stored("d1")); got != 2 {
		t.Errorf("%d points are stored of 2 acknowledged messages", got)
	}
}

func TestWrongPasswordIsNamed(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{Username: "hub", Password: "secret"})
	r := start(t, newHub(t), configs.Connection{
		Name: "plant", URL: broker.URL(), Username: "hub", Password: "wrong", In: []configs.InMap{jsonMap()},
	})
	s := r.wantStatus("failed", func(s bridge.Status) bool { return s.LastError != "" })
	for _, want := range []string{`connection "plant"`, "wrong username or password", `"hub"`, broker.Addr} {
		if !strings.Contains(s.LastError, want) {
			t.Errorf("error %q does not name %s", s.LastError, want)
		}
	}
	if strings.Contains(s.LastError, "wrong,") || strings.Contains(s.LastError, "secret") {
		t.Errorf("error %q tells a password", s.LastError)
	}
}

func TestPoisonIsCountedAndAcknowledged(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), MaxPayload: 1000, In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	poison := map[string]string{
		"site/p1/env": `{"temp":`,
		"site/p2/env": `[1,2]`,
		"site/p3/env": `{"conflict":"x"}`,
		"site/p4/env": `{"big":"` + strings.Repeat("x", 2000) + `"}`,
		"site/p5/env": `{"n":1e999}`,
		"site/p6/env": "{\"n\":\"\xff\"}",
	}
	for topic, payload := range poison {
		broker.Pub(topic, payload, "-q", "1")
	}
	broker.Pub("site/good/env", `{"n":1}`, "-q", "1")
	h.until("the good one", func() bool { return len(h.points["good"]) == 1 })
	s := r.wantStatus("finished", func(s bridge.Status) bool { return s.Acked == uint64(len(poison))+1 })
	wants := map[string]string{
		"site/p1/env": "invalid_json", "site/p2/env": "not_an_object", "site/p3/env": "type_conflict",
		"site/p4/env": "too_large", "site/p5/env": "invalid_value", "site/p6/env": "invalid_utf8",
	}
	for _, topic := range s.Topics {
		if want := wants[topic.Topic]; !strings.Contains(topic.LastError, want) {
			t.Errorf("%s: error %q, want %s", topic.Topic, topic.LastError, want)
		}
	}
	if s.Dropped != uint64(len(poison)) {
		t.Errorf("%d dropped, want %d", s.Dropped, len(poison))
	}
}

// The bridge keeps topics, as names of devices and for operators to see, and so no long ones.
func TestLongTopicIsNoDevice(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	broker.Pub("site/"+strings.Repeat("x", 2000)+"/env", `{"n":1}`, "-q", "1")
	broker.Pub("site/"+strings.Repeat("y", 1000)+"/env", `{"n":1}`, "-q", "1")
	s := r.wantStatus("finished", func(s bridge.Status) bool { return s.Acked == 2 })
	if n := len(seen(h, h.labels)); n != 1 || s.Dropped != 1 {
		t.Errorf("%d devices, %d messages dropped; want the shorter one's, and the longer one", n, s.Dropped)
	}
	for _, topic := range s.Topics {
		if len(topic.Topic) > 1024 || strings.Contains(topic.Topic, "xxx") != strings.Contains(topic.LastError, "invalid_topic") {
			t.Errorf("%d bytes of a topic are kept, error %q", len(topic.Topic), topic.LastError)
		}
	}
}

func TestRetainedIsNotTelemetry(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	broker.Pub("site/old/env", `{"n":1}`, "-q", "1", "-r")
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}})
	s := r.wantStatus("retained seen", func(s bridge.Status) bool { return s.Dropped == 1 })
	if len(s.Topics) != 1 || !strings.HasPrefix(s.Topics[0].LastError, "retained") {
		t.Errorf("topics are %+v", s.Topics)
	}
	r.stop()
	in := jsonMap()
	in.Retained = true // unless the map says so
	start(t, h, configs.Connection{Name: "other", URL: broker.URL(), In: []configs.InMap{in}})
	h.until("the retained point", func() bool { return len(h.points["old"]) == 1 })
}

// A device that answers in the hub's own words, written with mosquitto's clients.
func TestCommandConfirmed(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{
		URL: broker.URL(),
		Command: []configs.CmdMap{{
			Devices: []string{"valve"}, Topic: "do/{device}/{name}", Payload: `{"id":"{id}","v":{param:v}}`,
			Reply: "done/{device}/{id}", QoS: 1,
		}},
	})
	orders := broker.Sub("do/#")
	h.until("the valve", func() bool { return h.online["valve"] == "online assumed mqtt:site" })
	go func() {
		o := <-orders
		var order struct{ ID string }
		if json.Unmarshal([]byte(o.Payload), &order) == nil {
			_ = mosquittotest.PubTo(t, broker.Port, []string{"-q", "1"}, "done/other/"+order.ID, `{"ok":true}`) // a liar
			_ = mosquittotest.PubTo(t, broker.Port, []string{"-q", "1"}, "done/valve/"+order.ID, `{"ok":true,"result":{"open":5}}`)
		}
		if o.Retained || o.QoS != 1 {
			t.Errorf("order %+v, want QoS 1 and not retained", o)
		}
	}()
	d, err := r.Links().Deliver(context.Background(), "valve", wire.Command{ID: "c1", Name: "open", Params: json.RawMessage(`{"v":5}`)})
	if err != nil || d.Session != "mqtt:site" || d.Epoch == 0 {
		t.Fatalf("deliver: %+v, %v", d, err)
	}
	h.until("the answer", func() bool { return len(h.answers) == 1 })
	a := h.answered(0)
	if a.device != "valve" || a.evidence != "confirmed" || !a.OK || a.ID != "c1" || string(a.Result) != `{"open":5}` {
		t.Errorf("answer is %+v", a)
	}
	// Nobody else is reachable, and a map without reply can only assume.
	if _, err := r.Links().Deliver(context.Background(), "nobody", wire.Command{ID: "c2", Name: "open"}); !errors.Is(err, bridge.ErrNotConnected) {
		t.Errorf("unknown device: %v, want ErrNotConnected", err)
	}
}

func TestCommandAssumedAndRefused(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{
		URL: broker.URL(), In: []configs.InMap{jsonMap()},
		Command: []configs.CmdMap{{Devices: []string{"lamp"}, Topic: "do/{device}", QoS: 1}},
	})
	h.until("the lamp", func() bool { return h.online["lamp"] != "" })
	if _, err := r.Links().Deliver(context.Background(), "lamp", wire.Command{ID: "c1", Name: "on"}); err != nil {
		t.Fatal(err)
	}
	h.until("the answer", func() bool { return len(h.answers) == 1 })
	if a := h.answered(0); a.evidence != "assumed" || !a.OK {
		t.Errorf("answer is %+v", a)
	}
	broker.Pub("site/meter/env", `{"v":1}`, "-q", "1")
	h.until("the meter", func() bool { return len(h.points["meter"]) == 1 })
	if _, err := r.Links().Deliver(context.Background(), "meter", wire.Command{ID: "c2", Name: "on"}); !errors.Is(err, bridge.ErrUnsupported) {
		t.Errorf("device without commands: %v, want ErrUnsupported", err)
	}
	broker.Kill()
	r.wantStatus("down", func(s bridge.Status) bool { return s.State != bridge.StateConnected })
	if _, err := r.Links().Deliver(context.Background(), "lamp", wire.Command{ID: "c3", Name: "on"}); !errors.Is(err, bridge.ErrNotConnected) {
		t.Errorf("broker down: %v, want ErrNotConnected", err)
	}
}

// Nothing is taken from a device whose record refuses it, and nothing sent to it, from that moment and until it is let in
// again. One that was deleted and still talks gets its record anew.
func TestRefusedDevice(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{
		URL: broker.URL(), In: []configs.InMap{jsonMap()},
		Command: []configs.CmdMap{{Devices: []string{"lamp", "valve"}, Topic: "do/{device}", QoS: 1}},
	})
	h.until("both", func() bool { return h.online["lamp"] != "" && h.online["valve"] != "" })
	broker.Pub("site/lamp/env", `{"v":1}`, "-q", "1")
	h.until("the point", func() bool { return len(h.points["lamp"]) == 1 })

	r.RecordChanged("lamp", bridge.Change{Refused: true})
	h.until("off line", func() bool { return h.online["lamp"] == "offline revoked mqtt:site" })
	broker.Pub("site/lamp/env", `{"v":2}`, "-q", "1")
	r.wantStatus("dropped", func(s bridge.Status) bool { return s.Dropped == 1 && s.Acked == 2 })
	if points, now := h.stored("lamp"), seen(h, h.online)["lamp"]; len(points) != 1 || now != "offline revoked mqtt:site" {
		t.Errorf("%d points of a refused device, %s", len(points), now)
	}
	if _, err := r.Links().Deliver(t.Context(), "lamp", wire.Command{ID: "c1", Name: "on"}); !errors.Is(err, bridge.ErrNotConnected) {
		t.Errorf("refused device: %v, want ErrNotConnected", err)
	}
	if _, err := r.Links().Deliver(t.Context(), "valve", wire.Command{ID: "c2", Name: "on"}); err != nil {
		t.Errorf("another device: %v", err)
	}

	r.RecordChanged("lamp", bridge.Change{})
	h.until("on line again", func() bool { return h.online["lamp"] == "online assumed mqtt:site" })
	broker.Pub("site/lamp/env", `{"v":3}`, "-q", "1")
	h.until("the next point", func() bool { return len(h.points["lamp"]) == 2 })
	if _, err := r.Links().Deliver(t.Context(), "lamp", wire.Command{ID: "c3", Name: "on"}); err != nil {
		t.Errorf("device that is let in again: %v", err)
	}

	h.mu.Lock()
	delete(h.labels, "lamp")
	h.mu.Unlock()
	r.RecordChanged("lamp", bridge.Change{})
	broker.Pub("site/lamp/env", `{"v":4}`, "-q", "1")
	h.until("a record again", func() bool { return h.labels["lamp"]["name"] == "lamp" && len(h.points["lamp"]) == 3 })
}

// A bridged device whose record was deleted and whose id then went to a device of its own is another one from then on:
// nothing of it counts for the id, and no command for the id goes to it.
func TestIDThatWentToAnother(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{
		URL: broker.URL(), In: []configs.InMap{jsonMap()},
		Command: []configs.CmdMap{{Devices: []string{"lamp"}, Topic: "do/{device}", QoS: 1}},
	})
	h.until("on line", func() bool { return h.online["lamp"] == "online assumed mqtt:site" })
	broker.Pub("site/lamp/env", `{"v":1}`, "-q", "1")
	h.until("the point", func() bool { return len(h.points["lamp"]) == 1 })

	h.mu.Lock()
	delete(h.labels, "lamp")
	h.taken["lamp"] = true
	h.mu.Unlock()
	r.RecordChanged("lamp", bridge.Change{})
	r.RecordChanged("lamp", bridge.Change{Refused: true})
	h.until("off line", func() bool { return h.online["lamp"] == "offline revoked mqtt:site" })
	broker.Pub("site/lamp/env", `{"v":2}`, "-q", "1")
	other := "lamp-" + fleets.Mark("lamp")
	h.until("the point under another id", func() bool { return len(h.points[other]) == 1 && h.labels[other]["name"] == "lamp" })
	r.wantStatus("acknowledged", func(s bridge.Status) bool { return s.Dropped == 0 && s.Acked == 2 })
	if points, now := h.stored("lamp"), seen(h, h.online)["lamp"]; len(points) != 1 || now != "offline revoked mqtt:site" {
		t.Errorf("%d points under the id of another device, %s", len(points), now)
	}
	if _, err := r.Links().Deliver(t.Context(), "lamp", wire.Command{ID: "c1", Name: "on"}); !errors.Is(err, bridge.ErrNotConnected) {
		t.Errorf("id of another device: %v, want ErrNotConnected", err)
	}
	if _, err := r.Links().Deliver(t.Context(), other, wire.Command{ID: "c2", Name: "on"}); err != nil {
		t.Errorf("the device by its new id: %v", err)
	}
}

// Labels that an operator gives a bridged device hold from the next message, and what was on its way is acknowledged.
func TestRelabelledDevice(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	opened := func(n int) func() bool { return func() bool { return h.opened["meter"] == n } }
	h.hold()
	broker.Pub("site/meter/env", `{"v":1}`, "-q", "1")
	h.until("the first point", func() bool { return len(h.points["meter"]) == 1 && opened(1)() })
	before := seen(h, h.ensured)["meter"]
	r.RecordChanged("meter", bridge.Change{Relabelled: true})
	broker.Pub("site/meter/env", `{"conflict":2}`, "-q", "1") // rejected, so that nothing after the first point tells of it
	h.until("the second message", func() bool { return h.ensured["meter"] > before })
	h.release()
	h.until("the source anew", opened(2))
	r.wantStatus("acknowledged", func(s bridge.Status) bool { return s.Acked == 2 })
	broker.Pub("site/meter/env", `{"v":3}`, "-q", "1")
	h.until("no other", func() bool { return len(h.points["meter"]) == 2 && opened(2)() })
	r.wantStatus("acknowledged", func(s bridge.Status) bool { return s.Acked == 3 })
}

func TestCommandReachesNothingElse(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{
		URL: broker.URL(), Command: []configs.CmdMap{{Devices: []string{"lamp"}, Topic: "do/{device}/{name}", QoS: 1}},
	})
	h.until("the lamp", func() bool { return h.online["lamp"] != "" })
	for _, name := range []string{"a/b", "#", "+", "\x00", "a\xffb", strings.Repeat("n", 70_000), "line\nbreak"} {
		_, err := r.Links().Deliver(context.Background(), "lamp", wire.Command{ID: "c", Name: name})
		if !errors.Is(err, bridge.ErrUnsupported) {
			t.Errorf("name %.10q: %v, want ErrUnsupported", name, err)
		}
	}
	if len(h.answers) != 0 {
		t.Errorf("answers are %v, want none: nothing was asked", h.answers)
	}
	if s := r.Status()[0]; s.State != bridge.StateConnected || s.Epoch != 1 || s.Published != 0 {
		t.Errorf("something was published: %+v", s)
	}
}

func TestTasmotaPlug(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), Profiles: []string{"tasmota"}, Timezone: "Europe/Rome"})
	r.wantState(bridge.StateConnected)
	broker.Pub("tele/plug1/LWT", "Online", "-r")
	broker.Pub("tele/plug1/SENSOR", `{"Time":"`+time.Now().In(mustZone(t, "Europe/Rome")).Format("2006-01-02T15:04:05")+`","ENERGY":{"Power":[12,3],"Voltage":230},"DS18B20":{"Temperature":20.6}}`)
	h.until("two points", func() bool { return len(h.points["plug1"]) == 2 })
	if p := h.stored("plug1")[1]; string(p.Measurement) != "ENERGY" || field(p, "Power_1") != "3" || !p.HasTime {
		t.Errorf("point is %+v", p)
	}
	broker.Pub("tele/plug1/STATE", `{"Uptime":"0T00:01:00","POWER":"OFF","Wifi":{"RSSI":70}}`)
	h.until("its state", func() bool { return len(h.states["plug1"]) == 1 })
	orders := broker.Sub("cmnd/#")
	go plug(t, broker, orders)
	_, err := r.Links().Deliver(context.Background(), "plug1", wire.Command{ID: "c1", Name: "power", Params: json.RawMessage(`{"state":"on"}`)})
	if err != nil {
		t.Fatal(err)
	}
	h.until("the answer", func() bool { return len(h.answers) == 1 })
	if a := h.answered(0); a.evidence != "observed" || !a.OK || a.ID != "c1" || a.device != "plug1" {
		t.Errorf("answer is %+v", a)
	}
	h.until("what it reported with the answer", func() bool { return len(h.states["plug1"]) >= 3 })
	if want := []string{`{"power":"off"}`, `{"power":"off"}`, `{"power":"on"}`}; !slices.Equal(seen(h, h.states)["plug1"], want) {
		t.Errorf("reported %q, want %q", seen(h, h.states)["plug1"], want)
	}
	_, err = r.Links().Deliver(context.Background(), "plug1", wire.Command{ID: "c2", Name: "Frobnicate", Params: json.RawMessage(`{"value":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	h.until("the refusal", func() bool { return len(h.answers) == 2 })
	if a := h.answered(1); a.OK || a.ID != "c2" || a.Error == nil || a.Error.Code != "unknown_command" {
		t.Errorf("answer is %+v", a)
	}
	broker.Pub("tele/plug1/LWT", "Offline", "-r")
	h.until("offline", func() bool { return h.online["plug1"] == "offline last_will mqtt:site" })
	if _, err := r.Links().Deliver(context.Background(), "plug1", wire.Command{ID: "c3", Name: "power", Params: json.RawMessage(`{"state":"on"}`)}); !errors.Is(err, bridge.ErrNotConnected) {
		t.Errorf("plug is gone: %v, want ErrNotConnected", err)
	}
}

func mustZone(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// plug answers as Tasmota does, with mosquitto_pub.
func plug(t *testing.T, broker *mosquittotest.Broker, orders <-chan mosquittotest.Line) {
	for n := 0; n < 2; n++ {
		o := <-orders
		if o.Retained || o.QoS != 1 {
			t.Errorf("order %+v, want QoS 1 and not retained", o)
		}
		reply := `{"Command":"Unknown"}`
		if o.Topic == "cmnd/plug1/POWER" {
			reply = `{"POWER":"` + o.Payload + `"}`
			_ = mosquittotest.PubTo(t, broker.Port, nil, "stat/plug1/RESULT", `{"POWER":"OFF"}`) // somebody else's
		}
		_ = mosquittotest.PubTo(t, broker.Port, nil, "stat/plug1/RESULT", reply)
	}
}

// Whatever a fleet calls a device, and a device says of itself, it gets a record, and nobody else waits for that.
func TestOddNames(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}, Profiles: []string{"tasmota"}, Timezone: "UTC"})
	r.wantState(bridge.StateConnected)
	odd := strings.Repeat("x", 300) + `\`
	broker.Pub(`site/odd\/env`, `{"v":1}`, "-q", "1")
	broker.Pub(`site/\/env`, `{"v":1}`, "-q", "1")
	broker.Pub("site/"+odd+"/env", `{"v":1}`, "-q", "1")
	relays := strings.Repeat("1,", 200) + "1"
	broker.Pub("tasmota/discovery/AABBCCDDEEFF/config", fmt.Sprintf(`{"mac":"AABBCCDDEEFF","t":"plug9","ft":"%%prefix%%/%%topic%%/","tp":["cmnd","stat","tele"],"dn":%q,"md":%q,"sw":%q,"rl":[%s]}`, odd, odd, odd, relays), "-r")
	broker.Pub("site/good/env", `{"v":2}`, "-q", "1")
	h.until("who comes behind them", func() bool { return len(h.points["good"]) == 1 })
	r.wantStatus("no link was lost", func(s bridge.Status) bool { return s.Epoch == 1 && s.Acked == 5 })
	if names := seen(h, h.labels); len(names) != 5 || names["good"]["name"] != "good" {
		t.Errorf("records of %v", names)
	}
}

// The places of devices whose records were deleted are free again, and so are those of who was refused long ago.
func TestPlacesOfDeletedDevices(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	h := newHub(t)
	h.maxDevices = 3
	r := start(t, h, configs.Connection{URL: broker.URL(), In: []configs.InMap{jsonMap()}})
	r.wantState(bridge.StateConnected)
	for i := range 4 {
		broker.Pub(fmt.Sprintf("site/d%d/env", i), `{"v":1}`, "-q", "1")
	}
	r.wantStatus("the fourth has no place", func(s bridge.Status) bool { return s.Acked == 4 && s.Dropped == 1 })
	for _, id := range []string{"d0", "d1"} {
		h.mu.Lock()
		delete(h.labels, id)
		h.mu.Unlock()
		r.RecordChanged(id, bridge.Change{Relabelled: true, Deleted: true})
	}
	broker.Pub("site/d1/env", `{"v":2}`, "-q", "1") // this one is still there
	h.until("its record again", func() bool { return h.labels["d1"]["name"] == "d1" })
	for began := time.Now(); len(h.stored("d4")) == 0; { // places are looked for now and then
		if time.Since(began) > patience {
			t.Fatal("no place for another device")
		}
		broker.Pub("site/d4/env", `{"v":1}`, "-q", "1")
	}
	broker.Pub("site/d2/env", `{"v":3}`, "-q", "1")
	h.until("the others are as before", func() bool { return len(h.points["d2"]) == 2 && len(h.points["d1"]) == 2 })
}
