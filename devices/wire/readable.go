package wire

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Readable returns a message as text, for people: as it is, or a CBOR frame as JSON. false: it is neither.
func Readable(c Codec, data []byte) (string, bool) {
	if c == CBOR {
		js, err := cborToJSON(data)
		return string(js), err == nil
	}
	return string(data), utf8.Valid(data)
}

// excerptBytes bounds an excerpt.
const excerptBytes = 4 << 10

// Excerpt is what a trace shows of a message: its text with tokens blanked, or hexadecimal if it is none, cut to a bound.
func Excerpt(c Codec, data []byte) string {
	data = Blank(data)
	text, ok := Readable(c, data)
	if !ok {
		text = hex.EncodeToString(data[:min(len(data), excerptBytes/2)])
	}
	if len(text) > excerptBytes {
		text = strings.ToValidUTF8(text[:excerptBytes], "") + "..."
	}
	return text
}

// compact is what looks like a compact JWS: three long words with dots between.
var compact = regexp.MustCompile(`[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`)

// Blank hides what looks like a token: whoever could read one in a trace could be the device.
func Blank(data []byte) []byte {
	return compact.ReplaceAllFunc(data, func(t []byte) []byte { return bytes.Repeat([]byte{'*'}, len(t)) })
}
