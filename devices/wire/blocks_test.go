package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// both decodes a JSON frame, and the CBOR frame that means the same.
func both(t *testing.T, in string, setup func(*wire.Decoder)) (frames [2]wire.Frame, errs [2]error) {
	t.Helper()
	for i, c := range []wire.Codec{wire.JSON, wire.CBOR} {
		data := []byte(in)
		if c == wire.CBOR {
			data = toCBOR(t, in)
		}
		var d wire.Decoder
		if setup != nil {
			setup(&d)
		}
		frames[i], errs[i] = d.Decode(c, data)
	}
	return frames, errs
}

func toCBOR(t testing.TB, in string) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(in), &v); err != nil {
		t.Fatal(err)
	}
	canonical, _ := cbor.CanonicalEncOptions().EncMode()
	data, err := canonical.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeBlocks(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"two columns": {
			`{"type":"telemetry","seq":4,"blocks":[{"measurement":"vib","start":1763832000000,"step_us":500,"tags":{"axis":"z"},"fields":{"x":[1,2.5,-3],"y":[4,5,6]}}]}`,
			"4 vib,axis=z x:1=1 y:1=4 @1763832000000000000 vib,axis=z x:1=2.5 y:1=5 @1763832000000500000 vib,axis=z x:1=-3 y:1=6 @1763832000001000000",
		},
		"nulls left out": {
			`{"type":"telemetry","blocks":[{"start":1000,"step_us":1000,"fields":{"x":[1,null,null,4],"y":[null,null,3,true]}}]}`,
			"0 telemetry x:1=1 @1000000000 telemetry y:1=3 @1002000000 telemetry x:1=4 y:2=true @1003000000",
		},
		"members in any order": {
			`{"type":"telemetry","blocks":[{"fields":{"s":["a","b"]},"step_us":0.001,"start":"2026-01-31T12:00:00Z","note":[1,{"x":2}]}]}`,
			"0 telemetry s:3=a @1769860800000000000 telemetry s:3=b @1769860800000000001",
		},
		"beside points, and two": {
			`{"type":"telemetry","seq":1,"points":[{"fields":{"a":1}}],"blocks":[{"start":1,"step_us":1,"fields":{"x":[1]}},{"start":2,"step_us":1,"fields":{"x":[2]}}]}`,
			"1 telemetry a:1=1 telemetry x:1=1 @1000000 telemetry x:1=2 @2000000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			frames, errs := both(t, c.in, nil)
			for i, err := range errs {
				if err != nil {
					t.Fatal(err)
				}
				got := frames[i].(*wire.Telemetry)
				if i == 0 && line(got) != c.want {
					t.Errorf("got  %s\nwant %s", line(got), c.want)
				}
				if sorted(got) != sorted(frames[0].(*wire.Telemetry)) {
					t.Errorf("CBOR\ngot  %s\nwant %s", sorted(got), sorted(frames[0].(*wire.Telemetry)))
				}
			}
		})
	}
}

// sorted shows points whatever order an encoder gave keys and a codec blocks.
func sorted(t *wire.Telemetry) string {
	all := make(map[string]int)
	for _, p := range t.Points {
		all[fields(p)]++
	}
	return fmt.Sprint(t.Seq, all)
}

