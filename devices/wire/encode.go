package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Append appends the encoded frame to dst. frame is a pointer to any frame of either side.
func Append(dst []byte, c Codec, frame any) ([]byte, error) {
	if a, ok := frame.(*Ack); ok && a.ID == "" {
		return AppendAck(dst, c, a.Seq), nil
	}
	if c == CBOR {
		js, err := appendJSON(nil, frame)
		if err != nil {
			return dst, err
		}
		b, err := jsonToCBOR(js)
		if err != nil {
			return dst, fmt.Errorf("encode %T: %w", frame, err)
		}
		return append(dst, b...), nil
	}
	return appendJSON(dst, frame)
}

// AppendAck appends the ack of every telemetry frame up to seq. It is the hub's hottest frame and allocates nothing.
func AppendAck(dst []byte, c Codec, seq uint64) []byte {
	if c != CBOR {
		dst = append(dst, `{"type":"ack","seq":`...)
		return append(strconv.AppendUint(dst, seq, 10), '}')
	}
	dst = append(dst, 0xa2, 0x64, 't', 'y', 'p', 'e', 0x63, 'a', 'c', 'k', 0x63, 's', 'e', 'q', 0x1b)
	return append(dst, byte(seq>>56), byte(seq>>48), byte(seq>>40), byte(seq>>32), byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq))
}

// frameType names the type of a frame; "" means that the frame carries it itself.
func frameType(frame any) (string, error) {
	switch frame.(type) {
	case *Answer:
		return "", nil
	case *Hello:
		return "hello", nil
	case *StateReport, *State:
		return "state", nil
	case *TokenRenewal, *Token:
		return "token", nil
	case *Welcome:
		return "welcome", nil
	case *Ack:
		return "ack", nil
	case *Reject:
		return "reject", nil
	case *Command:
		return "command", nil
	case *Cancel:
		return "cancel", nil
	case *Error:
		return "error", nil
	case *Bye:
		return "bye", nil
	}
	return "", fmt.Errorf("encode %T: not a frame", frame)
}

func appendJSON(dst []byte, frame any) ([]byte, error) {
	if t, ok := frame.(*Telemetry); ok {
		return appendTelemetry(dst, t), nil
	}
	kind, err := frameType(frame)
	if err != nil {
		return dst, err
	}
	js, err := json.Marshal(frame)
	if err != nil {
		return dst, fmt.Errorf("encode %T: %w", frame, err)
	}
	if kind == "" {
		return append(dst, js...), nil
	}
	dst = append(append(append(dst, `{"type":"`...), kind...), '"')
	if len(js) > len("{}") {
		dst = append(dst, ',')
	}
	return append(dst, js[1:]...), nil
}

func appendTelemetry(dst []byte, t *Telemetry) []byte {
	dst = append(dst, `{"type":"telemetry"`...)
	if t.Seq != 0 {
		dst = strconv.AppendUint(append(dst, `,"seq":`...), t.Seq, 10)
	}
	dst = append(dst, `,"points":[`...)
	for i := range t.Points {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = t.Points[i].appendJSON(dst)
	}
	return append(dst, ']', '}')
}

func (p *Point) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	if len(p.Measurement) > 0 {
		dst = append(appendString(append(dst, `"measurement":`...), p.Measurement), ',')
	}
	if p.HasTime {
		dst = append(p.appendTime(append(dst, `"time":`...)), ',')
	}
	if len(p.Tags) > 0 {
		dst = append(dst, `"tags":{`...)
		for i, t := range p.Tags {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(append(appendString(dst, t.Key), ':'), t.Value)
		}
		dst = append(dst, '}', ',')
	}
	dst = append(dst, `"fields":{`...)
	for i, f := range p.Fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, f.Key), ':')
		if f.Kind == Text {
			dst = appendString(dst, f.Value)
		} else {
			dst = append(dst, f.Value...)
		}
	}
	return append(dst, '}', '}')
}

// appendTime writes milliseconds where they tell it all, and RFC 3339 otherwise.
func (p *Point) appendTime(dst []byte) []byte {
	if p.Time%1e6 == 0 {
		return strconv.AppendInt(dst, p.Time/1e6, 10)
	}
	return append(appendRFC3339(append(dst, '"'), p.Time), '"')
}

const hexDigits = "0123456789abcdef"

// appendString appends b as a JSON string. What is not valid UTF-8 becomes U+FFFD.
func appendString(dst, b []byte) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(b); {
		c := b[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
			i++
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
		}
	}
	return append(dst, '"')
}
