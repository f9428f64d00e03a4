package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// The major types of CBOR [RFC8949 3.1].
const (
	cborUint   = 0
	cborNegint = 1
	cborBytes  = 2
	cborText   = 3
	cborArray  = 4
	cborMap    = 5
	cborTag    = 6
	cborSimple = 7
)

// indefinite is the argument of a head whose length is not told; cborBreak ends it.
const (
	indefinite = math.MaxUint64
	cborBreak  = 0xff
)

// cborScanner reads CBOR [RFC8949] without allocating. After an error why says what was found.
type cborScanner struct {
	in  []byte
	pos int
	why string
}

func (c *cborScanner) fail(why string) bool {
	if c.why == "" {
		c.why = why + " at byte " + strconv.Itoa(c.pos)
	}
	return false
}

// major returns the major type of the next item, or 8 at the end.
func (c *cborScanner) major() byte {
	if c.pos >= len(c.in) {
		return 8
	}
	return c.in[c.pos] >> 5
}

// head reads the head of an item: its major type, additional information and argument.
func (c *cborScanner) head() (major, info byte, arg uint64, ok bool) {
	if c.pos >= len(c.in) {
		return 0, 0, 0, c.fail("item missing")
	}
	b := c.in[c.pos]
	major, info = b>>5, b&31
	c.pos++
	switch {
	case info < 24:
		return major, info, uint64(info), true
	case info <= 27:
		n := 1 << (info - 24)
		if len(c.in)-c.pos < n {
			return 0, 0, 0, c.fail("item cut short")
		}
		var buf [8]byte
		copy(buf[8-n:], c.in[c.pos:c.pos+n])
		c.pos += n
		return major, info, binary.BigEndian.Uint64(buf[:]), true
	case info == 31 && (major == cborArray || major == cborMap):
		return major, info, indefinite, true
	default:
		return 0, 0, 0, c.fail("unsupported item")
	}
}

// text reads a text string of definite length.
func (c *cborScanner) text() ([]byte, bool) {
	major, _, n, ok := c.head()
	if !ok {
		return nil, false
	}
	if major != cborText {
		return nil, c.fail("want a text string")
	}
	if uint64(len(c.in)-c.pos) < n {
		return nil, c.fail("string cut short")
	}
	b := c.in[c.pos : c.pos+int(n)]
	c.pos += int(n)
	if !utf8.Valid(b) {
		return nil, c.fail("string is not valid UTF-8")
	}
	return b, true
}

// more reports whether another member follows in a collection of n members (or indefinite), i of them read.
func (c *cborScanner) more(n, i uint64) bool {
	if n != indefinite {
		return i < n
	}
	if c.pos < len(c.in) && c.in[c.pos] == cborBreak {
		c.pos++
		return false
	}
	return true
}

// skip reads any item.
func (c *cborScanner) skip(depth int) bool {
	if depth > maxDepth {
		return c.fail("nested deeper than " + strconv.Itoa(maxDepth))
	}
	major, _, n, ok := c.head()
	if !ok {
		return false
	}
	switch major {
	case cborBytes, cborText:
		if uint64(len(c.in)-c.pos) < n {
			return c.fail("string cut short")
		}
		if major == cborText && !utf8.Valid(c.in[c.pos:c.pos+int(n)]) {
			return c.fail("string is not valid UTF-8")
		}
		c.pos += int(n)
	case cborArray, cborMap:
		for i := uint64(0); c.more(n, i); i++ {
			if major == cborMap && !c.skip(depth+1) || !c.skip(depth+1) {
				return false
			}
		}
	case cborTag:
		return c.skip(depth + 1)
	}
	return true
}

func (d *Decoder) decodeCBOR(data []byte) (Frame, error) {
	d.c = cborScanner{in: data}
	kind, rej := d.cborEnvelope()
	if rej == nil && kind == "telemetry" {
		rej = d.cborTelemetry()
	}
	if rej != nil {
		rej.Seq = d.Telemetry.Seq
		return nil, rej
	}
	if kind == "telemetry" {
		return &d.Telemetry, nil
	}
	js, err := cborToJSON(data)
	if err != nil {
		return nil, &Reject{Code: InvalidFrame, Message: kind + " frame: " + err.Error()}
	}
	return decodeOther(kind, js)
}

// cborSyntax is the reject for what is not CBOR that the protocol allows.
func (d *Decoder) cborSyntax() *Reject {
	return &Reject{Code: InvalidFrame, Message: "frame: CBOR: " + d.c.why}
}

