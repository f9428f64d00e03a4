package bridge_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

func granted(string) byte { return 1 }

// A filter that a device announced and that the broker refuses is noted, and costs nothing but itself.
func TestRefusedFilterLeavesTheLinkUp(t *testing.T) {
	broker := script(t, map[string]string{
		"tasmota/discovery/BB/config": `{"t":"odd","ft":"secret/%prefix%/%topic%/"}`,
		"tasmota/discovery/AA/config": `{"t":"good","ft":"home/%prefix%/%topic%/"}`,
	}, func(filter string) byte {
		if strings.HasPrefix(filter, "secret/") {
			return denied
		}
		return 1
	})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.url(), Profiles: []string{"tasmota"}})
	broker.until("all asked for", func() bool {
		return broker.held["home/tele/good/+"] && broker.held["home/stat/good/+"] && broker.asked["secret/tele/odd/+"] > 0 && broker.asked["secret/stat/odd/+"] > 0
	})
	s := r.wantStatus("the refusal told", func(s bridge.Status) bool { return strings.Contains(s.LastError, "the broker refuses it") })
	if s.State != bridge.StateConnected || s.Epoch != 1 || !strings.Contains(s.LastError, "secret/") {
		t.Errorf("status is %+v", s)
	}
	broker.say("home/tele/good/SENSOR", `{"A":{"x":1}}`)
	h.until("the other's point", func() bool { return len(h.points["good"]) == 1 })
	// Announced again it is not asked for again at once, and that is told.
	broker.say("tasmota/discovery/BB/config", broker.retained["tasmota/discovery/BB/config"])
	s = r.wantStatus("dropped", func(s bridge.Status) bool { return s.Dropped > 0 })
	if got := topicError(s, "tasmota/discovery/BB/config"); !strings.HasPrefix(got, "filter_refused: ") || s.Epoch != 1 {
		t.Errorf("told %q, epoch %d", got, s.Epoch)
	}
}

// A broker that hangs up over a filter does so a few times; then the filter is left, and the others are there.
func TestFilterThatEndsTheLinkIsLeft(t *testing.T) {
	broker := script(t, map[string]string{
		"tasmota/discovery/BB/config": `{"t":"odd","ft":"deadly/%prefix%/%topic%/","tp":["c","s","s"]}`,
		"tasmota/discovery/AA/config": `{"t":"good","ft":"home/%prefix%/%topic%/"}`,
	}, func(filter string) byte {
		if strings.HasPrefix(filter, "deadly/") {
			return hangUp
		}
		return 1
	})
	h := newHub(t)
	r := start(t, h, configs.Connection{URL: broker.url(), Profiles: []string{"tasmota"}})
	r.wantStatus("the reason told", func(s bridge.Status) bool {
		return strings.Contains(s.LastError, "not subscribed to deadly/s/odd/+") || s.Epoch > 3
	})
	broker.until("the others on the next link", func() bool {
		return broker.links == 4 && broker.held["home/tele/good/+"] && broker.held["home/stat/good/+"]
	})
	broker.say("home/tele/good/SENSOR", `{"A":{"x":1}}`)
	h.until("the other's point", func() bool { return len(h.points["good"]) == 1 })
	if s := r.wantState(bridge.StateConnected); s.Epoch != 4 {
		t.Errorf("epoch is %d, want 4: three links were lost over it", s.Epoch)
	}
}

// What stock brokers end the connection for is not asked for at all.
func TestFilterBeyondTheBounds(t *testing.T) {
	for name, fullTopic := range map[string]string{
		"levels": strings.Repeat("a/", 200) + "%prefix%/%topic%/",
		"length": strings.Repeat("a", 60_000) + "/%prefix%/%topic%/",
	} {
		t.Run(name, func(t *testing.T) {
			broker := mosquittotest.Start(t, mosquittotest.Options{})
			h := newHub(t)
			r := start(t, h, configs.Connection{URL: broker.URL(), Profiles: []string{"tasmota"}})
			r.wantState(bridge.StateConnected)
			broker.Pub("tasmota/discovery/BB/config", `{"t":"odd","ft":"`+fullTopic+`"}`, "-q", "1", "-r")
			s := r.wantStatus("dropped", func(s bridge.Status) bool { return s.Dropped == 1 || s.Epoch > 1 })
			if got := topicError(s, "tasmota/discovery/BB/config"); !strings.HasPrefix(got, "invalid_") || !strings.Contains(got, "at most") {
				t.Errorf("told %q", got)
			}
			broker.Pub("tele/plug1/SENSOR", `{"A":{"x":1}}`, "-q", "1")
			h.until("another plug's point", func() bool { return len(h.points["plug1"]) == 1 })
			if s := r.wantState(bridge.StateConnected); s.Epoch != 1 {
				t.Errorf("epoch is %d: the link was lost over it; %s", s.Epoch, s.LastError)
			}
		})
	}
}

