package wire

import (
	"errors"
	"math"
	"time"
	"unicode/utf8"

	"github.com/fairlead-hub/fairlead/internal/strictjson"
)

// Frame is one decoded frame of a device: *Telemetry, *Hello, *Answer, *StateReport or *TokenRenewal.
type Frame any

// Decoder decodes frames of devices. A *Telemetry that it returns is its own and valid until the next Decode; it is
// decoded without allocating once the decoder has seen a frame of that size. The zero value is ready; one Decoder
// serves one goroutine.
type Decoder struct {
	Telemetry Telemetry

	// What a message does not say and its reader knows; set before Decode.

	MaxPoints int              // bounds the points of a message; 0: as many as any hub may allow
	Type      string           // of a frame without type, whose seq is not looked at; "": there must be one
	Number    uint64           // the seq of a message that cannot carry one [Codec.Numbered]
	Device    string           // whose id the names of SenML records may begin with
	Precision time.Duration    // of the times of line protocol; 0: nanoseconds
	Now       func() time.Time // what SenML's relative times count from; nil: the system's clock

	head  head
	senml senml
	s     scanner
	c     cborScanner
}

// defaultMeasurement names the points of a device that names none.
var defaultMeasurement = []byte("telemetry")

// Keys of an envelope and of a point, as bits of seen.
const (
	keyType = 1 << iota
	keySeq
	keyPoints
	keyMeasurement
	keyTime
	keyTags
	keyFields
	keyBlocks

	keyShort = keyMeasurement | keyTime | keyTags | keyFields
)

// Decode reads one frame. It fails with a *Reject, whose Seq is set if the frame told it, or an *UnknownType.
func (d *Decoder) Decode(c Codec, data []byte) (Frame, error) {
	d.Telemetry.Reset()
	d.s = scanner{in: data, scratch: d.s.scratch[:0]}
	if c == CBOR {
		return d.decodeCBOR(data)
	}
	if c.Numbered(data) {
		return d.payload(c, data)
	}
	if !utf8.Valid(data) {
		return nil, &Reject{Code: InvalidJSON, Message: "frame: not valid UTF-8"}
	}
	kind, rej := d.envelope()
	if rej != nil {
		if rej.Seq = d.Telemetry.Seq; c != JSON {
			rej.Seq = 0 // no telemetry here, so no seq that counts
		}
		return nil, rej
	}
	if kind == "telemetry" && c != JSON {
		return nil, &Reject{Code: InvalidFrame, Message: "frame: telemetry is sent as the subprotocol says, not as a frame", Path: "type"}
	}
	if kind == "telemetry" {
		if len(d.Telemetry.Points) == 0 {
			return nil, &Reject{Seq: d.Telemetry.Seq, Code: InvalidFrame, Message: "frame: no points; send fields, points or blocks", Path: "points"}
		}
		return &d.Telemetry, nil
	}
	f, err := frameOf(kind)
	if err != nil {
		return nil, err
	}
	return decodeOther(kind, f, data)
}

// syntax is the reject for what is not JSON.
func (d *Decoder) syntax() *Reject {
	return &Reject{Code: InvalidJSON, Message: "frame: " + d.s.why}
}

// other is the reject for a text that does not begin as it must: it may be other JSON, or none at all.
func (d *Decoder) other(message string) *Reject {
	if s := &d.s; !s.skip(0) {
		return d.syntax()
	} else if s.peek() != 0 || s.pos < len(s.in) {
		return &Reject{Code: InvalidJSON, Message: "frame: more than one value"}
	}
	return &Reject{Code: InvalidFrame, Message: message}
}

// envelope reads the outer object. Points are read on the way if the type is already known to be telemetry, which
// every known encoder writes first; else in a second step.
func (d *Decoder) envelope() (kind string, rej *Reject) {
	s := &d.s
	if s.peek() != '{' {
		return "", d.other("frame: want an object with type")
	}
	s.pos++
	var seen uint8
	var later deferred
	for n := 0; ; n++ {
		another, ok := s.more('}', n)
		if !ok {
			return "", d.syntax()
		}
		if !another {
			break
		}
		name, ok := s.key()
		if !ok {
			return "", d.syntax()
		}
		key := envelopeKey(name)
		if key != 0 && seen&key != 0 {
			return "", &Reject{Code: InvalidFrame, Message: "frame: " + string(name) + " is there twice", Path: string(name)}
		}
		seen |= key
		if kind, rej = d.envelopeMember(kind, key, &later); rej != nil {
			return "", rej
		}
	}
	if s.peek() != 0 || s.pos < len(s.in) {
		return "", &Reject{Code: InvalidJSON, Message: "frame: more than one value"}
	}
	if kind == "" {
		kind = d.Type
	}
	if kind == "" {
		return "", &Reject{Code: InvalidFrame, Message: "frame: type is missing", Path: "type"}
	}
	if kind != "telemetry" {
		return kind, nil
	}
	for _, m := range later.members[:later.n] {
		s.pos = m.pos
		if rej = d.body(m.key); rej != nil {
			return "", rej
		}
	}
	return kind, d.shape(seen)
}

