package wire_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// noon is the hub's clock of these tests.
var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func senMLDecoder() wire.Decoder {
	return wire.Decoder{Number: 5, Device: "pump-7", Now: func() time.Time { return noon }}
}

// label turns the labels of JSON into those of CBOR.
var label = map[string]int{
	"bs": -6, "bv": -5, "bu": -4, "bt": -3, "bn": -2, "bver": -1,
	"n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8,
}

func TestDecodeSenML(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"one value":         {`[{"n":"urn:dev:ow:pump-7","u":"Cel","v":23.1}]`, "5 telemetry,unit=Cel value:1=23.1"},
		"fields":            {`[{"n":"temp","v":21.25},{"n":"door","vb":true},{"n":"mode","vs":"auto"},{"n":"blob","vd":"AQID"}]`, "5 telemetry temp:1=21.25 door:2=true mode:3=auto blob:3=AQID"},
		"base name":         {`[{"bn":"urn:dev:mac:pump-7:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]`, "5 telemetry,unit=V voltage:1=120.1 telemetry,unit=A current:1=1.2"},
		"base name is id":   {`[{"bn":"pump-7"},{"n":":temp","v":1},{"n":"/env/hum","v":2}]`, "5 telemetry temp:1=1 env hum:1=2"},
		"underscore":        {`[{"bn":"urn:dev:org:32473-pump-7:pump-7_","n":"temp","v":1}]`, "5 telemetry temp:1=1"},
		"measurement":       {`[{"bn":"env/","bt":1763832000.5,"n":"temp","v":1},{"n":"hum","v":2}]`, "5 env temp:1=1 hum:1=2 @1763832000500000000"},
		"base time and t":   {`[{"bn":"urn:dev:ow:pump-7:","bt":1.276020076001e+09,"bu":"A","n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4.25,"v":1.3}]`, "5 telemetry,unit=V voltage:1=120.1 @1276020076001000000 telemetry,unit=A current:1=1.2 @1276020071001000000 telemetry,unit=A current:1=1.3 @1276020071751000000"},
		"relative to now":   {`[{"n":"a","t":-60,"v":1},{"n":"b","t":-60,"v":2},{"n":"c","t":0,"v":3}]`, "5 telemetry a:1=1 b:1=2 @1769860740000000000 telemetry c:1=3"},
		"same name twice":   {`[{"n":"a","v":1},{"n":"a","v":2}]`, "5 telemetry a:1=1 telemetry a:1=2"},
		"nanoseconds":       {`[{"n":"a","t":1763832000.123456789,"v":1}]`, "5 telemetry a:1=1 @1763832000123456789"},
		"base value":        {`[{"bv":20,"n":"a","v":1.5},{"n":"b"},{"n":"c","vs":"x"}]`, "5 telemetry a:1=21.5 b:1=20 c:3=x"},
		"sum":               {`[{"bs":100,"n":"e","v":2,"s":5},{"n":"f","s":7},{"n":"g","v":1}]`, "5 telemetry e:1=2 e_sum:1=105 f_sum:1=107 g:1=1"},
		"base in later one": {`[{"n":"a","v":1},{"bn":"m/","bu":"W","n":"b","v":2},{"n":"c","u":"V","v":3}]`, "5 telemetry a:1=1 m,unit=W b:1=2 m,unit=V c:1=3"},
		"unknown left out":  {`[{"n":"a","v":1,"x":{"y":[1]},"ut":60,"bver":10}]`, "5 telemetry a:1=1"},
		"name beyond":       {`[{"n":"pump-7.speed","v":1}]`, "5 telemetry pump-7.speed:1=1"},
	} {
		t.Run(name, func(t *testing.T) {
			d := senMLDecoder()
			f, err := d.Decode(wire.SenML, []byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := line(f.(*wire.Telemetry)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			d = senMLDecoder()
			if f, err = d.Decode(wire.SenMLCBOR, senMLToCBOR(t, c.in)); err != nil {
				t.Fatal(err)
			}
			// A float of seconds does not hold nanoseconds.
			if got := line(f.(*wire.Telemetry)); got != c.want && name != "nanoseconds" {
				t.Errorf("CBOR\ngot  %s\nwant %s", got, c.want)
			}
		})
	}
}

// senMLToCBOR writes a pack with the labels of CBOR; vd becomes bytes.
func senMLToCBOR(t testing.TB, in string) []byte {
	t.Helper()
	var pack []map[string]any
	if err := cbor.Unmarshal(toCBOR(t, in), &pack); err != nil {
		t.Fatal(err)
	}
	out := make([]map[any]any, len(pack))
	for i, record := range pack {
		out[i] = make(map[any]any)
		for k, v := range record {
			n, known := label[k]
			switch {
			case k == "vd":
				out[i][n] = []byte{1, 2, 3}
			case known:
				out[i][n] = v
			default:
				out[i][k] = v
			}
		}
	}
	data, err := cbor.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeSenMLRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		code wire.Code
		path string
	}{
		"empty":              {``, wire.InvalidJSON, ""},
		"a word":             {`hello`, wire.InvalidJSON, ""},
		"a number":           {`12`, wire.InvalidFrame, ""},
		"empty pack":         {`[]`, wire.InvalidFrame, ""},
		"base values alone":  {`[{"bn":"a/","bt":5}]`, wire.InvalidFrame, ""},
		"not JSON":           {`[{"n":]`, wire.InvalidJSON, ""},
		"two packs":          {`[{"n":"a","v":1}][]`, wire.InvalidJSON, ""},
		"not records":        {`[1]`, wire.InvalidFrame, "[0]"},
		"no value":           {`[{"n":"a","v":1},{"n":"b"}]`, wire.InvalidField, "[1]"},
		"empty record":       {`[{}]`, wire.InvalidField, "[0].n"},
		"two values":         {`[{"n":"a","v":1,"vs":"x"}]`, wire.InvalidField, "[0].vs"},
		"no name":            {`[{"v":1}]`, wire.InvalidField, "[0].n"},
		"other device":       {`[{"n":"urn:dev:ow:pump-8","v":1}]`, wire.InvalidField, "[0].n"},
		"longer id":          {`[{"n":"urn:dev:ow:pump-77:x","v":1}]`, wire.InvalidField, "[0].n"},
		"name grammar":       {`[{"n":"a b","v":1}]`, wire.InvalidField, "[0].n"},
		"name reserved":      {`[{"n":"time","v":1}]`, wire.InvalidField, "[0].n"},
		"name of a path":     {`[{"n":"a/b/c","v":1}]`, wire.InvalidField, "[0].n"},
		"measurement":        {`[{"n":"3303/temp","v":1}]`, wire.InvalidMeasurement, "[0].n"},
		"field missing":      {`[{"n":"env/","v":1}]`, wire.InvalidField, "[0].n"},
		"name number":        {`[{"n":1,"v":1}]`, wire.InvalidField, "[0].n"},
		"value text":         {`[{"n":"a","v":"1"}]`, wire.InvalidField, "[0].v"},
		"value null":         {`[{"n":"a","v":null}]`, wire.InvalidField, "[0].v"},
		"value NaN":          {`[{"n":"a","v":NaN}]`, wire.InvalidField, "[0].v"},
		"value 1e400":        {`[{"n":"a","v":1e400}]`, wire.InvalidField, "[0].v"},
		"sum with base":      {`[{"n":"a","bv":1e308,"v":1e308}]`, wire.InvalidField, "[0].v"},
		"bool number":        {`[{"n":"a","vb":1}]`, wire.InvalidField, "[0].vb"},
		"twice":              {`[{"n":"a","v":1,"v":2}]`, wire.InvalidFrame, "[0].v"},
		"time too far":       {`[{"n":"a","v":1,"t":1e12}]`, wire.InvalidTime, "[0].t"},
		"sum of times":       {`[{"bt":4500000000,"n":"a","v":1,"t":4500000000}]`, wire.InvalidTime, "[0].t"},
		"base time text":     {`[{"bt":"now","n":"a","v":1}]`, wire.InvalidField, "[0].bt"},
		"version":            {`[{"bver":11,"n":"a","v":1}]`, wire.InvalidFrame, "[0].bver"},
		"must be understood": {`[{"n":"a","v":1,"x_":1}]`, wire.InvalidFrame, "[0].x_"},
		"too many":           {`[{"n":"a","v":1},{"n":"a","v":1},{"n":"a","v":1},{"n":"a","v":1}]`, wire.TooManyPoints, "[3]"},
		"telemetry frame":    {`{"type":"telemetry","seq":1,"fields":{"a":1}}`, wire.InvalidFrame, "type"},
	} {
		t.Run(name, func(t *testing.T) {
			d := senMLDecoder()
			d.MaxPoints = 3
			f, err := d.Decode(wire.SenML, []byte(c.in))
			var rej *wire.Reject
			if !errors.As(err, &rej) {
				t.Fatalf("got %v, %v; want a reject", f, err)
			}
			if rej.Code != c.code || rej.Path != c.path || rej.Seq != 5 && name != "telemetry frame" {
				t.Errorf("got %s %q seq %d (%s)\nwant %s %q", rej.Code, rej.Path, rej.Seq, rej.Message, c.code, c.path)
			}
		})
	}
}