// cborEnvelope checks the whole item and finds type and seq; encoders that sort keys may put them anywhere.
func (d *Decoder) cborEnvelope() (kind string, rej *Reject) {
	c := &d.c
	major, _, n, ok := c.head()
	if !ok || major != cborMap {
		return "", &Reject{Code: InvalidFrame, Message: "frame: want a CBOR map with type"}
	}
	var seen uint8
	for i := uint64(0); c.more(n, i); i++ {
		name, ok := c.text()
		if !ok {
			return "", d.cborSyntax()
		}
		key := envelopeKey(name)
		if key != 0 && seen&key != 0 {
			return "", &Reject{Code: InvalidFrame, Message: "frame: " + string(name) + " is there twice", Path: string(name)}
		}
		seen |= key
		switch key {
		case keyType:
			b, ok := c.text()
			if !ok {
				return "", &Reject{Code: InvalidFrame, Message: "frame: type must be a string", Path: "type"}
			}
			kind = string(b)
		case keySeq:
			v, ok := c.integer()
			if !ok || v < 1 {
				return "", &Reject{Code: InvalidFrame, Message: "frame: seq must be an integer >= 1", Path: "seq"}
			}
			d.Telemetry.Seq = uint64(v)
		default:
			if !c.skip(1) {
				return "", d.cborSyntax()
			}
		}
	}
	if c.pos != len(c.in) {
		return "", &Reject{Code: InvalidFrame, Message: "frame: more than one CBOR item"}
	}
	if kind == "" {
		kind = d.Type
	}
	if kind == "" {
		return "", &Reject{Code: InvalidFrame, Message: "frame: type is missing", Path: "type"}
	}
	if kind == "telemetry" {
		if seen&(keyPoints|keyBlocks|keyFields) == 0 {
			return "", &Reject{Code: InvalidFrame, Message: "frame: no points; send fields, points or blocks", Path: "points"}
		}
		if seen&keyShort != 0 {
			if rej := onlyShort(seen); rej != nil {
				return "", rej
			}
		}
	}
	return kind, nil
}

// cborTelemetry reads the points of a frame whose syntax and envelope are checked.
func (d *Decoder) cborTelemetry() *Reject {
	c := &d.c
	c.pos = 0
	_, _, n, _ := c.head()
	for i := uint64(0); c.more(n, i); i++ {
		name, _ := c.text()
		var rej *Reject
		switch key := envelopeKey(name); key {
		case keyMeasurement, keyTime, keyTags, keyFields:
			if len(d.Telemetry.Points) == 0 {
				d.Telemetry.AddPoint().Measurement = defaultMeasurement
				d.Telemetry.form = formShort
			}
			rej = d.cborMember(&d.Telemetry.Points[0], key, -1)
		case keyPoints:
			rej = d.cborPoints()
		case keyBlocks:
			rej = d.cborBlocks()
		default:
			c.skip(1)
		}
		if rej != nil {
			return rej
		}
	}
	if len(d.Telemetry.Points) == 0 {
		return &Reject{Code: InvalidFrame, Message: "frame: no points; send fields, points or blocks", Path: "points"}
	}
	return nil
}

func (d *Decoder) cborPoints() *Reject {
	c := &d.c
	if c.major() != cborArray {
		return &Reject{Code: InvalidFrame, Message: "points: must be an array", Path: "points"}
	}
	_, _, n, _ := c.head()
	for i := uint64(0); c.more(n, i); i++ {
		if rej := d.cborPoint(int(i)); rej != nil {
			return rej
		}
	}
	return nil
}

func (d *Decoder) cborPoint(i int) *Reject {
	c := &d.c
	if c.major() != cborMap {
		return reject(InvalidFrame, i, "", "must be an object")
	}
	p := d.add()
	if p == nil {
		return reject(TooManyPoints, i, "", tooMany)
	}
	p.Measurement = defaultMeasurement
	var seen uint8
	_, _, n, _ := c.head()
	for j := uint64(0); c.more(n, j); j++ {
		name, ok := c.text()
		if !ok {
			return d.cborSyntax()
		}
		key := pointKey(name)
		if key == 0 {
			c.skip(3)
			continue
		}
		if seen&key != 0 {
			return reject(InvalidFrame, i, string(name), "is there twice")
		}
		seen |= key
		if rej := d.cborMember(p, key, i); rej != nil {
			return rej
		}
	}
	if seen&keyFields == 0 {
		return reject(InvalidField, i, "fields", "is missing")
	}
	return nil
}

func (d *Decoder) cborMember(p *Point, key uint8, i int) *Reject {
	switch key {
	case keyMeasurement:
		m, ok := d.c.text()
		if !ok || len(m) == 0 {
			return reject(InvalidMeasurement, i, "measurement", "must be a string that is not empty")
		}
		p.Measurement = m
		return nil
	case keyTime:
		return d.cborTime(p, i)
	default:
		return d.cborPairs(p, key, i)
	}
}

func (d *Decoder) cborTime(p *Point, i int) *Reject {
	if d.c.major() == cborText {
		b, _ := d.c.text()
		return p.setTimeText(b, i)
	}
	ms, ok := d.c.integer()
	if !ok {
		return reject(InvalidTime, i, "time", "must be an integer (Unix milliseconds) or an RFC 3339 string")
	}
	return p.setTimeMillis(ms, i)
}

