package wire

import (
	"bytes"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
)

// lines reads InfluxDB's line protocol, a point a line. What InfluxDB allows and the protocol does not is refused with
// the rest of the checks, by who takes the points.
func (d *Decoder) lines(data []byte) *Reject {
	if !utf8.Valid(data) {
		return &Reject{Code: InvalidFrame, Message: "message: not valid UTF-8"}
	}
	precision, ok := precisions[d.Precision]
	if !ok {
		return &Reject{Code: InvalidFrame, Message: "message: precision is none of ns, us, ms, s"}
	}
	d.Telemetry.form = formLines
	// The decoder unescapes in place, and the message may be shown to somebody afterwards.
	d.s.scratch = append(d.s.scratch, data...)
	rest := d.s.scratch
	for i := 0; len(rest) > 0; i++ {
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte("\n"))
		text = bytes.TrimSpace(text)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		if rej := d.oneLine(text[:len(text):len(text)], i, precision); rej != nil {
			return rej
		}
	}
	return nil
}

var precisions = map[time.Duration]lineprotocol.Precision{
	0: lineprotocol.Nanosecond, time.Nanosecond: lineprotocol.Nanosecond, time.Microsecond: lineprotocol.Microsecond,
	time.Millisecond: lineprotocol.Millisecond, time.Second: lineprotocol.Second,
}

func badLine(i int, code Code, place string, what string) *Reject {
	path := under("lines["+strconv.Itoa(i)+"]", place)
	return &Reject{Code: code, Path: path, Message: path + ": " + what}
}

// syntaxFault is what the decoder found, without the number of a line that it saw alone.
func syntaxFault(i int, err error) *Reject {
	var at *lineprotocol.DecodeError
	what := err.Error()
	if errors.As(err, &at) {
		what = at.Err.Error() + " at column " + strconv.Itoa(at.Column)
	}
	return badLine(i, InvalidFrame, "", what)
}

func (d *Decoder) oneLine(text []byte, i int, precision lineprotocol.Precision) *Reject {
	dec := lineprotocol.NewDecoderWithBytes(text)
	if !dec.Next() {
		return badLine(i, InvalidFrame, "", "no point")
	}
	name, err := dec.Measurement()
	if err != nil {
		return syntaxFault(i, err)
	}
	p := d.add()
	if p == nil {
		return badLine(i, TooManyPoints, "", tooMany)
	}
	p.Measurement = name
	for {
		key, value, err := dec.NextTag()
		if err != nil {
			return syntaxFault(i, err)
		}
		if key == nil {
			break
		}
		p.Tags = append(p.Tags, Tag{key, value})
	}
	if rej := d.lineFields(dec, p, i); rej != nil {
		return rej
	}
	at, err := dec.Time(precision, time.Time{})
	if err != nil {
		return syntaxFault(i, err)
	}
	if !at.IsZero() {
		p.Time, p.HasTime = at.UnixNano(), true
	}
	if dec.Next() {
		return badLine(i, InvalidFrame, "", "more than one point")
	}
	return nil
}

func (d *Decoder) lineFields(dec *lineprotocol.Decoder, p *Point, i int) *Reject {
	for {
		key, value, err := dec.NextField()
		if err != nil {
			return syntaxFault(i, err)
		}
		if key == nil {
			return nil
		}
		f := Field{Key: key, at: int32(i)}
		switch value.Kind() {
		case lineprotocol.String:
			f.Kind, f.Value = Text, value.BytesV()
		case lineprotocol.Bool:
			f.Kind, f.Value = Bool, litFalse
			if value.BoolV() {
				f.Value = litTrue
			}
		case lineprotocol.Int:
			f.Kind, f.Value = Number, d.s.appendInt(value.IntV())
		case lineprotocol.Uint:
			f.Kind, f.Value = Number, d.s.appendUint(value.UintV())
		case lineprotocol.Float:
			f.Kind, f.Value = Number, d.s.appendFloat(value.FloatV())
		default:
			return badLine(i, InvalidField, "fields."+string(key), "is of no kind that is stored")
		}
		p.Fields = append(p.Fields, f)
	}
}

func (s *scanner) appendUint(n uint64) []byte {
	from := len(s.scratch)
	s.scratch = strconv.AppendUint(s.scratch, n, 10)
	return s.scratch[from:len(s.scratch):len(s.scratch)]
}