// A base name is joined to the name of each record, so one of 32 KB made hundreds of megabytes of a pack.
func TestLongBaseNamesAreRefused(t *testing.T) {
	pack := func(length, records int) string {
		base := "urn:dev:" + strings.Repeat("x", length-len("urn:dev::pump-7:")) + ":pump-7:"
		return `[{"bn":"` + base + `"}` + strings.Repeat(`,{"n":"a","v":1}`, records) + "]"
	}
	for _, c := range []struct {
		in, path string
	}{
		{pack(512, 1000), ""}, // the control
		{pack(513, 1), "[0].bn"},
		{pack(32_000, 1900), "[0].bn"},
		{`[{"n":"` + strings.Repeat("x", 513) + `","v":1}]`, "[0].n"},
	} {
		for codec, in := range map[wire.Codec][]byte{wire.SenML: []byte(c.in), wire.SenMLCBOR: senMLToCBOR(t, c.in)} {
			d := senMLDecoder()
			_, err := d.Decode(codec, in)
			var rej *wire.Reject
			if errors.As(err, &rej) != (c.path != "") || rej != nil && (rej.Code != wire.InvalidField || rej.Path != c.path) {
				t.Errorf("%d bytes by codec %d: %v, want a refusal of %q", len(c.in), codec, err, c.path)
			}
		}
	}
}