// integer reads an integer, which encoders of languages with one number type may write as a float.
func (c *cborScanner) integer() (int64, bool) {
	major, info, v, ok := c.head()
	switch {
	case !ok || v > math.MaxInt64 && major != cborSimple:
		return 0, false
	case major == cborUint:
		return int64(v), true
	case major == cborNegint:
		return -1 - int64(v), true
	case major != cborSimple:
		return 0, false
	}
	f, ok := simpleFloat(info, v)
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// simpleFloat widens a floating-point item.
func simpleFloat(info byte, v uint64) (float64, bool) {
	switch info {
	case 25:
		return halfFloat(uint16(v)), true
	case 26:
		return float64(math.Float32frombits(uint32(v))), true
	case 27:
		return math.Float64frombits(v), true
	}
	return 0, false
}

// cborPairs reads tags or fields.
func (d *Decoder) cborPairs(p *Point, key uint8, i int) *Reject {
	c := &d.c
	if c.major() != cborMap {
		if key == keyTags {
			return reject(InvalidTag, i, "tags", "must be an object of strings")
		}
		return reject(InvalidField, i, "fields", "must be an object")
	}
	_, _, n, _ := c.head()
	for j := uint64(0); c.more(n, j); j++ {
		name, ok := c.text()
		if !ok {
			return d.cborSyntax()
		}
		if key == keyTags {
			value, ok := c.text()
			if !ok {
				return reject(InvalidTag, i, "tags."+string(name), "must be a string")
			}
			p.Tags = append(p.Tags, Tag{name, value})
			continue
		}
		if rej := d.cborField(p, name, i); rej != nil {
			return rej
		}
	}
	return nil
}

func (d *Decoder) cborField(p *Point, key []byte, i int) *Reject {
	c := &d.c
	switch c.major() {
	case cborUint, cborNegint:
		major, _, v, _ := c.head()
		f := float64(v)
		if major == cborNegint {
			f = -1 - f
		}
		lit := d.s.appendFloat(f)
		if v <= math.MaxInt64 {
			n := int64(v)
			if major == cborNegint {
				n = -1 - n
			}
			lit = d.s.appendInt(n)
		}
		p.Fields = append(p.Fields, Field{Key: key, Kind: Number, Value: lit})
		return nil
	case cborText:
		value, _ := c.text()
		p.Fields = append(p.Fields, Field{Key: key, Kind: Text, Value: value})
		return nil
	case cborSimple:
		return d.cborSimpleField(p, key, i)
	default:
		return reject(InvalidField, i, "fields."+string(key), "must be a number, boolean or string; flatten what is nested")
	}
}

func (d *Decoder) cborSimpleField(p *Point, key []byte, i int) *Reject {
	_, info, v, ok := d.c.head()
	if !ok {
		return d.cborSyntax()
	}
	switch info {
	case 20:
		p.Fields = append(p.Fields, Field{Key: key, Kind: Bool, Value: litFalse})
		return nil
	case 21:
		p.Fields = append(p.Fields, Field{Key: key, Kind: Bool, Value: litTrue})
		return nil
	case 22, 23: // null and undefined are left out
		return nil
	}
	f, ok := simpleFloat(info, v)
	if !ok {
		return reject(InvalidField, i, "fields."+string(key), "must be a number, boolean or string")
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return reject(InvalidField, i, "fields."+string(key), "must be finite; leave the field out when there is no value")
	}
	p.Fields = append(p.Fields, Field{Key: key, Kind: Number, Value: d.s.appendFloat(f)})
	return nil
}

func (s *scanner) appendInt(n int64) []byte {
	from := len(s.scratch)
	s.scratch = strconv.AppendInt(s.scratch, n, 10)
	return s.scratch[from:len(s.scratch):len(s.scratch)]
}

// halfFloat widens an IEEE 754 half-precision number [RFC8949 appendix D].
func halfFloat(h uint16) float64 {
	exp, mant := int(h>>10&0x1f), float64(h&0x3ff)
	var v float64
	switch exp {
	case 0:
		v = math.Ldexp(mant, -24)
	case 31:
		v = math.Inf(1)
		if mant != 0 {
			v = math.NaN()
		}
	default:
		v = math.Ldexp(mant+1024, exp-25)
	}
	if h&0x8000 != 0 {
		return -v
	}
	return v
}

// cborModes are how the rare frames are carried over from and to JSON, where their free-form parts live.
var cborDec = must(cbor.DecOptions{
	DefaultMapType: reflect.TypeFor[map[string]any](), MaxNestedLevels: maxDepth, DupMapKey: cbor.DupMapKeyEnforcedAPF,
}.DecMode())

var cborEnc = must(cbor.EncOptions{}.EncMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func cborToJSON(data []byte) ([]byte, error) {
	var v any
	if err := cborDec.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	js, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("CBOR without a JSON form: %w", err)
	}
	return js, nil
}

func jsonToCBOR(js []byte) ([]byte, error) {
	dec := json.NewDecoder(strings.NewReader(string(js)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return cborEnc.Marshal(cborNumbers(v))
}

// cborNumbers turns JSON numbers into integers where they are written as such, and into floats otherwise.
func cborNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k, e := range v {
			v[k] = cborNumbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = cborNumbers(e)
		}
	}
	return v
}
