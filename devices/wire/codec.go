package wire

import "bytes"

// Codec is the encoding a session speaks, chosen by WebSocket subprotocol.
type Codec uint8

// The codecs. JSON frames are text messages, CBOR frames binary ones with the same keys. With the others a device sends
// its telemetry as bare payloads: a SenML pack [RFC8428] in JSON (text) or CBOR (binary), or InfluxDB's line protocol
// (text); everything else, both ways, is JSON frames in text messages.
const (
	JSON Codec = iota
	CBOR
	SenML
	SenMLCBOR
	Lines
)

// The WebSocket subprotocols, in the order of the codecs [RFC6455 1.9], and the prefix under which a browser offers its
// token.
const (
	SubprotocolJSON      = "fairlead.v1.json"
	SubprotocolCBOR      = "fairlead.v1.cbor"
	SubprotocolSenML     = "fairlead.v1.senml"
	SubprotocolSenMLCBOR = "fairlead.v1.senml-cbor"
	SubprotocolLines     = "fairlead.v1.line"
	BearerPrefix         = "bearer."
)

var subprotocols = [...]string{
	JSON: SubprotocolJSON, CBOR: SubprotocolCBOR, SenML: SubprotocolSenML, SenMLCBOR: SubprotocolSenMLCBOR, Lines: SubprotocolLines,
}

// Subprotocol returns the WebSocket subprotocol that stands for c.
func (c Codec) Subprotocol() string { return subprotocols[c] }

// CodecOf returns the codec that a WebSocket subprotocol stands for.
func CodecOf(subprotocol string) (c Codec, known bool) {
	for i, name := range subprotocols {
		if name == subprotocol {
			return Codec(i), true
		}
	}
	return JSON, false
}

// Binary reports whether the hub's frames are binary messages.
func (c Codec) Binary() bool { return c == CBOR }

// Takes reports whether a message of a device may be of that type.
func (c Codec) Takes(binary bool) bool { return binary == c.Binary() || c == SenMLCBOR }

// Numbered reports whether a message is telemetry without a place for seq. Such messages are counted: the first of a
// session is 1. No payload begins as a frame does, with a brace, blanks or not.
func (c Codec) Numbered(data []byte) bool {
	if c <= CBOR {
		return false
	}
	rest := bytes.TrimLeft(data, " \t\r\n")
	return len(rest) == 0 || rest[0] != '{'
}

// payload reads a message that is telemetry and nothing else.
func (d *Decoder) payload(c Codec, data []byte) (Frame, error) {
	d.Telemetry.Seq = d.Number
	var rej *Reject
	switch c {
	case SenML:
		rej = d.senMLJSON(data)
	case SenMLCBOR:
		rej = d.senMLCBOR(data)
	default:
		rej = d.lines(data)
	}
	if rej == nil && len(d.Telemetry.Points) == 0 {
		rej = &Reject{Code: InvalidFrame, Message: "message: no points"}
	}
	if rej != nil {
		rej.Seq = d.Number
		return nil, rej
	}
	return &d.Telemetry, nil
}
