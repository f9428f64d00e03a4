package bridge_test

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

func TestExplain(t *testing.T) {
	in := func(m configs.InMap) configs.Connection { return configs.Connection{In: []configs.InMap{m}} }
	for name, c := range map[string]struct {
		conn           configs.Connection
		topic, payload string
		want           string // lines joined by |, or the start of the reason
	}{
		"json": {
			in(configs.InMap{Topic: "{device}/{measurement}"}), "pump.7/env", `{"t":21.50,"on":true,"s":"a b","n":null,"in":{"x":[1,2]}}`,
			`env,device=pump-7 in_x_0=1,in_x_1=2,on=true,s="a b",t=21.5`,
		},
		"json with tags, field and time": {
			in(configs.InMap{Topic: "s/{tag:site}/{device}/{field}", Time: "ts", Measurement: "m"}), "s/b 2/d/meter", `{"ts":1763832000123,"kwh":5}`,
			`m,device=d,site=b\ 2 meter_kwh=5 1763832000123000000`,
		},
		"json list":           {in(configs.InMap{Topic: "{device}", Time: "at"}), "d", `[{"at":1,"v":1},{"at":2,"v":2}]`, `telemetry,device=d v=1 1000000000|telemetry,device=d v=2 2000000000`},
		"names are cleaned":   {in(configs.InMap{Topic: "{device}"}), "d", `{"a b":1,"a_b":2,"9":3,"time":4}`, `telemetry,device=d _9=3,a_b_` + fleets.Mark("a b") + `=1,a_b=2,time_=4`},
		"value number":        {in(configs.InMap{Topic: "{device}/{field}", Payload: "value"}), "d/temp", " 21.5\n", `telemetry,device=d temp=21.5`},
		"value bool":          {in(configs.InMap{Topic: "{device}", Payload: "value"}), "d", "TRUE", `telemetry,device=d value=true`},
		"value text":          {in(configs.InMap{Topic: "x/#", Device: "d", Field: "state", Payload: "value"}), "x/y/z", "0x10", `telemetry,device=d state="0x10"`},
		"value not a number":  {in(configs.InMap{Topic: "{device}", Payload: "value"}), "d", "1e999", "in[0]: invalid_value"},
		"value empty":         {in(configs.InMap{Topic: "{device}", Payload: "value"}), "d", " ", "in[0]: empty"},
		"line":                {in(configs.InMap{Topic: "{tag:site}/{device}", Payload: "line"}), "b2/d", "env,room=1 t=21.5,n=5i,b=t,s=\"x\" 1763832000123000000\nenv t=2\n", `env,device=d,site=b2,room=1 t=21.5,n=5,b=true,s="x" 1763832000123000000|env,device=d,site=b2 t=2`},
		"line broken":         {in(configs.InMap{Topic: "{device}", Payload: "line"}), "d", "env t=", "in[0]: invalid_line"},
		"too deep":            {in(configs.InMap{Topic: "{device}"}), "d", strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20), "in[0]: too_deep"},
		"too many":            {in(configs.InMap{Topic: "{device}"}), "d", `{"a":[` + strings.Repeat("1,", 64) + `1]}`, "in[0]: too_many_fields"},
		"two values":          {in(configs.InMap{Topic: "{device}"}), "d", `{} {}`, "in[0]: invalid_json"},
		"empty device level":  {in(configs.InMap{Topic: "a/{device}"}), "a/", `{"v":1}`, "in[0]: empty"},
		"another topic":       {in(configs.InMap{Topic: "a/{device}"}), "b/c", `{"v":1}`, "unmapped"},
		"wildcard in a topic": {in(configs.InMap{Topic: "a/{device}"}), "a/#", `{"v":1}`, "invalid topic"},
		"tasmota": {
			configs.Connection{Profiles: []string{"tasmota"}},
			"tele/plug/SENSOR", `{"Time":"2026-01-02T03:04:05","DS18B20":{"Temperature":20.6}}`,
			`DS18B20,device=plug Temperature=20.6 1767323045000000000`,
		},
		"tasmota's zone": {
			configs.Connection{Profiles: []string{"tasmota"}, Timezone: "Europe/Rome"},
			"tele/plug/SENSOR", `{"Time":"2026-01-02T03:04:05","DS18B20":{"Temperature":20.6}}`,
			`DS18B20,device=plug Temperature=20.6 1767319445000000000`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := bridge.Explain(c.conn, c.topic, []byte(c.payload))
			if err != nil {
				if !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("reason %q, want %q", err, c.want)
				}
				return
			}
			if got := strings.Join(list[0].Lines, "|"); got != c.want {
				t.Errorf("got\n%s, want\n%s", got, c.want)
			}
		})
	}
}

