package fleets_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// step is a message and what it must say; a topic that begins with ">" asks the device for power on, and want is where
// that goes.
type step struct{ topic, payload, want string }

func walk(t *testing.T, steps []step) {
	t.Helper()
	p := tasmota(t)
	for _, s := range steps {
		got := ""
		if device, ok := strings.CutPrefix(s.topic, ">"); ok {
			req, err := p.Command(device, wire.Command{ID: "c", Name: "power", Params: json.RawMessage(`{"state":"on"}`)}, now)
			if err != nil {
				t.Fatalf("command for %s: %v", device, err)
			}
			got = req.Topic
		} else {
			got = show(p.Handle(message(s.topic, s.payload)))
		}
		if got != s.want {
			t.Errorf("%s %s\ngot  %q\nwant %q", s.topic, s.payload, got, s.want)
		}
	}
}

// Who may write one discovery message gets no other announced device's answers, readings and commands by it.
func TestTasmotaAnnouncedTopicsHaveOneOwner(t *testing.T) {
	const taken = "! topic_taken: "
	const hint = "; if that device is gone, clear its retained message tasmota/discovery/AA/config and have this one announce itself again"
	announced := step{"tasmota/discovery/AA/config", `{"t":"plug1","mac":"AA"}`, "plug1\n"}
	unharmed := []step{
		{"tele/plug1/SENSOR", `{"A":{"x":1}}`, "plug1 online A{x=1}\n"},
		{"stat/plug1/RESULT", `{"POWER":"ON"}`, "plug1 online state{POWER=ON}\n"},
		{">plug1", "", "cmnd/plug1/POWER"},
	}
	for name, s := range map[string]step{
		"its readings and answers":    {"tasmota/discovery/BB/config", `{"t":"evil","ft":"%prefix%/plug1/"}`, taken + `"stat/plug1/" belongs to device AA` + hint},
		"its readings alone":          {"tasmota/discovery/BB/config", `{"t":"evil","ft":"%prefix%/plug1/","tp":["c","s","tele"]}`, taken + `"tele/plug1/" belongs to device AA` + hint},
		"answers where its orders go": {"tasmota/discovery/BB/config", `{"t":"evil","ft":"%prefix%/plug1/","tp":["x","cmnd","y"]}`, `! invalid_value: FullTopic puts answers at "cmnd/plug1/", where commands go`},
		"orders where its answers go": {"tasmota/discovery/BB/config", `{"t":"evil","ft":"%prefix%/plug1/","tp":["stat","x","y"]}`, `! invalid_value: FullTopic puts commands at "stat/plug1/", where answers are read`},
		"orders as announcements":     {"tasmota/discovery/BB/config", `{"t":"evil","ft":"%prefix%/discovery/AA","tp":["tasmota","x","y"]}`, `! invalid_value: FullTopic puts commands at "tasmota/discovery/AA/", where answers are read`},
		"its name":                    {"tasmota/discovery/BB/config", `{"t":"plug1","tp":["mine","s","t"]}`, taken + `"plug1" belongs to device AA` + hint},
		"its MAC":                     {"tasmota/discovery/BB/config", `{"t":"evil","mac":"AA"}`, `! invalid_value: discovery of "BB" with the MAC "AA"`},
	} {
		t.Run(name, func(t *testing.T) { walk(t, append([]step{announced, s}, unharmed...)) })
	}
}