func TestDecodeBlocksRefuses(t *testing.T) {
	block := func(members string) string {
		return `{"type":"telemetry","seq":7,"blocks":[{"start":1,"step_us":1,"fields":{"x":[1]}},{` + members + `}]}`
	}
	for name, c := range map[string]struct {
		in   string
		code wire.Code
		path string
	}{
		"not an array":     {`{"type":"telemetry","seq":7,"blocks":{}}`, wire.InvalidFrame, "blocks"},
		"not an object":    {`{"type":"telemetry","seq":7,"blocks":[3]}`, wire.InvalidFrame, "blocks[0]"},
		"no start":         {block(`"step_us":1,"fields":{"x":[1]}`), wire.InvalidTime, "blocks[1].start"},
		"bad start":        {block(`"start":"soon","step_us":1,"fields":{"x":[1]}`), wire.InvalidTime, "blocks[1].start"},
		"no step":          {block(`"start":1,"fields":{"x":[1]}`), wire.InvalidTime, "blocks[1].step_us"},
		"step zero":        {block(`"start":1,"step_us":0,"fields":{"x":[1]}`), wire.InvalidTime, "blocks[1].step_us"},
		"step below ns":    {block(`"start":1,"step_us":0.0005,"fields":{"x":[1]}`), wire.InvalidTime, "blocks[1].step_us"},
		"step not ns":      {block(`"start":1,"step_us":1.0005,"fields":{"x":[1]}`), wire.InvalidTime, "blocks[1].step_us"},
		"step too long":    {block(`"start":1,"step_us":86400000001,"fields":{"x":[1]}`), wire.InvalidTime, "blocks[1].step_us"},
		"step text":        {block(`"start":1,"step_us":"1","fields":{"x":[1]}`), wire.InvalidTime, "blocks[1].step_us"},
		"no fields":        {block(`"start":1,"step_us":1`), wire.InvalidField, "blocks[1].fields"},
		"fields array":     {block(`"start":1,"step_us":1,"fields":[1]`), wire.InvalidField, "blocks[1].fields"},
		"no columns":       {block(`"start":1,"step_us":1,"fields":{}`), wire.InvalidField, "blocks[1].fields"},
		"empty columns":    {block(`"start":1,"step_us":1,"fields":{"x":[]}`), wire.InvalidField, "blocks[1].fields"},
		"only nulls":       {block(`"start":1,"step_us":1,"fields":{"x":[null,null]}`), wire.InvalidField, "blocks[1].fields"},
		"column no array":  {block(`"start":1,"step_us":1,"fields":{"x":1}`), wire.InvalidField, "blocks[1].fields.x"},
		"shorter":          {block(`"start":1,"step_us":1,"fields":{"x":[1,2],"y":[1]}`), wire.InvalidField, "blocks[1].fields.y"},
		"longer":           {block(`"start":1,"step_us":1,"fields":{"x":[1,2],"y":[1,2,3]}`), wire.InvalidField, "blocks[1].fields.y"},
		"nested value":     {block(`"start":1,"step_us":1,"fields":{"x":[1,[2]]}`), wire.InvalidField, "blocks[1].fields.x[1]"},
		"tag":              {block(`"start":1,"step_us":1,"tags":{"k":1},"fields":{"x":[1]}`), wire.InvalidTag, "blocks[1].tags.k"},
		"measurement":      {block(`"measurement":"","start":1,"step_us":1,"fields":{"x":[1]}`), wire.InvalidMeasurement, "blocks[1].measurement"},
		"both forms":       {`{"type":"telemetry","seq":7,"blocks":[{"start":1,"step_us":1,"fields":{"x":[1]}}],"fields":{"a":1}}`, wire.InvalidFrame, "blocks"},
		"none":             {`{"type":"telemetry","seq":7,"blocks":[]}`, wire.InvalidFrame, "points"},
		"too many":         {block(`"start":1,"step_us":1,"fields":{"x":[1,2,3,4,5]}`), wire.TooManyPoints, "blocks[1]"},
		"too many, points": {`{"type":"telemetry","seq":7,"points":[{"fields":{"a":1}},{"fields":{"a":1}},{"fields":{"a":1}},{"fields":{"a":1}},{"fields":{"a":1}}]}`, wire.TooManyPoints, "points[4]"},
	} {
		t.Run(name, func(t *testing.T) {
			frames, errs := both(t, c.in, func(d *wire.Decoder) { d.MaxPoints = 4 })
			for i, err := range errs {
				var rej *wire.Reject
				if !errors.As(err, &rej) {
					t.Fatalf("codec %d: got %v, %v; want a reject", i, frames[i], err)
				}
				if rej.Code != c.code || rej.Path != c.path || rej.Seq != 7 || rej.Path != "" && !strings.Contains(rej.Message, ": ") {
					t.Errorf("codec %d: got %s %q seq %d (%s)\nwant %s %q", i, rej.Code, rej.Path, rej.Seq, rej.Message, c.code, c.path)
				}
			}
		})
	}
	for name, in := range map[string]string{
		"NaN":     block(`"start":1,"step_us":1,"fields":{"x":[1,NaN]}`),
		"1e400":   block(`"start":1,"step_us":1,"fields":{"x":[1,1e400]}`),
		"another": block(`"start":1,"step_us":1,"fields":{"y":[9],"x":[1]}`), // control
	} {
		var d wire.Decoder
		_, err := d.Decode(wire.JSON, []byte(in))
		var rej *wire.Reject
		if name == "another" {
			if err != nil {
				t.Error(err)
			}
		} else if !errors.As(err, &rej) || rej.Path != "blocks[1].fields.x[1]" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who takes the points names the places of a block, not of the points that it became.
func TestPlacesOfBlocks(t *testing.T) {
	var d wire.Decoder
	f, err := d.Decode(wire.JSON, []byte(`{"type":"telemetry","seq":3,"blocks":[{"start":1,"step_us":1,"tags":{"k":"v"},"fields":{"x":[null,2,3],"y":[null,null,1]}}],"points":[{"fields":{"a":1}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	tel := f.(*wire.Telemetry)
	for _, c := range []struct {
		i           int
		place, want string
	}{
		{0, "fields.x", "blocks[0].fields.x[1]"},
		{1, "fields.y", "blocks[0].fields.y[2]"},
		{1, "time", "blocks[0].start"},
		{0, "tags.k", "blocks[0].tags.k"},
		{1, "", "blocks[0]"},
		{2, "fields.a", "points[0].fields.a"},
	} {
		if rej := tel.NewReject(wire.InvalidField, c.i, c.place, "why"); rej.Path != c.want || rej.Message != c.want+": why" || rej.Seq != 3 {
			t.Errorf("%d %q: %+v, want %q", c.i, c.place, rej, c.want)
		}
	}
}

func TestBlocksDoNotAllocate(t *testing.T) {
	in := `{"type":"telemetry","seq":4,"blocks":[{"measurement":"vib","start":1763832000000,"step_us":500,"tags":{"axis":"z"},"fields":{"x":[` +
		strings.Repeat("1.25,", 499) + `2],"y":[` + strings.Repeat("-7,", 499) + `2]}}]}`
	var d wire.Decoder
	decode := func() {
		if _, err := d.Decode(wire.JSON, []byte(in)); err != nil {
			t.Fatal(err)
		}
	}
	decode()
	if n := testing.AllocsPerRun(50, decode); n > 1 { // the frame's bytes
		t.Errorf("%v allocations a frame", n)
	}
}

func FuzzBlocks(f *testing.F) {
	f.Add([]byte(`{"type":"telemetry","blocks":[{"start":1,"step_us":1,"fields":{"x":[1,null],"y":[true,"s"]}}]}`), false)
	f.Add([]byte(`{"type":"telemetry","blocks":[{"fields":{"x":[null]},"start":"2026-01-31T12:00:00Z","step_us":0.5}]}`), false)
	f.Add(toCBOR(f, `{"type":"telemetry","blocks":[{"start":1,"step_us":1,"fields":{"x":[1,null],"y":[true,"s"]}}]}`), true)
	f.Fuzz(func(t *testing.T, data []byte, bin bool) {
		c := wire.JSON
		if bin {
			c = wire.CBOR
		}
		accepted(t, wire.Decoder{MaxPoints: 50}, c, data)
	})
}

// accepted checks what must hold of every message that a decoder takes: points with fields, within the bound, that
// survive being sent on as a frame; and of every other: a reason.
func accepted(t *testing.T, d wire.Decoder, c wire.Codec, data []byte) {
	t.Helper()
	before := string(data)
	frame, err := d.Decode(c, data)
	if string(data) != before {
		t.Fatal("the message was changed")
	}
	if err != nil {
		var rej *wire.Reject
		var unknown *wire.UnknownType
		if !errors.As(err, &rej) && !errors.As(err, &unknown) || rej != nil && (rej.Message == "" || rej.Code == "") {
			t.Fatalf("refused without a reason: %v", err)
		}
		return
	}
	got, ok := frame.(*wire.Telemetry)
	if !ok {
		return
	}
	if len(got.Points) == 0 || len(got.Points) > d.MaxPoints {
		t.Fatalf("%d points", len(got.Points))
	}
	for i := range got.Points {
		_ = got.NewReject(wire.InvalidField, i, "fields.x", "why")
		if c > wire.CBOR && len(got.Points[i].Fields) == 0 {
			t.Fatalf("a point without fields: %s", line(got))
		}
	}
	want := line(got)
	b, err := wire.Append(nil, wire.JSON, got)
	if err != nil {
		t.Fatal(err)
	}
	var again wire.Decoder
	f2, err := again.Decode(wire.JSON, b)
	if err != nil {
		t.Fatalf("%q -> %q: %v", data, b, err)
	}
	if line(f2.(*wire.Telemetry)) != want {
		t.Fatalf("%s\n%s", line(f2.(*wire.Telemetry)), want)
	}
}

// The rows of a block have its tags each: a frame of 64 KiB must not become a gigabyte.
func TestBlockOfManyTags(t *testing.T) {
	tags := strings.Repeat(`"a":"",`, 8_000)
	in := `{"type":"telemetry","blocks":[{"start":1000,"step_us":1000,"tags":{` + tags[:len(tags)-1] + `},"fields":{"x":[1` + strings.Repeat(",1", 999) + `]}}]}`
	var d wire.Decoder
	var rej *wire.Reject
	if _, err := d.Decode(wire.JSON, []byte(in)); !errors.As(err, &rej) || rej.Code != wire.InvalidTag || rej.Path != "blocks[0].tags" {
		t.Errorf("JSON: %v", err)
	}
	// The same in CBOR, of two bytes a tag.
	data := toCBOR(t, `{"type":"telemetry","blocks":[{"start":1000,"step_us":1000,"fields":{"x":[1,1]},"tags":{"a":""}}]}`)
	many := append([]byte{0xbf}, strings.Repeat("\x60\x60", 20_000)...)
	data = bytes.Replace(data, []byte{0xa1, 0x61, 'a', 0x60}, append(many, 0xff), 1)
	if _, err := d.Decode(wire.CBOR, data); !errors.As(err, &rej) || rej.Code != wire.InvalidTag {
		t.Errorf("CBOR: %v", err)
	}
	if got := cap(d.Telemetry.AddPoint().Tags); got > 128 {
		t.Errorf("room for %d tags is kept", got)
	}
}