func TestDecodeSenMLCBOR(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		// The pack of [RFC8428 6], made for this device.
		"bytes":            {"81a300646e616d6501614d0218 17", "5 telemetry,unit=M name:1=23"},
		"decimal fraction": {"81a200617402c4822019 010a", "5 telemetry t:1=26.6"},
		"indefinite":       {"9fbf00617402f93c00ffff", "5 telemetry t:1=1"},
		"negative labels":  {"82a321626d2f006161 0201a200616202 f5", ""},
		"half time":        {"81a3006161020106c11a00000000", ""},
		"bytes as value":   {"81a20061610241 01", ""},
		"text label of n":  {"81a2616e6161 0201", ""},
		"NaN":              {"81a200616102f97e00", ""},
		"cut short":        {"81a200", ""},
		"two items":        {"81a20061610201 81", ""},
		"huge":             {"81a20061610 21bffffffffffffffff", "5 telemetry a:1=1.8446744073709552e+19"},
		"decimal of text":  {"81a200616102c482016161", ""},
		"exponent huge":    {"81a200616102c4821a7fffffff01", ""},
	} {
		data, err := hex.DecodeString(strings.ReplaceAll(c.in, " ", ""))
		if err != nil {
			t.Fatal(name, err)
		}
		d := senMLDecoder()
		f, err := d.Decode(wire.SenMLCBOR, data)
		if err != nil {
			var rej *wire.Reject
			if c.want != "" || !errors.As(err, &rej) || rej.Seq != 5 {
				t.Errorf("%s: %v, want %s", name, err, c.want)
			}
			continue
		}
		if got := line(f.(*wire.Telemetry)); got != c.want {
			t.Errorf("%s: got %s, want %q", name, got, c.want)
		}
		for i := range data {
			_, _ = d.Decode(wire.SenMLCBOR, data[:i]) // cut short anywhere: an error, never a panic
		}
	}
}

