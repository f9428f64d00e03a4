package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// line shows a decoded frame in one line, so that tables can hold what is wanted.
func line(t *wire.Telemetry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", t.Seq)
	for _, p := range t.Points {
		fmt.Fprintf(&b, " %s", p.Measurement)
		for _, g := range p.Tags {
			fmt.Fprintf(&b, ",%s=%s", g.Key, g.Value)
		}
		for _, f := range p.Fields {
			fmt.Fprintf(&b, " %s:%d=%s", f.Key, f.Kind, f.Value)
		}
		if p.HasTime {
			fmt.Fprintf(&b, " @%d", p.Time)
		}
	}
	return b.String()
}

func TestDecodeTelemetry(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"short form":     {`{"type":"telemetry","seq":1,"fields":{"temp":21.5,"door":true}}`, "1 telemetry temp:1=21.5 door:2=true"},
		"full form":      {`{"type":"telemetry","seq":18,"points":[{"measurement":"env","time":1763832000123,"tags":{"room":"b2"},"fields":{"temp":21.5,"hum":40.2}}]}`, "18 env,room=b2 temp:1=21.5 hum:1=40.2 @1763832000123000000"},
		"no seq":         {`{"type":"telemetry","fields":{"a":1}}`, "0 telemetry a:1=1"},
		"type last":      {`{"seq":3,"points":[{"fields":{"a":1}}],"type":"telemetry"}`, "3 telemetry a:1=1"},
		"short last":     {`{"time":1,"fields":{"a":1},"measurement":"m","tags":{"k":"v"},"type":"telemetry"}`, "0 m,k=v a:1=1 @1000000"},
		"null left out":  {`{"type":"telemetry","fields":{"a":null,"b":2}}`, "0 telemetry b:1=2"},
		"unknown keys":   {`{"type":"telemetry","v":{"x":[1,{"y":"\u00e9"}]},"fields":{"a":1}}`, "0 telemetry a:1=1"},
		"escapes":        {`{"type":"telemetry","fields":{"s":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}}`, "0 telemetry s:3=a\"\\/\b\f\n\r\té😀"},
		"escaped key":    {`{"type":"telemetry","\u0073eq":4,"fields":{"a":1}}`, "4 telemetry a:1=1"},
		"exponent":       {`{"type":"telemetry","fields":{"a":1e3,"b":-2.5E-7}}`, "0 telemetry a:1=1000 b:1=-2.5e-07"},
		"long literal":   {`{"type":"telemetry","fields":{"a":0.1000000000000000055511151231257827}}`, "0 telemetry a:1=0.1"},
		"RFC 3339":       {`{"type":"telemetry","fields":{"a":1},"time":"2026-01-31T12:00:00.123456789Z"}`, "0 telemetry a:1=1 @1769860800123456789"},
		"small T and Z":  {`{"type":"telemetry","fields":{"a":1},"time":"2026-01-31t12:00:00.123456789z"}`, "0 telemetry a:1=1 @1769860800123456789"},
		"zone":           {`{"type":"telemetry","fields":{"a":1},"time":"2026-01-31t13:00:00.123456789+01:00"}`, "0 telemetry a:1=1 @1769860800123456789"},
		"blanks":         {" {\n\"type\" :\t\"telemetry\" , \"fields\" : { \"a\" : 1 } } \r\n", "0 telemetry a:1=1"},
		"largest seq ok": {`{"type":"telemetry","seq":9223372036854775797,"fields":{"a":1}}`, "9223372036854775797 telemetry a:1=1"},
	} {
		t.Run(name, func(t *testing.T) {
			var d wire.Decoder
			f, err := d.Decode(wire.JSON, []byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := line(f.(*wire.Telemetry)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	deep := strings.Repeat("[", 10_000)
	for name, c := range map[string]struct {
		in   string
		code wire.Code
		path string
		seq  uint64
	}{
		"empty":              {``, wire.InvalidJSON, "", 0},
		"a word":             {`hello`, wire.InvalidJSON, "", 0},
		"cut array":          {`[1,`, wire.InvalidJSON, "", 0},
		"two numbers":        {`1 2`, wire.InvalidJSON, "", 0},
		"a number":           {`12`, wire.InvalidFrame, "", 0},
		"a string":           {`"hello"`, wire.InvalidFrame, "", 0},
		"null":               {`null`, wire.InvalidFrame, "", 0},
		"not JSON":           {`{"type"`, wire.InvalidJSON, "", 0},
		"two values":         {`{"type":"hello"}{}`, wire.InvalidJSON, "", 0},
		"array":              {`[]`, wire.InvalidFrame, "", 0},
		"no type":            {`{"seq":5}`, wire.InvalidFrame, "type", 5},
		"type number":        {`{"type":7}`, wire.InvalidFrame, "type", 0},
		"NaN":                {`{"type":"telemetry","seq":17,"points":[{"fields":{"temp":NaN}}]}`, wire.InvalidField, "points[0].fields.temp", 17},
		"infinity":           {`{"type":"telemetry","seq":17,"fields":{"temp":-Infinity}}`, wire.InvalidField, "fields.temp", 17},
		"1e400":              {`{"type":"telemetry","seq":17,"fields":{"temp":1e400}}`, wire.InvalidField, "fields.temp", 17},
		"nested field":       {`{"type":"telemetry","seq":2,"fields":{"a":{"b":1}}}`, wire.InvalidField, "fields.a", 2},
		"no points":          {`{"type":"telemetry","seq":2,"points":[]}`, wire.InvalidFrame, "points", 2},
		"no fields":          {`{"type":"telemetry","seq":2,"points":[{"time":1}]}`, wire.InvalidField, "points[0].fields", 2},
		"second point":       {`{"type":"telemetry","seq":2,"points":[{"fields":{"a":1}},{"fields":[]}]}`, wire.InvalidField, "points[1].fields", 2},
		"both forms":         {`{"type":"telemetry","seq":2,"points":[{"fields":{"a":1}}],"fields":{"a":1}}`, wire.InvalidFrame, "points", 2},
		"seq zero":           {`{"type":"telemetry","seq":0,"fields":{"a":1}}`, wire.InvalidFrame, "seq", 0},
		"seq negative":       {`{"type":"telemetry","seq":-1,"fields":{"a":1}}`, wire.InvalidFrame, "seq", 0},
		"seq fraction":       {`{"type":"telemetry","seq":1.5,"fields":{"a":1}}`, wire.InvalidFrame, "seq", 0},
		"seq string":         {`{"type":"telemetry","seq":"1","fields":{"a":1}}`, wire.InvalidFrame, "seq", 0},
		"bad seq before":     {`{"seq":0,"fields":{"a":1},"type":"telemetry"}`, wire.InvalidFrame, "seq", 0},
		"seq of a cut frame": {`{"seq":4,"fields":{`, wire.InvalidJSON, "", 4},
		"seq of a hello":     {`{"seq":4,"type":"hello","firmware":1}`, wire.InvalidFrame, "firmware", 0},
		"seq huge":           {`{"type":"telemetry","seq":99999999999999999999,"fields":{"a":1}}`, wire.InvalidFrame, "seq", 0},
		"seq twice":          {`{"type":"telemetry","seq":1,"seq":2,"fields":{"a":1}}`, wire.InvalidFrame, "seq", 1},
		"time float":         {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":1.5}`, wire.InvalidTime, "time", 1},
		"time text":          {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":"yesterday"}`, wire.InvalidTime, "time", 1},
		"time too far":       {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":9999999999999999}`, wire.InvalidTime, "time", 1},
		"time year 9999":     {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":"9999-01-01T00:00:00Z"}`, wire.InvalidTime, "time", 1},
		"time finer":         {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":"2026-01-31T12:00:00.1234567891Z"}`, wire.InvalidTime, "time", 1},
		"time finer, zone":   {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":"2026-01-31T12:00:00.1234567890-01:00"}`, wire.InvalidTime, "time", 1},
		"time ends twice":    {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":"2026-01-31t12:00:00.5zz"}`, wire.InvalidTime, "time", 1},
		"time leap second":   {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":"2016-12-31T23:59:60Z"}`, wire.InvalidTime, "time", 1},
		"time null":          {`{"type":"telemetry","seq":1,"fields":{"a":1},"time":null}`, wire.InvalidTime, "time", 1},
		"tag number":         {`{"type":"telemetry","seq":1,"fields":{"a":1},"tags":{"k":1}}`, wire.InvalidTag, "tags.k", 1},
		"measurement number": {`{"type":"telemetry","seq":1,"fields":{"a":1},"measurement":1}`, wire.InvalidMeasurement, "measurement", 1},
		"measurement empty":  {`{"type":"telemetry","seq":1,"points":[{"measurement":"","fields":{"a":1}}]}`, wire.InvalidMeasurement, "points[0].measurement", 1},
		"leading zero":       {`{"type":"telemetry","seq":1,"fields":{"a":01}}`, wire.InvalidJSON, "", 1},
		"trailing comma":     {`{"type":"telemetry","seq":1,"fields":{"a":1,}}`, wire.InvalidJSON, "", 1},
		"lone surrogate":     {`{"type":"telemetry","seq":1,"fields":{"a":"\ud800"}}`, wire.InvalidJSON, "", 1},
		"control character":  {"{\"type\":\"telemetry\",\"seq\":1,\"fields\":{\"a\":\"\x01\"}}", wire.InvalidJSON, "", 1},
		"bad UTF-8":          {"{\"type\":\"telemetry\",\"fields\":{\"a\":\"\xff\"}}", wire.InvalidJSON, "", 0},
		"deep":               {`{"type":"telemetry","x":` + deep, wire.InvalidJSON, "", 0},
		"answer without id":  {`{"type":"result","ok":true}`, wire.InvalidFrame, "id", 0},
		"hello shape":        {`{"type":"hello","firmware":1}`, wire.InvalidFrame, "firmware", 0},
		"hello's commands":   {`{"type":"hello","commands":[{"name":"a"},{"name":3}]}`, wire.InvalidFrame, "commands[1].name", 0},
		"answer twice":       {`{"type":"result","id":"c","ok":false,"ok":true}`, wire.InvalidFrame, "ok", 0},
		"progress":           {`{"type":"progress","id":"c","percent":1e400}`, wire.InvalidFrame, "percent", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var d wire.Decoder
			f, err := d.Decode(wire.JSON, []byte(c.in))
			var rej *wire.Reject
			if !errors.As(err, &rej) {
				t.Fatalf("got %v, %v; want a reject", f, err)
			}
			if rej.Code != c.code || rej.Path != c.path || rej.Seq != c.seq {
				t.Errorf("got %s %q seq %d (%s)\nwant %s %q seq %d", rej.Code, rej.Path, rej.Seq, rej.Message, c.code, c.path, c.seq)
			}
		})
	}
}

func TestDecodeOtherFrames(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"accept","id":"x"}`: `{"type":"accept","id":"x","ok":false}`,
		`{"type":"result","id":"x","ok":false,"error":{"code":"unknown_command","message":"m"}}`: `{"type":"result","id":"x","ok":false,"error":{"code":"unknown_command","message":"m"}}`,
		`{"type":"state","reported":{"a":null},"version":7}`:                                     `{"reported":{"a":null},"version":7}`,
		`{"type":"token","token":"t"}`:                                                           `{"token":"t"}`,
		`{"type":"hello","firmware":"1","commands":[{"name":"n","params":{"type":"object"}}]}`:   `{"firmware":"1","commands":[{"name":"n","params":{"type":"object"}}]}`,
	} {
		for _, c := range []wire.Codec{wire.JSON, wire.CBOR} {
			data := []byte(in)
			if c == wire.CBOR {
				var v any
				if err := json.Unmarshal(data, &v); err != nil {
					t.Fatal(err)
				}
				data, _ = cbor.Marshal(v)
			}
			var d wire.Decoder
			f, err := d.Decode(c, data)
			if err != nil {
				t.Fatalf("%s: %v", in, err)
			}
			got, _ := json.Marshal(f)
			if string(got) != want {
				t.Errorf("codec %d: got %s, want %s", c, got, want)
			}
		}
	}
}

// A type of a later version may have keys that telemetry has, of other kinds.
func TestUnknownTypes(t *testing.T) {
	for _, in := range []string{
		`{"type":"later","seq":1}`, `{"type":"later","seq":"x"}`, `{"seq":0,"type":"later"}`, `{"seq":{"a":1},"fields":3,"points":null,"type":"later"}`,
	} {
		for c, data := range map[wire.Codec][]byte{wire.JSON: []byte(in), wire.CBOR: asCBOR(t, in)} {
			var d wire.Decoder
			var unknown *wire.UnknownType
			if f, err := d.Decode(c, data); !errors.As(err, &unknown) || unknown.Type != "later" {
				t.Errorf("codec %d, %s: %v, %v", c, in, f, err)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	in := &wire.Telemetry{Seq: 9, Points: []wire.Point{{
		Measurement: []byte("env"), Time: 1763832000123456789, HasTime: true,
		Tags:   []wire.Tag{{Key: []byte("room"), Value: []byte("b\"2\n")}},
		Fields: []wire.Field{wire.NewNumber("t", -1.25e-9), wire.NewBool("b", false), wire.NewText("s", "a\\\"é")},
	}}}
	for _, c := range []wire.Codec{wire.JSON, wire.CBOR} {
		b, err := wire.Append(nil, c, in)
		if err != nil {
			t.Fatal(err)
		}
		var d wire.Decoder
		f, err := d.Decode(c, b)
		if err != nil {
			t.Fatal(err)
		}
		got := f.(*wire.Telemetry)
		if got.Seq != in.Seq || fields(got.Points[0]) != fields(in.Points[0]) {
			t.Errorf("codec %d: got %s, want %s", c, line(got), line(in))
		}
	}
	hub := []any{
		&wire.Welcome{Session: "s", Device: "d", Time: 1, HeartbeatS: 30, Limits: wire.Limits{FrameBytes: 1}},
		&wire.Ack{Seq: 1 << 40}, &wire.Ack{ID: "x"}, &wire.Reject{Seq: 3, Code: wire.InvalidField, Message: "m", Path: "p"},
		&wire.Command{ID: "x", Name: "n", Params: json.RawMessage(`{"a":1.5,"b":[1,"x"]}`), Attempt: 1, Expires: 5, TimeoutMS: 6},
		&wire.Cancel{ID: "x"}, &wire.State{Desired: json.RawMessage(`{"a":1}`), Version: 7}, &wire.Token{Expires: 8},
		&wire.Error{Code: "c", Message: "m"}, &wire.Bye{Code: 1012, Reason: "draining", RetryAfterMS: 5},
	}
	for _, frame := range hub {
		for _, c := range []wire.Codec{wire.JSON, wire.CBOR} {
			b, err := wire.Append(nil, c, frame)
			if err != nil {
				t.Fatal(err)
			}
			back, err := wire.DecodeHub(c, b)
			if err != nil {
				t.Fatalf("%T: %v", frame, err)
			}
			got, _ := json.Marshal(back)
			want, _ := json.Marshal(frame)
			if string(got) != string(want) {
				t.Errorf("%T codec %d: got %s, want %s", frame, c, got, want)
			}
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	js := []byte(`{"type":"telemetry","seq":18,"points":[{"measurement":"env","time":1763832000123,"tags":{"room":"b2"},"fields":{"temp":21.5,"hum":40.2,"s":"a\nb"}}]}`)
	for _, c := range []wire.Codec{wire.JSON, wire.CBOR} {
		data := js
		if c == wire.CBOR {
			var v any
			_ = json.Unmarshal(js, &v)
			data, _ = cbor.Marshal(v)
		}
		var d wire.Decoder
		decode := func() {
			if _, err := d.Decode(c, data); err != nil {
				t.Fatal(err)
			}
		}
		decode()
		limit := 0.0
		if c == wire.CBOR {
			limit = 1 // the name of the type
		}
		if n := testing.AllocsPerRun(100, decode); n > limit {
			t.Errorf("codec %d: %v allocations a frame", c, n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"type":"telemetry","seq":18,"points":[{"measurement":"env","time":1763832000123,"tags":{"room":"b2"},"fields":{"temp":21.5,"hum":40.2}}]}`), false)
	f.Add([]byte(`{"seq":3,"fields":{"a":"\ud83d\ude00"},"type":"telemetry"}`), false)
	f.Add([]byte{0xa2, 0x64, 't', 'y', 'p', 'e', 0x69, 't', 'e', 'l', 'e', 'm', 'e', 't', 'r', 'y', 0x66, 'f', 'i', 'e', 'l', 'd', 's', 0xbf, 0x61, 'a', 0xf9, 0x3c, 0, 0xff}, true)
	f.Fuzz(func(t *testing.T, data []byte, bin bool) {
		var d wire.Decoder
		c := wire.JSON
		if bin {
			c = wire.CBOR
		}
		frame, err := d.Decode(c, data)
		if err != nil {
			return
		}
		if !bin && !json.Valid(data) {
			t.Fatalf("accepted what is not JSON: %q", data)
		}
		got, ok := frame.(*wire.Telemetry)
		if !ok {
			return
		}
		// What was accepted survives being sent on.
		before := line(got)
		b, err := wire.Append(nil, c, got)
		if err != nil {
			t.Fatal(err)
		}
		var again wire.Decoder
		f2, err := again.Decode(c, b)
		if err != nil {
			t.Fatalf("%q -> %q: %v", data, b, err)
		}
		if c == wire.JSON && line(f2.(*wire.Telemetry)) != before {
			t.Fatalf("%s\n%s", line(f2.(*wire.Telemetry)), before)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	data := []byte(`{"type":"telemetry","seq":18,"points":[{"measurement":"env","time":1763832000123,"tags":{"room":"b2"},"fields":{"temp":21.5,"hum":40.2,"co2":612.25,"p":1013.25,"door":true}}]}`)
	var d wire.Decoder
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(wire.JSON, data); err != nil {
			b.Fatal(err)
		}
	}
}