// deferred are the members that came before the type, and where: each key of a body at most once.
type deferred struct {
	members [7]struct {
		key uint8
		pos int
	}
	n int
}

func (l *deferred) add(key uint8, pos int) {
	l.members[l.n].key, l.members[l.n].pos = key, pos
	l.n++
}

// envelopeMember reads one member of the outer object, or puts it off until the type is known.
func (d *Decoder) envelopeMember(kind string, key uint8, later *deferred) (string, *Reject) {
	switch {
	case key == keyType:
		kind, rej := d.frameType()
		if kind != "telemetry" {
			d.Telemetry.Seq = 0 // other frames have no seq; what they call so is a key that is not known
		}
		return kind, rej
	case key == keySeq && d.Type != "": // left out below
	case key >= keySeq && kind == "telemetry":
		return kind, d.body(key)
	case key == keySeq && kind == "":
		// A reject should name it even if the type never comes. If it is none, the type tells whether that matters.
		at := d.s.pos
		if d.seq() == nil {
			return kind, nil
		}
		d.s.pos = at
		later.add(key, at)
	case key > keySeq:
		later.add(key, d.s.pos)
	}
	if !d.s.skip(1) {
		return "", d.syntax()
	}
	return kind, nil
}

// shape checks that the frame is of the short or the full form.
func (d *Decoder) shape(seen uint8) *Reject {
	if seen&keyShort != 0 {
		if rej := onlyShort(seen); rej != nil {
			return rej
		}
		if seen&keyFields == 0 {
			return &Reject{Code: InvalidFrame, Message: "frame: fields is missing", Path: "fields"}
		}
		if p := &d.Telemetry.Points[0]; p.Measurement == nil {
			p.Measurement = defaultMeasurement
		}
	}
	return nil
}

// onlyShort refuses a frame of the short form that holds another one too.
func onlyShort(seen uint8) *Reject {
	name := "points"
	switch {
	case seen&keyPoints != 0:
	case seen&keyBlocks != 0:
		name = "blocks"
	default:
		return nil
	}
	return &Reject{Code: InvalidFrame, Message: "frame: " + name + " and fields at once; send one of them", Path: name}
}

func envelopeKey(name []byte) uint8 {
	switch string(name) {
	case "type":
		return keyType
	case "seq":
		return keySeq
	case "points":
		return keyPoints
	case "blocks":
		return keyBlocks
	}
	return pointKey(name)
}

func pointKey(name []byte) uint8 {
	switch string(name) {
	case "measurement":
		return keyMeasurement
	case "time":
		return keyTime
	case "tags":
		return keyTags
	case "fields":
		return keyFields
	}
	return 0
}

func (d *Decoder) frameType() (string, *Reject) {
	if d.s.peek() != '"' {
		return "", &Reject{Code: InvalidFrame, Message: "frame: type must be a string", Path: "type"}
	}
	b, ok := d.s.str()
	if !ok {
		return "", d.syntax()
	}
	if string(b) == "telemetry" {
		return "telemetry", nil
	}
	return string(b), nil
}

func (d *Decoder) seq() *Reject {
	if c := d.s.peek(); c != '-' && c-'0' > 9 {
		return &Reject{Code: InvalidFrame, Message: "frame: seq must be an integer >= 1", Path: "seq"}
	}
	lit, integer, ok := d.s.number()
	if !ok {
		return d.syntax()
	}
	var n uint64
	for _, c := range lit {
		if !integer || c == '-' || n > (math.MaxInt64-9)/10 {
			n = 0
			break
		}
		n = n*10 + uint64(c-'0')
	}
	if n == 0 {
		return &Reject{Code: InvalidFrame, Message: "frame: seq must be an integer from 1 to 9223372036854775797", Path: "seq"}
	}
	d.Telemetry.Seq = n
	return nil
}

// frameOf returns an empty frame of a type that is not telemetry.
func frameOf(kind string) (Frame, error) {
	switch kind {
	case "hello":
		return new(Hello), nil
	case "accept", "progress", "result":
		return new(Answer), nil
	case "state":
		return new(StateReport), nil
	case "token":
		return new(TokenRenewal), nil
	}
	return nil, &UnknownType{Type: kind[:min(len(kind), 64)]}
}

// decodeOther reads a frame that is not telemetry into f; its syntax is already checked.
func decodeOther(kind string, f Frame, data []byte) (Frame, error) {
	if err := strictjson.DecodeOpen(data, f); err != nil {
		rej := &Reject{Code: InvalidFrame, Message: kind + " frame: " + err.Error()}
		if fault := (*strictjson.Fault)(nil); errors.As(err, &fault) {
			rej.Path = fault.Path
		}
		return nil, rej
	}
	if a, ok := f.(*Answer); ok && a.ID == "" {
		return nil, &Reject{Code: InvalidFrame, Message: kind + " frame: id is missing", Path: "id"}
	}
	return f, nil
}
