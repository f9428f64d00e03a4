package wire

import "unicode/utf8"

// Readable returns a message as text, for people: as it is, or a CBOR frame as JSON. false: it is neither.
func Readable(c Codec, data []byte) (string, bool) {
	if c == CBOR {
		js, err := cborToJSON(data)
		return string(js), err == nil
	}
	return string(data), utf8.Valid(data)
}