// Many plugs with a FullTopic of their own: all are subscribed to, also after a reconnect, in packets that any broker takes;
// and what a plug no longer needs is given back.
func TestManyFiltersGoInSmallPackets(t *testing.T) {
	const plugs = 200
	retained := map[string]string{}
	for i := range plugs {
		retained[fmt.Sprintf("tasmota/discovery/%012X/config", i)] = fmt.Sprintf(`{"t":"plug%d","ft":"%s/%%prefix%%/%%topic%%/"}`, i, strings.Repeat("f", 400))
	}
	broker := script(t, retained, granted)
	start(t, newHub(t), configs.Connection{URL: broker.url(), Profiles: []string{"tasmota"}})
	all := func(n int) func() bool {
		return func() bool { return broker.links == n && count(broker.held) == 2*plugs+3 }
	}
	broker.until("all", all(1))
	broker.say("tasmota/discovery/000000000000/config", `{"t":"plug0"}`)
	broker.until("two given back", func() bool { return count(broker.held) == 2*plugs+1 })
	broker.cut()
	broker.until("all after a reconnect", all(2))
	if broker.longest > 16<<10 {
		t.Errorf("a SUBSCRIBE of %d bytes", broker.longest)
	}
}

func count(held map[string]bool) int {
	n := 0
	for _, is := range held {
		if is {
			n++
		}
	}
	return n
}

// What a device announces leads the hub neither to read what it publishes nor to publish what it reads.
func TestAnnouncedTopicsAreNotReadBack(t *testing.T) {
	site := configs.Connection{
		Profiles: []string{"tasmota"}, In: []configs.InMap{jsonMap()},
		Command: []configs.CmdMap{{Devices: []string{"lamp"}, Topic: "do/{device}/{name}", QoS: 1}},
	}
	for name, prefixes := range map[string]string{
		"of a command map":   `["x","do","y"]`,
		"of another profile": `["x","y","do"]`,
	} {
		t.Run(name, func(t *testing.T) {
			broker := script(t, map[string]string{"tasmota/discovery/BB/config": `{"t":"evil","ft":"%prefix%/lamp/","tp":` + prefixes + `}`}, granted)
			site.URL = broker.url()
			r := start(t, newHub(t), site)
			broker.until("its other topic", func() bool { return broker.held["y/lamp/+"] })
			s := r.wantStatus("dropped", func(s bridge.Status) bool { return s.Dropped == 1 || broker.hasAsked("do/lamp/+") })
			if got := topicError(s, "tasmota/discovery/BB/config"); !strings.HasPrefix(got, "read_back: ") || !strings.Contains(got, "commands[0].topic") {
				t.Errorf("told %q", got)
			}
			if broker.hasAsked("do/lamp/+") {
				t.Error("the hub subscribes to what it publishes")
			}
		})
	}
	t.Run("commands where topic maps read", func(t *testing.T) {
		broker := mosquittotest.Start(t, mosquittotest.Options{})
		site.URL = broker.URL()
		h := newHub(t)
		r := start(t, h, site)
		r.wantState(bridge.StateConnected)
		broker.Pub("tasmota/discovery/BB/config", `{"t":"evil","ft":"%prefix%/pump/","tp":["site","x","y"]}`, "-q", "1")
		r.wantStatus("the device", func(s bridge.Status) bool { return s.Acked == 1 }) // its record alone comes before it can be reached
		_, err := r.Links().Deliver(t.Context(), "evil", wire.Command{ID: "c1", Name: "Foo", Params: json.RawMessage(`{"value":{"temp":1}}`)})
		if !errors.Is(err, bridge.ErrUnsupported) {
			t.Errorf("command: %v, want ErrUnsupported", err)
		}
		broker.Pub("site/pump/env", `{"v":1}`, "-q", "1")
		h.until("a point of the pump's own", func() bool { return len(h.points["pump"]) > 0 })
		if p := h.stored("pump"); len(p) != 1 || field(p[0], "v") != "1" {
			t.Errorf("%d points, want the pump's own only", len(p))
		}
	})
}

