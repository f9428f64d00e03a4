package wire

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// body reads seq, points, blocks, or one member of the short form's only point.
func (d *Decoder) body(key uint8) *Reject {
	switch key {
	case keySeq:
		return d.seq()
	case keyPoints:
		return d.points()
	case keyBlocks:
		return d.blocks()
	}
	if len(d.Telemetry.Points) == 0 {
		d.Telemetry.AddPoint()
		d.Telemetry.form = formShort
	}
	return d.member(&d.Telemetry.Points[0], key, -1)
}

func (d *Decoder) points() *Reject {
	s := &d.s
	if s.peek() != '[' {
		return &Reject{Code: InvalidFrame, Message: "points: must be an array", Path: "points"}
	}
	s.pos++
	for i := 0; ; i++ {
		another, ok := s.more(']', i)
		if !ok {
			return d.syntax()
		}
		if !another {
			return nil
		}
		if rej := d.point(i); rej != nil {
			return rej
		}
	}
}

func (d *Decoder) point(i int) *Reject {
	s := &d.s
	if s.peek() != '{' {
		return reject(InvalidFrame, i, "", "must be an object")
	}
	s.pos++
	p := d.add()
	if p == nil {
		return reject(TooManyPoints, i, "", tooMany)
	}
	var seen uint8
	for n := 0; ; n++ {
		another, ok := s.more('}', n)
		if !ok {
			return d.syntax()
		}
		if !another {
			break
		}
		name, ok := s.key()
		if !ok {
			return d.syntax()
		}
		key := pointKey(name)
		if key == 0 {
			if !s.skip(3) {
				return d.syntax()
			}
			continue
		}
		if seen&key != 0 {
			return reject(InvalidFrame, i, string(name), "is there twice")
		}
		seen |= key
		if rej := d.member(p, key, i); rej != nil {
			return rej
		}
	}
	if seen&keyFields == 0 {
		return reject(InvalidField, i, "fields", "is missing")
	}
	if p.Measurement == nil {
		p.Measurement = defaultMeasurement
	}
	return nil
}

func (d *Decoder) member(p *Point, key uint8, i int) *Reject {
	s := &d.s
	switch key {
	case keyMeasurement:
		if s.peek() != '"' {
			return reject(InvalidMeasurement, i, "measurement", "must be a string")
		}
		m, ok := s.str()
		if !ok {
			return d.syntax()
		}
		p.Measurement = m
		if len(m) == 0 {
			return reject(InvalidMeasurement, i, "measurement", "must not be empty")
		}
		return nil
	case keyTime:
		return d.time(p, i)
	case keyTags:
		return d.tags(p, i)
	default:
		return d.fields(p, i)
	}
}

func (d *Decoder) time(p *Point, i int) *Reject {
	s := &d.s
	p.HasTime = true
	switch c := s.peek(); {
	case c == '"':
		b, ok := s.str()
		if !ok {
			return d.syntax()
		}
		return p.setTimeText(b, i)
	case c == '-' || c-'0' <= 9:
		lit, integer, ok := s.number()
		if !ok {
			return d.syntax()
		}
		ms, ok := millis(lit)
		if !integer || !ok {
			return reject(InvalidTime, i, "time", "must be an integer (Unix milliseconds) or an RFC 3339 string")
		}
		return p.setTimeMillis(ms, i)
	default:
		return reject(InvalidTime, i, "time", "must be an integer (Unix milliseconds) or an RFC 3339 string")
	}
}

// millis reads an integer literal of up to 18 digits, which is far more than a time in milliseconds has.
func millis(lit []byte) (ms int64, ok bool) {
	negative := lit[0] == '-'
	if negative {
		lit = lit[1:]
	}
	if len(lit) > 18 {
		return 0, false
	}
	for _, c := range lit {
		ms = ms*10 + int64(c-'0')
	}
	if negative {
		ms = -ms
	}
	return ms, true
}

func (p *Point) setTimeText(b []byte, i int) *Reject {
	t, ok := readTime(b)
	if !ok || t.Year() < 1678 || t.Year() > 2261 {
		return reject(InvalidTime, i, "time", "must be RFC 3339 such as 2026-01-31T12:00:00.5Z")
	}
	p.Time, p.HasTime = t.UnixNano(), true
	return nil
}

// readTime reads RFC 3339 with up to nanoseconds: finer ones would be cut off silently. Its T and Z may be small [RFC3339 5.6].
func readTime(b []byte) (t time.Time, ok bool) {
	const (
		longest = len("2006-01-02T15:04:05.999999999-07:00")
		dayEnd  = len("2006-01-02")
		digits  = 9
	)
	if len(b) > longest {
		return t, false
	}
	if dot := bytes.IndexByte(b, '.'); dot >= 0 {
		fraction := b[dot+1:]
		if end := bytes.IndexAny(fraction, "zZ+-"); end > digits {
			return t, false
		}
	}
	var room [longest]byte
	b = room[:copy(room[:], b)]
	for i := dayEnd; i < len(b); i++ {
		if b[i] == 't' && i == dayEnd || b[i] == 'z' && i == len(b)-1 {
			b[i] -= 'a' - 'A'
		}
	}
	return t, t.UnmarshalText(b) == nil
}

