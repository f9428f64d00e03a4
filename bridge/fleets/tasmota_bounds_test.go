package fleets_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
)

// What is kept of an announcement is bounded: a FullTopic that names the topic again and again would make a hundred megabytes of
// one message.
func TestTasmotaAnnouncementsAreBounded(t *testing.T) {
	long := strings.Repeat("x", 600)
	for name, s := range map[string]struct{ mac, payload string }{
		"topic":      {"AA", `{"t":"` + long + `"}`},
		"full topic": {"AA", `{"t":"a","ft":"%prefix%/` + long + `/"}`},
		"both":       {"AA", `{"t":"` + long[:200] + `","ft":"%prefix%/` + strings.Repeat("%topic%", 30) + `/"}`},
		"prefix":     {"AA", `{"t":"a","tp":["c","s","` + long + `"]}`},
		"host":       {"AA", `{"t":"a","hn":"` + long + `"}`},
		"name":       {"AA", `{"t":"a","dn":"` + long + `"}`},
		"word":       {"AA", `{"t":"a","state":["OFF","` + long + `"]}`},
		"MAC":        {long, `{"t":"a"}`},
	} {
		p := tasmota(t)
		_, err := p.Handle(message("tasmota/discovery/"+s.mac+"/config", s.payload))
		var drop *fleets.Drop
		if !errors.As(err, &drop) || drop.Reason != fleets.InvalidValue || !strings.Contains(drop.Detail, "at most") {
			t.Errorf("long %s: %v, want it refused with its bound", name, err)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("long %s: the refusal has %d bytes", name, len(err.Error()))
		}
	}
	p := tasmota(t)
	most := `{"t":"` + long[:90] + `","ft":"%prefix%/%topic%/","dn":"` + long[:200] + `","rl":[1` + strings.Repeat(",1", 5000) + `]}`
	got, err := p.Handle(message("tasmota/discovery/AA/config", most))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Updates[0].Hello.Commands); n < 32 || n > 64 {
		t.Errorf("of 5000 relays %d commands are kept", n)
	}
}

// Nor does a long topic, or a long name in a payload, become a device.
func TestTasmotaNamesAreBounded(t *testing.T) {
	p, long := tasmota(t), strings.Repeat("x", 600)
	if _, err := p.Handle(message("tele/"+long+"/STATE", `{"a":1}`)); !errors.Is(err, fleets.ErrNotMine) {
		t.Errorf("a topic of %d bytes: %v", len(long), err)
	}
	got, err := p.Handle(message("tele/gate/SENSOR", fmt.Sprintf(`{"ZigbeeReceived":{"0x1":{"a":1},"%s":{"a":1}}}`, long)))
	if err != nil || len(got.Updates) != 2 {
		t.Errorf("%d updates and %v, want the gateway and one child", len(got.Updates), err)
	}
}