func (s *scripted) hasAsked(filter string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[filter] > 0
}

func topicError(s bridge.Status, topic string) string {
	for _, t := range s.Topics {
		if t.Topic == topic {
			return t.LastError
		}
	}
	return ""
}

// The same over another connection to the broker: what that publishes is not read either.
func TestAnnouncedTopicsOfAnotherConnection(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	broker.Pub("tasmota/discovery/BB/config", `{"t":"evil","ft":"%prefix%/lamp/","tp":["x","do","y"]}`, "-q", "1", "-r")
	r := startAll(t, newHub(t), []configs.Connection{
		{Name: "plugs", URL: broker.URL(), Profiles: []string{"tasmota"}},
		{Name: "lamps", URL: broker.URL(), Command: []configs.CmdMap{{Devices: []string{"lamp"}, Topic: "do/{device}/{name}", QoS: 1}}},
	})
	s := r.wantStatus("finished", func(s bridge.Status) bool { return s.Acked == 1 })
	if got := topicError(s, "tasmota/discovery/BB/config"); !strings.HasPrefix(got, "read_back: ") || !strings.Contains(got, "commands[0].topic of connection lamps") {
		t.Errorf("told %q", got)
	}
}

func TestExtrasAreBounded(t *testing.T) {
	now := time.Now()
	e := bridge.NewExtras()
	for i := range bridge.MaxExtras {
		if drop := e.Add(fmt.Sprint("a/", i, "/+"), now); drop != nil {
			t.Fatalf("filter %d: %v", i, drop)
		}
	}
	if drop := e.Add("b/+", now); drop == nil || drop.Reason != "too_many_filters" {
		t.Errorf("one too many: %v", drop)
	}
	e.Remove("a/0/+")
	if drop := e.Add("b/+", now); drop != nil {
		t.Errorf("after one was given back: %v", drop)
	}
	if list := e.Next(); len(list) == 0 || len(list) > 64 {
		t.Errorf("%d in the first packet", len(list))
	}
}

// The life of a filter: what is refused is asked for again after a while or over a new link; what ended links only after
// long; what goes while it is asked for is given back.
func TestExtraIsAskedForAgain(t *testing.T) {
	now := time.Now()
	e := bridge.NewExtras()
	e.Add("a/+", now)
	e.Answered(e.Next(), []string{"a/+"}, now)
	if drop := e.Add("a/+", now); drop == nil || drop.Reason != "filter_refused" || len(e.Next()) != 0 {
		t.Errorf("asked for at once: %v", drop)
	}
	if drop := e.Add("a/+", now.Add(2*time.Minute)); drop != nil || len(e.Next()) != 1 {
		t.Errorf("not asked for after a while: %v", drop)
	}
	for range bridge.Strikes - 1 {
		if given := e.Strike([]string{"a/+"}, now); len(given) != 0 {
			t.Fatalf("given up too early: %v", given)
		}
		e.Add("b/+", now)
		e.Renew(now)
		if list := e.Next(); len(list) != 1 || list[0] != "b/+" {
			t.Fatalf("a suspect goes along or first: %v", list)
		}
		e.Answered([]string{"b/+"}, nil, now)
		if list := e.Next(); len(list) != 1 || list[0] != "a/+" {
			t.Fatalf("the suspect is not asked for: %v", list)
		}
	}
	if given := e.Strike([]string{"a/+"}, now); len(given) != 1 {
		t.Errorf("not given up: %v", given)
	}
	e.Renew(now)
	if list := e.Next(); len(list) != 1 || list[0] != "b/+" || e.Add("a/+", now) == nil {
		t.Errorf("asked for again over the next link: %v", list)
	}
	e.Remove("b/+") // while it is asked for
	e.Answered([]string{"b/+"}, nil, now)
	if list := e.Leaving(); len(list) != 1 || list[0] != "b/+" {
		t.Errorf("given back: %v", list)
	}
	e.Renew(now.Add(bridge.StruckFor + 1))
	if list := e.Next(); len(list) != 1 || list[0] != "a/+" {
		t.Errorf("asked for after long: %v", list)
	}
}