func (p *Point) setTimeMillis(ms int64, i int) *Reject {
	const bound = math.MaxInt64 / int64(time.Millisecond)
	if ms > bound || ms < -bound {
		return reject(InvalidTime, i, "time", "is out of range for Unix milliseconds")
	}
	p.Time, p.HasTime = ms*int64(time.Millisecond), true
	return nil
}

func (d *Decoder) tags(p *Point, i int) *Reject {
	s := &d.s
	if s.peek() != '{' {
		return reject(InvalidTag, i, "tags", "must be an object of strings")
	}
	s.pos++
	for n := 0; ; n++ {
		another, ok := s.more('}', n)
		if !ok {
			return d.syntax()
		}
		if !another {
			return nil
		}
		key, ok := s.key()
		if !ok {
			return d.syntax()
		}
		if s.peek() != '"' {
			return reject(InvalidTag, i, "tags."+string(key), "must be a string")
		}
		value, ok := s.str()
		if !ok {
			return d.syntax()
		}
		if rej := p.addTag(key, value, i); rej != nil {
			return rej
		}
	}
}

// MaxTags is how many tags a point may have. It holds while a frame is decoded, for the rows of a block have a copy each.
const MaxTags = 8

func (p *Point) addTag(key, value []byte, i int) *Reject {
	if len(p.Tags) == MaxTags {
		return reject(InvalidTag, i, "tags", "at most 8 a point")
	}
	p.Tags = append(p.Tags, Tag{key, value})
	return nil
}

func (d *Decoder) fields(p *Point, i int) *Reject {
	s := &d.s
	if s.peek() != '{' {
		return reject(InvalidField, i, "fields", "must be an object")
	}
	s.pos++
	for n := 0; ; n++ {
		another, ok := s.more('}', n)
		if !ok {
			return d.syntax()
		}
		if !another {
			return nil
		}
		key, ok := s.key()
		if !ok {
			return d.syntax()
		}
		if rej := d.field(p, key, i); rej != nil {
			return rej
		}
	}
}

var (
	litTrue  = []byte("true")
	litFalse = []byte("false")
)

func (d *Decoder) field(p *Point, key []byte, i int) *Reject {
	s := &d.s
	switch c := s.peek(); {
	case c == '-' && s.notFinite(), c == 'N' || c == 'I':
		return reject(InvalidField, i, "fields."+string(key), "must be finite; leave the field out when there is no value")
	case c == '-' || c-'0' <= 9:
		lit, _, ok := s.number()
		if !ok {
			return d.syntax()
		}
		return d.addNumber(p, key, lit, i)
	case c == '"':
		value, ok := s.str()
		if !ok {
			return d.syntax()
		}
		p.Fields = append(p.Fields, Field{Key: key, Kind: Text, Value: value})
	case s.word("true"):
		p.Fields = append(p.Fields, Field{Key: key, Kind: Bool, Value: litTrue})
	case s.word("false"):
		p.Fields = append(p.Fields, Field{Key: key, Kind: Bool, Value: litFalse})
	case s.word("null"): // left out
	case c == '{' || c == '[':
		return reject(InvalidField, i, "fields."+string(key), "must be a number, boolean or string; flatten what is nested")
	default:
		return reject(InvalidJSON, i, "fields."+string(key), "no value")
	}
	return nil
}

func (s *scanner) notFinite() bool { return s.pos+1 < len(s.in) && s.in[s.pos+1] == 'I' }

// plainDigits is the longest literal without an exponent that is finite and short enough to store as it is written.
const plainDigits = 24

// addNumber stores the literal as written where it is plain, and in its shortest form otherwise.
func (d *Decoder) addNumber(p *Point, key, lit []byte, i int) *Reject {
	if len(lit) > plainDigits || d.s.exponent {
		v, err := strconv.ParseFloat(string(lit), 64)
		if err != nil {
			return reject(InvalidField, i, "fields."+string(key), "must be finite and fit 64-bit floating point")
		}
		lit = d.s.appendFloat(v)
	}
	p.Fields = append(p.Fields, Field{Key: key, Kind: Number, Value: lit})
	return nil
}

func (s *scanner) appendFloat(v float64) []byte {
	from := len(s.scratch)
	s.scratch = strconv.AppendFloat(s.scratch, v, 'g', -1, 64)
	return s.scratch[from:len(s.scratch):len(s.scratch)]
}