// A plug in the place of another has its topics once the old one's announcement is cleared, and is not silent meanwhile.
func TestTasmotaReplacedPlug(t *testing.T) {
	walk(t, []step{
		{"tasmota/discovery/AA/config", `{"t":"plug1"}`, "plug1\n"},
		{
			"tasmota/discovery/BB/config", `{"t":"plug1","mac":"BB"}`,
			`! topic_taken: "plug1" belongs to device AA; if that device is gone, clear its retained message tasmota/discovery/AA/config and have this one announce itself again`,
		},
		{"tele/plug1/SENSOR", `{"A":{"x":1}}`, "plug1 online A{x=1}\n"},
		{"tasmota/discovery/AA/config", ``, "plug1 offline\n"},
		{"tasmota/discovery/BB/config", `{"t":"plug1","mac":"BB"}`, "plug1\n"},
		{"tasmota/discovery/AA/config", ``, ""}, // it is told again, and is none of the new one's business
		{"tele/plug1/SENSOR", `{"A":{"x":1}}`, "plug1 online A{x=1}\n"},
		{"tasmota/discovery/BB/config", `{"t":"plug1","mac":"bb","ft":"h/%prefix%/%topic%/"}`, "plug1\nsubscribe h/tele/plug1/+\nsubscribe h/stat/plug1/+\n"},
	})
}

// Two plugs may exchange their names: what one no longer claims is free.
func TestTasmotaExchangedNames(t *testing.T) {
	walk(t, []step{
		{"tasmota/discovery/AA/config", `{"t":"plug1"}`, "plug1\n"},
		{"tasmota/discovery/BB/config", `{"t":"plug2"}`, "plug2\n"},
		{
			"tasmota/discovery/AA/config", `{"t":"plug2"}`,
			`! topic_taken: "plug2" belongs to device BB; if that device is gone, clear its retained message tasmota/discovery/BB/config and have this one announce itself again`,
		},
		{"tasmota/discovery/BB/config", `{"t":"plug1"}`, "plug1\n"},
		{"tasmota/discovery/AA/config", `{"t":"plug2"}`, "plug2\n"},
	})
}

// A guess gives way to an announcement and displaces none.
func TestTasmotaGuessGivesWay(t *testing.T) {
	walk(t, []step{
		{"tele/plug1/LWT", `Online`, "plug1 online\n"},
		{"tasmota/discovery/AA/config", `{"t":"plug1","ft":"h/%prefix%/%topic%/"}`, "plug1\nsubscribe h/tele/plug1/+\nsubscribe h/stat/plug1/+\n"},
		{"tele/plug1/LWT", `Online`, `! topic_taken: "plug1" belongs to device AA, which announced other topics`},
		{">plug1", "", "h/cmnd/plug1/POWER"},
		{"stat/name/RESULT", `{"POWER":"ON"}`, "name online state{POWER=ON}\n"},
		{"tasmota/discovery/BB/config", `{"t":"plug2","ft":"%prefix%/name/","tp":["c","stat","t"]}`, "plug2\nsubscribe t/name/+\n"},
		{"tele/name/STATE", `{"x":1}`, `! topic_taken: "stat/name/" belongs to device BB, which announced other topics`},
		{"stat/name/RESULT", `{"POWER":"ON"}`, "plug2 online state{POWER=ON}\n"},
	})
}

// Filters that an announcement made needed are given back with the next one and with the device.
func TestTasmotaFiltersAreGivenBack(t *testing.T) {
	p := tasmota(t)
	for _, s := range []struct {
		payload string
		want    []string
	}{
		{`{"t":"a","ft":"h/%prefix%/%topic%/"}`, nil},
		{`{"t":"a","ft":"h/%prefix%/%topic%/"}`, nil},
		{`{"t":"a","ft":"i/%prefix%/%topic%/","tp":["c","s","s"]}`, []string{"h/tele/a/+", "h/stat/a/+"}},
		{`{"t":"a","ft":"%prefix%/%topic%/"}`, []string{"i/s/a/+"}},
		{`{"t":"a","ft":"j/%prefix%/%topic%/"}`, nil},
		{``, []string{"j/tele/a/+", "j/stat/a/+"}},
	} {
		result, err := p.Handle(fleets.Message{Topic: "tasmota/discovery/AA/config", Payload: []byte(s.payload), Received: now})
		if err != nil || strings.Join(result.Unsubscribe, " ") != strings.Join(s.want, " ") {
			t.Errorf("%s: gives back %q (%v), want %q", s.payload, result.Unsubscribe, err, s.want)
		}
	}
}
