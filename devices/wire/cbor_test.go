package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// asCBOR turns a frame in JSON into the same one in CBOR, with its keys in canonical order.
func asCBOR(t *testing.T, in string) []byte {
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

// A CBOR frame means what the same JSON frame means, whatever order its keys have.
func TestCBORMeansTheSame(t *testing.T) {
	for _, in := range []string{
		`{"type":"telemetry","seq":1,"fields":{"temp":21.5,"door":true,"n":7,"neg":-3,"s":"é","z":null}}`,
		`{"type":"telemetry","seq":300,"points":[{"measurement":"env","time":1763832000123,"tags":{"room":"b2"},"fields":{"t":0.1}},{"fields":{"a":1},"time":"2026-01-31T12:00:00.5Z"}]}`,
		`{"type":"telemetry","x":{"y":[1,2,{"z":"q"}]},"time":5,"measurement":"m","fields":{"a":1}}`,
	} {
		data := asCBOR(t, in)
		var dj, dc wire.Decoder
		fj, err := dj.Decode(wire.JSON, []byte(in))
		if err != nil {
			t.Fatal(err)
		}
		fc, err := dc.Decode(wire.CBOR, data)
		if err != nil {
			t.Fatal(err)
		}
		tj, tc := fj.(*wire.Telemetry), fc.(*wire.Telemetry)
		if len(tj.Points) != len(tc.Points) || tj.Seq != tc.Seq {
			t.Fatalf("json %s\ncbor %s", line(tj), line(tc))
		}
		for i := range tj.Points {
			if got, want := fields(tc.Points[i]), fields(tj.Points[i]); got != want {
				t.Errorf("cbor %s\njson %s", got, want)
			}
		}
	}
}

func fields(p wire.Point) string {
	m := map[string]string{"@": fmt.Sprint(p.HasTime, p.Time), "m": string(p.Measurement)}
	for _, f := range p.Fields {
		m[string(f.Key)] = fmt.Sprint(f.Kind, string(f.Value))
	}
	for _, g := range p.Tags {
		m["tag "+string(g.Key)] = string(g.Value)
	}
	return fmt.Sprint(m)
}

// What a frame of a later version holds need not be what this one can carry over to JSON.
func TestUnknownTypesInCBOR(t *testing.T) {
	for _, rest := range []string{"\xc0\x60", "\xf9\x7e\x00", "\xa1\x01\x02", "\x41\xff", "\xc2\x41\x01"} {
		for kind, unknown := range map[string]bool{"later": true, "hello": false} {
			data := "\xa2\x64type\x65" + kind + "\x61x" + rest
			var d wire.Decoder
			f, err := d.Decode(wire.CBOR, []byte(data))
			if errors.As(err, new(*wire.UnknownType)) != unknown {
				t.Errorf("%q: %v, %v", data, f, err)
			}
		}
	}
}

func TestCBORSeq(t *testing.T) {
	for in, want := range map[string]wire.Reject{
		`{"type":"telemetry","seq":0,"fields":{"a":1}}`:   {Code: wire.InvalidFrame, Path: "seq"},
		`{"type":"telemetry","seq":"x","fields":{"a":1}}`: {Code: wire.InvalidFrame, Path: "seq"},
		`{"type":"telemetry","seq":1.5,"fields":{"a":1}}`: {Code: wire.InvalidFrame, Path: "seq"},
		`{"type":"telemetry","seq":4,"fields":{"a":[]}}`:  {Seq: 4, Code: wire.InvalidField, Path: "fields.a"},
		`{"type":"hello","seq":4,"firmware":1}`:           {Code: wire.InvalidFrame, Path: "firmware"},
	} {
		var d wire.Decoder
		var rej *wire.Reject
		_, err := d.Decode(wire.CBOR, asCBOR(t, in))
		if !errors.As(err, &rej) || rej.Seq != want.Seq || rej.Code != want.Code || rej.Path != want.Path {
			t.Errorf("%s: %+v", in, err)
		}
	}
}

func TestCBORRefuses(t *testing.T) {
	for name, v := range map[string]any{
		"NaN":    map[string]any{"type": "telemetry", "seq": 2, "fields": map[string]any{"a": nan()}},
		"bytes":  map[string]any{"type": "telemetry", "seq": 2, "fields": map[string]any{"a": []byte{1}}},
		"nested": map[string]any{"type": "telemetry", "seq": 2, "points": []any{map[string]any{"fields": map[string]any{"a": []int{1}}}}},
	} {
		data, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var d wire.Decoder
		var rej *wire.Reject
		if _, err := d.Decode(wire.CBOR, data); !errors.As(err, &rej) || rej.Code != wire.InvalidField || rej.Seq != 2 {
			t.Errorf("%s: %v", name, err)
		}
		for i := range data {
			_, _ = d.Decode(wire.CBOR, data[:i]) // cut short anywhere: an error, never a panic
		}
	}
}

// A length of 2^64-1 is not the mark of a length that is not told: nothing of it is taken, even if a break follows.
func TestCBORLengthBeyondAll(t *testing.T) {
	frame := func(fields ...byte) []byte {
		head := []byte{0xa3, 0x64, 't', 'y', 'p', 'e', 0x69, 't', 'e', 'l', 'e', 'm', 'e', 't', 'r', 'y', 0x63, 's', 'e', 'q', 2}
		return append(append(head, 0x66, 'f', 'i', 'e', 'l', 'd', 's'), fields...)
	}
	var d wire.Decoder
	told := []byte{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x61, 'a', 1, 0xff}
	var rej *wire.Reject
	if f, err := d.Decode(wire.CBOR, frame(told...)); !errors.As(err, &rej) {
		t.Errorf("got %v, %v; want a reject", f, err)
	}
	if _, err := d.Decode(wire.CBOR, frame(0xbf, 0x61, 'a', 1, 0xff)); err != nil { // the negative control
		t.Errorf("a length that is not told: %v", err)
	}
}

// Integers reach a device that speaks CBOR as they were written, as long as CBOR has them without a tag.
func TestCBORIntegers(t *testing.T) {
	for _, n := range []string{"0", "-1", "9007199254740993", "9223372036854775808", "18446744073709551615", "-9223372036854775809", "-18446744073709551616"} {
		b, err := wire.Append(nil, wire.CBOR, &wire.Command{ID: "x", Name: "n", Params: json.RawMessage(`{"a":` + n + `}`)})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Params struct {
				A big.Int `cbor:"a"`
			} `cbor:"params"`
		}
		if err := cbor.Unmarshal(b, &got); err != nil || got.Params.A.String() != n {
			t.Errorf("%s arrived as %s, %v", n, &got.Params.A, err)
		}
		var tagged struct {
			Params struct {
				A cbor.RawTag `cbor:"a"`
			} `cbor:"params"`
		}
		if cbor.Unmarshal(b, &tagged) == nil {
			t.Errorf("%s has tag %d", n, tagged.Params.A.Number)
		}
	}
}

func nan() float64 { var zero float64; return zero / zero }
