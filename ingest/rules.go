package ingest

import (
	"bytes"
	"math"
	"path"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The bounds of a point [device-protocol, Delivery rules].
const (
	maxTagValue = 256
	maxText     = 4096
	maxFields   = 64
)

// deviceTag is the tag that the hub adds to every point.
const deviceTag = "device"

// rules are the configured bounds of what a device may send.
type rules struct {
	points   int
	maxAge   time.Duration
	ageBound string // the setting that maxAge is from
	maxAhead time.Duration
	integers []string
}

// newRules takes the shorter of ingest.max_age and the store's retention (0: for ever): a point that the store would not
// take has to be refused while its device still listens.
func newRules(c configs.Ingest, retention time.Duration, points int) rules {
	r := rules{points: points, maxAge: c.MaxAge, ageBound: "ingest.max_age", maxAhead: c.MaxAhead, integers: c.IntegerFields}
	if retention > 0 && retention < r.maxAge {
		r.maxAge, r.ageBound = retention, "influx.retention"
	}
	return r
}

// integer reports whether a field of that name is stored as integer.
func (r *rules) integer(field string) bool {
	for _, pattern := range r.integers {
		if ok, err := path.Match(pattern, field); ok && err == nil {
			return true
		}
	}
	return false
}

// nameFault says what is wrong with a measurement, tag key or field key, or "".
func nameFault(name []byte) string { return wire.NameFault(name) }

// textFault says what is wrong with a tag value or string, or "".
func textFault(b []byte, limit int) string {
	if len(b) > limit {
		return "must have at most " + strconv.Itoa(limit) + " bytes"
	}
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c < 0x20 || c == 0x7f || c == 0xc2 && i+1 < len(b) && b[i+1] < 0xa0 {
			return "must not hold control characters"
		}
		if c >= utf8.RuneSelf && !utf8.Valid(b[i:]) {
			return "must be valid UTF-8"
		}
		if c >= utf8.RuneSelf {
			return c1Fault(b[i:])
		}
	}
	return ""
}

// c1Fault looks for control characters in valid UTF-8.
func c1Fault(b []byte) string {
	for _, r := range string(b) {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return "must not hold control characters"
		}
	}
	return ""
}

// appendTagValue escapes what line protocol gives a meaning [line protocol, special characters]. The value is checked.
func appendTagValue(dst, v []byte) []byte {
	for _, c := range v {
		if c == ',' || c == '=' || c == ' ' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

func appendText(dst, v []byte) []byte {
	dst = append(dst, '"')
	for _, c := range v {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// appendInteger writes a number literal as integer, or says why it is none.
func appendInteger(dst, lit []byte) ([]byte, string) {
	if bytes.IndexByte(lit, '.') < 0 && bytes.IndexByte(lit, 'e') < 0 {
		if _, err := strconv.ParseInt(string(lit), 10, 64); err == nil {
			return append(append(dst, lit...), 'i'), ""
		}
	}
	f, err := strconv.ParseFloat(string(lit), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<63 {
		return dst, "must be an integer, as which the field is stored"
	}
	return append(strconv.AppendInt(dst, int64(f), 10), 'i'), ""
}

// kindNames are what InfluxDB calls the kinds.
var kindNames = map[kind]string{kindFloat: "float", kindInteger: "integer", kindBool: "boolean", kindText: "string"}

// kind is the type of a stored field.
type kind uint8

const (
	kindFloat kind = iota + 1
	kindInteger
	kindBool
	kindText
)

func kindOf(k wire.Kind, integer bool) kind {
	switch {
	case k == wire.Bool:
		return kindBool
	case k == wire.Text:
		return kindText
	case integer:
		return kindInteger
	}
	return kindFloat
}
