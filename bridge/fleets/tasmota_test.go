package fleets_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func tasmota(t *testing.T) fleets.Profile {
	t.Helper()
	p, _, err := fleets.New("tasmota", fleets.Options{MaxAge: 24 * time.Hour, MaxAhead: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func message(topic, payload string) fleets.Message {
	return fleets.Message{Topic: topic, Payload: []byte(payload), Received: now}
}

// show writes what a message says, one update a line.
func show(r fleets.Result, err error) string {
	if err != nil {
		return "! " + err.Error()
	}
	var b strings.Builder
	for _, u := range r.Updates {
		fmt.Fprintf(&b, "%s", u.Device)
		if u.Presence != fleets.Unsaid {
			fmt.Fprintf(&b, " %s", map[fleets.Presence]string{fleets.Online: "online", fleets.Offline: "offline"}[u.Presence])
		}
		for _, p := range u.Points {
			fmt.Fprintf(&b, " %s{", p.Measurement)
			for i, f := range p.Fields {
				fmt.Fprintf(&b, "%s%s=%s", map[bool]string{false: ",", true: ""}[i == 0], f.Key, f.Value)
			}
			b.WriteString("}")
			if p.HasTime {
				b.WriteString("@" + time.Unix(0, p.Time).UTC().Format("15:04:05"))
			}
		}
		for _, a := range u.Answers {
			fmt.Fprintf(&b, " answer(%s ok=%v %s)", a.ID, a.OK, a.Evidence)
		}
		b.WriteString("\n")
	}
	for _, s := range r.Subscribe {
		fmt.Fprintf(&b, "subscribe %s\n", s)
	}
	return b.String()
}

// The payloads are those of Tasmota's documentation and of issues reported to it.
func TestTasmotaMessages(t *testing.T) {
	for name, c := range map[string]struct {
		topic, payload string
		retained       bool
		want           string
	}{
		"sensor":           {"tele/plug/SENSOR", `{"Time":"2026-01-02T03:04:00","DS18B20":{"Temperature":20.6},"TempUnit":"C"}`, false, "plug online DS18B20{Temperature=20.6}@03:04:00 sensor{TempUnit=C}@03:04:00\n"},
		"energy":           {"tele/plug/SENSOR", `{"Time":"2026-01-02T03:04:00","ENERGY":{"TotalStartTime":"2025-01-01T00:00:00","Total":3.1,"Power":[1,2]}}`, false, "plug online ENERGY{Power_0=1,Power_1=2,Total=3.1,TotalStartTime=2025-01-01T00:00:00}@03:04:00\n"},
		"state":            {"tele/plug/STATE", `{"Time":"2026-01-02T03:04:00","Uptime":"0T01:00:00","UptimeSec":3600,"POWER":"ON","Wifi":{"AP":1,"RSSI":62}}`, false, "plug online state{POWER=ON,Uptime=0T01:00:00,UptimeSec=3600,Wifi_AP=1,Wifi_RSSI=62}@03:04:00\n"},
		"clock not set":    {"tele/plug/SENSOR", `{"Time":"1970-01-01T00:00:09","A":{"x":1}}`, false, "plug online A{x=1}\n"},
		"clock ahead":      {"tele/plug/SENSOR", `{"Time":"2026-01-02T05:04:00","A":{"x":1}}`, false, "plug online A{x=1}\n"},
		"clock with zone":  {"tele/plug/SENSOR", `{"Time":"2026-01-02T05:04:00+02:00","A":{"x":1}}`, false, "plug online A{x=1}@03:04:00\n"},
		"birth":            {"tele/plug/LWT", "Online", true, "plug online\n"},
		"last will":        {"tele/plug/LWT", "Offline", true, "plug offline\n"},
		"cleared will":     {"tele/plug/LWT", "", false, "! empty: last will was cleared"},
		"threshold":        {"tele/plug/POWER_LOW", "ON", false, "! topic is not one of the profile"}, // of a device not yet known
		"old state":        {"tele/plug/STATE", `{"POWER":"ON"}`, true, "! retained: the state of an unknown time"},
		"switched":         {"stat/plug/RESULT", `{"POWER":"ON"}`, false, "plug online state{POWER=ON}\n"},
		"switched, plain":  {"stat/plug/POWER", "ON", false, "plug online state{POWER=ON}\n"},
		"old result":       {"stat/plug/RESULT", `{"POWER":"ON"}`, true, "! retained: an answer of an unknown time"},
		"an order":         {"cmnd/plug/POWER", "ON", false, "! topic is not one of the profile"},
		"an empty order":   {"cmnd/plug/POWER", "", false, "! topic is not one of the profile"},
		"somebody else's":  {"tele/x/y/SENSOR", `{}`, false, "! topic is not one of the profile"},
		"not Tasmota":      {"stat/door/open", "1", false, "! topic is not one of the profile"},
		"broken":           {"tele/plug/SENSOR", `{"Time":`, false, "! invalid_json: unexpected EOF"},
		"nothing in it":    {"tele/plug/SENSOR", `{"Time":"2026-01-02T03:04:00"}`, false, "! empty: no fields"},
		"zigbee children":  {"tele/gw/SENSOR", `{"ZigbeeReceived":{"0x8987":{"Device":"0x8987","Name":"Bulb","Power":1}}}`, false, "gw online\ngw/0x8987 online zigbee{Device=0x8987,Name=Bulb,Power=1}\n"},
		"sensor discovery": {"tasmota/discovery/D8F15BB3DB2D/sensors", `{"sn":{"Time":"2026-01-02T03:04:00","ENERGY":{"Power":1}}}`, true, ""},
		"discovery": {
			"tasmota/discovery/D8F15BB3DB2D/config", `{"t":"b","md":"Sonoff","sw":"10.0.0","ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],"rl":[1,0]}`, true, "b\n",
		},
		"discovery, another order": {
			"tasmota/discovery/D8F15BB3DB2D/config", `{"t":"b","ft":"home/%topic%/%prefix%","tp":["c","s","t"],"rl":[1]}`, true, "b\nsubscribe home/b/t/+\nsubscribe home/b/s/+\n",
		},
		"discovery, a wildcard in it": {
			"tasmota/discovery/D8F15BB3DB2D/config", `{"t":"#","ft":"%prefix%/%topic%/"}`, true, "! invalid_value: discovery without a topic",
		},
		"discovery, orders among answers": {
			"tasmota/discovery/D8F15BB3DB2D/config", `{"t":"b","tp":["x","x","y"]}`, true, "! invalid_value: FullTopic has the same topics for commands and answers",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := message(c.topic, c.payload)
			m.Retained = c.retained
			if got := show(tasmota(t).Handle(m)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// dialogue is commands and messages in order: "> id name params" asks, "< topic payload" is heard.
func TestTasmotaEvidence(t *testing.T) {
	for name, dialogue := range map[string]string{
		"obeyed": `
			> c1 power {"state":"on"} = cmnd/plug/POWER ON
			< stat/plug/RESULT {"POWER":"ON"} = c1 true
			< stat/plug/POWER ON =`,
		"somebody else's answer is not ours": `
			> c1 power {"state":"on"} = cmnd/plug/POWER ON
			< stat/plug/RESULT {"POWER":"OFF"} =
			< stat/plug/RESULT {"Dimmer":5} =
			< stat/plug/RESULT {"POWER":"ON"} = c1 true`,
		"in order": `
			> c1 power {"state":"toggle"} = cmnd/plug/POWER TOGGLE
			> c2 power {"state":"toggle"} = cmnd/plug/POWER TOGGLE
			< stat/plug/RESULT {"POWER":"ON"} = c1 true
			< stat/plug/POWER ON =
			< stat/plug/RESULT {"POWER":"OFF"} = c2 true
			< stat/plug/RESULT {"POWER":"ON"} =`,
		"one relay or more": `
			> c1 POWER1 {"value":"OFF"} = cmnd/plug/POWER1 OFF
			< stat/plug/RESULT {"POWER":"OFF"} = c1 true
			> c2 power2 {"state":"on"} = cmnd/plug/POWER2 ON
			< stat/plug/RESULT {"POWER1":"ON"} =
			< stat/plug/RESULT {"POWER2":"ON"} = c2 true`,
		"SetOption4": `
			> c1 Dimmer {"value":40} = cmnd/plug/Dimmer 40
			< stat/plug/DIMMER {"POWER":"ON","Dimmer":30} =
			< stat/plug/DIMMER {"POWER":"ON","Dimmer":40} = c1 true`,
		"console": `
			> c1 console {"command":"TelePeriod","value":60} = cmnd/plug/TelePeriod 60
			< stat/plug/RESULT {"TelePeriod":60} = c1 true
			> c2 Status {"value":6} = cmnd/plug/Status 6
			< stat/plug/STATUS6 {"StatusMQT":{"MqttPort":1883}} = c2 true`,
		"unknown": `
			> c1 power {"state":"on"} = cmnd/plug/POWER ON
			> c2 Foo {} = cmnd/plug/Foo
			< stat/plug/RESULT {"Command":"Unknown","Input":"FOO"} = c2 false
			< stat/plug/RESULT {"POWER":"ON"} = c1 true
			> c3 Bar {} = cmnd/plug/Bar
			< stat/plug/RESULT {"Command":"Error"} = c3 false`,
		"plain answers count where there are no others": `
			> c1 power {"state":"off"} = cmnd/plug/POWER OFF
			< stat/plug/POWER ON =
			< stat/plug/POWER OFF = c1 true`,
		"what makes no sense": `
			> c1 power {} = !
			> c2 a/b {} = !
			> c3 # {} = !
			> c4 console {} = !
			> c5 console {"command":"x y"} = !
			> c6 power {"state": = !`,
	} {
		t.Run(name, func(t *testing.T) {
			p := tasmota(t)
			if _, err := p.Handle(message("tele/plug/LWT", "Online")); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(strings.TrimSpace(dialogue)) {
				line, want, _ := strings.Cut(strings.TrimSpace(line), " =")
				want = strings.TrimSpace(want)
				if got := turn(p, line); got != want {
					t.Errorf("%s\ngot  %q\nwant %q", line, got, want)
				}
			}
		})
	}
}

func turn(p fleets.Profile, line string) string {
	words := strings.SplitN(line, " ", 4)
	if words[0] == ">" {
		req, err := p.Command("plug", wire.Command{ID: words[1], Name: words[2], Params: json.RawMessage(words[3]), TimeoutMS: 5000}, now)
		if err != nil {
			if !errors.Is(err, fleets.ErrUnsupported) {
				return err.Error()
			}
			return "!"
		}
		return strings.TrimSpace(req.Topic + " " + string(req.Payload))
	}
	topic, payload, _ := strings.Cut(strings.TrimPrefix(line, "< "), " ")
	result, err := p.Handle(message(topic, payload))
	if err != nil {
		return err.Error()
	}
	var answers []string
	for _, u := range result.Updates {
		for _, a := range u.Answers {
			answers = append(answers, fmt.Sprint(a.ID, " ", a.OK))
		}
	}
	return strings.Join(answers, ", ")
}

func TestTasmotaWaitsAreBounded(t *testing.T) {
	p := tasmota(t)
	if _, err := p.Handle(message("tele/plug/LWT", "Online")); err != nil {
		t.Fatal(err)
	}
	ask := func(n int, at time.Time) (*fleets.Request, error) {
		return p.Command("plug", wire.Command{ID: fmt.Sprint(n), Name: "Foo", TimeoutMS: 5000}, at)
	}
	asked := 0
	var last *fleets.Request
	for {
		req, err := ask(asked, now)
		if err != nil {
			if !errors.Is(err, fleets.ErrBusy) {
				t.Fatal(err)
			}
			break
		}
		last = req
		asked++
	}
	last.Forget() // it was not published
	if _, err := ask(asked, now); err != nil {
		t.Errorf("after one was forgotten: %v", err)
	}
	later := now.Add(6 * time.Second)
	if _, err := ask(asked+1, later); err != nil {
		t.Errorf("after all have timed out: %v", err)
	}
	m := message("stat/plug/RESULT", `{"Foo":1}`)
	m.Received = later
	result, err := p.Handle(m)
	if err != nil || len(result.Updates[0].Answers) != 1 || result.Updates[0].Answers[0].ID != fmt.Sprint(asked+1) {
		t.Errorf("an answer after the timeout went to a command that is over: %+v, %v", result.Updates, err)
	}
}

func TestTasmotaIsForgotten(t *testing.T) {
	p := tasmota(t)
	steps := []struct{ topic, payload, want string }{
		{"tasmota/discovery/AA/config", `{"t":"old","ft":"%prefix%/%topic%/"}`, "old\n"},
		{"tele/old/SENSOR", `{"A":{"x":1}}`, "old online A{x=1}\n"},
		{"tasmota/discovery/AA/config", `{"t":"new","ft":"h/%prefix%/%topic%/"}`, "new\nsubscribe h/tele/new/+\nsubscribe h/stat/new/+\n"},
		{"h/tele/new/POWER_LOW", "ON", "new online sensor{POWER_LOW=ON}\n"},
		{"h/cmnd/new/POWER", "ON", "! topic is not one of the profile"},
		{"tasmota/discovery/AA/config", ``, "new offline\n"},
		{"h/tele/new/SENSOR", `{"A":{"x":1}}`, "! topic is not one of the profile"},
	}
	for _, s := range steps {
		if got := show(p.Handle(message(s.topic, s.payload))); got != s.want {
			t.Errorf("%s %s\ngot  %q\nwant %q", s.topic, s.payload, got, s.want)
		}
	}
}

// Whatever a plug or a stranger publishes, the profile gives names and values that the device protocol allows.
func FuzzTasmota(f *testing.F) {
	f.Add("tele/plug/SENSOR", `{"Time":"2026-01-02T03:04:05","ENERGY":{"Power":[1,{"x":null}]}}`)
	f.Add("tasmota/discovery/AA/config", `{"t":"a b","ft":"x/%topic%/%prefix%/%id%","tp":["a","b","c"]}`)
	f.Add("stat/plug/RESULT", `{"POWER":"ON","Command":"Unknown"}`)
	f.Fuzz(func(t *testing.T, topic, payload string) {
		p := tasmota(t)
		for range 2 { // the second time the device may be known
			result, err := p.Handle(message(topic, payload))
			var drop *fleets.Drop
			if err != nil && !errors.Is(err, fleets.ErrNotMine) && !errors.As(err, &drop) {
				t.Fatalf("error without a reason: %v", err)
			}
			for _, u := range result.Updates {
				if err := wire.CheckID(wire.CleanID(u.Device)); err != nil {
					t.Error(err)
				}
				for _, point := range u.Points {
					if m := string(point.Measurement); fleets.CleanName(m) != m || len(point.Fields) == 0 {
						t.Errorf("point %q with %d fields", m, len(point.Fields))
					}
				}
				if _, err := p.Command(u.Device, wire.Command{ID: "c", Name: payload}, now); err == nil && strings.ContainsAny(payload, "/+#") {
					t.Errorf("command %q was taken", payload)
				}
			}
			for _, s := range result.Subscribe {
				if strings.HasPrefix(s, "$") || strings.HasPrefix(s, "+") || strings.HasPrefix(s, "#") || strings.Count(s, "+") != 1 {
					t.Errorf("subscribes to %q", s)
				}
			}
		}
	})
}
