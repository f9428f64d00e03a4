package wire

import (
	"math"
	"strconv"
)

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
	f, err := frameOf(kind)
	if err != nil {
		return nil, err // whatever else is in it
	}
	js, err := cborToJSON(data)
	if err != nil {
		return nil, &Reject{Code: InvalidFrame, Message: kind + " frame: " + err.Error()}
	}
	return decodeOther(kind, f, js)
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
	badSeq := false
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
			at := c.pos
			if v, ok := c.integer(); ok && v >= 1 {
				d.Telemetry.Seq = uint64(v)
				continue
			}
			badSeq = true // the type tells whether that matters
			if c.pos = at; !c.skip(1) {
				return "", d.cborSyntax()
			}
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
	if kind != "telemetry" || d.Type != "" {
		d.Telemetry.Seq = 0 // other frames have no seq; what they call so is a key that is not known
	} else if badSeq {
		return "", &Reject{Code: InvalidFrame, Message: "frame: seq must be an integer >= 1", Path: "seq"}
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
			if rej := p.addTag(name, value, i); rej != nil {
				return rej
			}
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