func TestCheckNamesEveryFault(t *testing.T) {
	bad := configs.Bridge{Connections: []configs.Connection{
		{Name: "one", URL: "http://x", Timezone: "Mars/Base", Profiles: []string{"zwave"}, In: []configs.InMap{
			{Topic: "a/{device}", QoS: 2},
			{Topic: "a/#/b", Device: "d"},
			{Topic: "a/b"},
			{Topic: "{device}/{device}"},
			{Topic: "x{device}"},
			{Topic: "{device}", Payload: "xml"},
			{Topic: "{device}/{tag:device}"},
		}},
		{Name: "one", URL: "tcp://user:pw@h"},
		{Name: "a/b", URL: "embedded", Out: []configs.OutMap{{Topic: "out/+"}}, Command: []configs.CmdMap{{Topic: "do/#"}}},
	}}
	var all strings.Builder
	for _, err := range bridge.Check(bad) {
		all.WriteString(err.Error() + "\n")
	}
	for _, want := range []string{
		"http://x", "timezone", "zwave", "in[0]: qos: 2", "in[1]: topic", "in[2]: device", "in[3]: topic", "in[4]: topic",
		`payload: "xml"`, "in[6]: topic", "comes twice", "put username and password", "out[0]: topic", "commands[0]: devices", "commands[0]",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no fault names %q in\n%s", want, all.String())
		}
	}
	if strings.Contains(all.String(), "pw") && strings.Contains(all.String(), ":pw@") {
		t.Errorf("a password is told:\n%s", all.String())
	}
	if errs := bridge.Check(configs.Default().Bridge); errs != nil {
		t.Errorf("the default configuration has faults: %v", errs)
	}
}

func TestLoopsAreRefused(t *testing.T) {
	at := func(name, url string, in, out string) configs.Connection {
		c := configs.Connection{Name: name, URL: url}
		if in != "" {
			c.In = []configs.InMap{{Topic: in, Device: "d"}}
		}
		if out != "" {
			c.Out = []configs.OutMap{{Topic: out}}
		}
		return c
	}
	withTasmota := func(c configs.Connection) configs.Connection {
		c.Profiles = []string{"tasmota"}
		return c
	}
	for name, c := range map[string]struct {
		conns []configs.Connection
		loop  bool
	}{
		"apart":                      {[]configs.Connection{at("a", "tcp://h", "in/#", "out/{device}")}, false},
		"everything in":              {[]configs.Connection{at("a", "tcp://h", "#", "out/{device}")}, true},
		"same prefix":                {[]configs.Connection{at("a", "tcp://h", "x/+/env", "x/{device}/{measurement}")}, true},
		"out onto a profile":         {[]configs.Connection{withTasmota(at("a", "tcp://h", "", "tele/{device}/{measurement}"))}, true},
		"in over a profile's orders": {[]configs.Connection{withTasmota(at("a", "tcp://h", "cmnd/#", ""))}, true},
		"through the same broker":    {[]configs.Connection{at("a", "tcp://h", "x/#", ""), at("b", "tcp://h", "", "x/{device}")}, true},
		"through another broker":     {[]configs.Connection{at("a", "tcp://h", "x/#", ""), at("b", "tcp://i", "", "x/{device}")}, false},
	} {
		errs := bridge.Check(configs.Bridge{Connections: c.conns})
		if (len(errs) > 0) != c.loop {
			t.Errorf("%s: %v, want loop=%v", name, errs, c.loop)
		}
	}
}

// Whatever comes in, what goes to the log keeps the device protocol's rules.
func FuzzTopicMap(f *testing.F) {
	f.Add("{device}/{measurement}", "json", "a/b", `{"x":1,"y":{"z":[true,null,"s"]}}`)
	f.Add("{tag:site}/{device}/{field}", "value", "a/b/c", "21.5")
	f.Add("#", "line", "x", "m,t=a\\ f=1,g=\"x\" 5")
	f.Add("+/{device}", "json", "//", `[{"a":"\u0000"}]`)
	f.Fuzz(func(t *testing.T, topic, payload, at, body string) {
		cfg := configs.InMap{Topic: topic, Payload: payload}
		if !strings.Contains(topic, "{device}") {
			cfg.Device = "d"
		}
		m, err := bridge.NewTopicMap(cfg)
		if err != nil || bridge.CheckTopic(at) != nil {
			return
		}
		device, points, ok, err := m.Points(fleets.Message{Topic: at, Payload: []byte(body), Received: time.Unix(1, 0)})
		var drop *fleets.Drop
		if err != nil && !errors.As(err, &drop) {
			t.Fatalf("error without a reason: %v", err)
		}
		if !ok || err != nil {
			return
		}
		if err := wire.CheckID(wire.CleanID(device)); err != nil {
			t.Error(err)
		}
		if len(points) == 0 {
			t.Error("neither points nor a reason")
		}
		for _, p := range points {
			wantPoint(t, p)
		}
	})
}

func wantPoint(t *testing.T, p wire.Point) {
	t.Helper()
	name := func(what string, b []byte) {
		if fleets.CleanName(string(b)) != string(b) {
			t.Errorf("%s %q is not allowed", what, b)
		}
	}
	name("measurement", p.Measurement)
	for _, tag := range p.Tags {
		name("tag", tag.Key)
		if len(tag.Value) > 256 || !utf8.Valid(tag.Value) || strings.HasSuffix(string(tag.Value), `\`) {
			t.Errorf("tag value %q is not allowed", tag.Value)
		}
	}
	if len(p.Fields) == 0 {
		t.Error("point without fields")
	}
	for _, f := range p.Fields {
		name("field", f.Key)
		switch f.Kind {
		case wire.Number:
			if n, err := strconv.ParseFloat(string(f.Value), 64); err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
				t.Errorf("number %q is not finite", f.Value)
			}
		case wire.Text:
			if len(f.Value) > 4096 || !utf8.Valid(f.Value) || strings.ContainsFunc(string(f.Value), func(r rune) bool { return r < ' ' }) {
				t.Errorf("text %q is not allowed", f.Value)
			}
		}
	}
}