// On the subprotocols of bare payloads all else is JSON frames.
func TestFramesBesidePayloads(t *testing.T) {
	for _, c := range []wire.Codec{wire.SenML, wire.SenMLCBOR, wire.Lines} {
		var d wire.Decoder
		in := []byte(`{"type":"result","id":"x","ok":true,"result":{"a":1}}`)
		if c.Numbered(in) {
			t.Errorf("codec %d counts a frame", c)
		}
		if f, err := d.Decode(c, in); err != nil || f.(*wire.Answer).ID != "x" {
			t.Errorf("codec %d: %v %v", c, f, err)
		}
		got, err := wire.Append(nil, c, &wire.Ack{Seq: 3})
		if err != nil || string(got) != `{"type":"ack","seq":3}` || string(wire.AppendAck(nil, c, 3)) != string(got) {
			t.Errorf("codec %d: %s %v", c, got, err)
		}
		if f, err := wire.DecodeHub(c, got); err != nil || f.(*wire.Ack).Seq != 3 {
			t.Errorf("codec %d: %v %v", c, f, err)
		}
		if back, ok := wire.CodecOf(c.Subprotocol()); !ok || back != c {
			t.Errorf("codec %d is %s is %d", c, c.Subprotocol(), back)
		}
	}
	if _, ok := wire.CodecOf("fairlead.v2.json"); ok {
		t.Error("knows fairlead.v2.json")
	}
}

func TestPlacesOfRecords(t *testing.T) {
	d := senMLDecoder()
	f, err := d.Decode(wire.SenML, []byte(`[{"n":"a","v":1},{"n":"b","v":2},{"n":"c","u":"W","v":1,"t":-3}]`))
	if err != nil {
		t.Fatal(err)
	}
	tel := f.(*wire.Telemetry)
	for _, c := range []struct {
		i           int
		place, want string
	}{{0, "fields.b", "[1]"}, {1, "tags.unit", "[2].u"}, {1, "time", "[2].t"}, {0, "measurement", "[0].n"}} {
		if rej := tel.NewReject(wire.InvalidField, c.i, c.place, "why"); rej.Path != c.want || rej.Seq != 5 {
			t.Errorf("%d %q: %+v, want %q", c.i, c.place, rej, c.want)
		}
	}
}

func FuzzSenML(f *testing.F) {
	f.Add([]byte(`[{"bn":"urn:dev:ow:pump-7:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"v":1.2}]`), false)
	f.Add([]byte(`[{"bv":20,"bs":1,"n":"m/a","v":1.5,"s":2},{"n":"b","vs":"é"},{"n":"c","vb":true},{"n":"d","vd":"AQ"}]`), false)
	f.Add([]byte{0x81, 0xa2, 0x00, 0x61, 't', 0x02, 0xc4, 0x82, 0x20, 0x19, 1, 0x0a}, true)
	f.Add([]byte{0x9f, 0xbf, 0x00, 0x61, 't', 0x02, 0xf9, 0x3c, 0, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, data []byte, bin bool) {
		c := wire.SenML
		if bin {
			c = wire.SenMLCBOR
		}
		d := senMLDecoder()
		d.MaxPoints = 50
		accepted(t, d, c, data)
	})
}
