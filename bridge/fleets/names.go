package fleets

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNameBytes is the longest name of a measurement, tag or field in the device protocol.
const maxNameBytes = 64

// markBytes is how much of a hash tells two names apart: 16 hex digits' half, 32 bits.
const markBytes = 4

// CleanName turns any text into a name that the device protocol allows: [A-Za-z_][A-Za-z0-9_.-]{0,63} and none of the
// reserved ones. An allowed name is returned unchanged.
func CleanName(name string) string {
	out := make([]byte, 0, min(len(name)+1, maxNameBytes))
	for _, r := range name {
		if len(out) == maxNameBytes {
			break
		}
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		later := r >= '0' && r <= '9' || r == '.' || r == '-'
		switch {
		case letter:
			out = append(out, byte(r))
		case later && len(out) > 0:
			out = append(out, byte(r))
		case later && len(out) < maxNameBytes-1:
			out = append(out, '_', byte(r))
		default:
			out = append(out, '_')
		}
	}
	switch string(out) {
	case "":
		return "_"
	case "time", "_time", "_measurement", "_field", "_start", "_stop":
		return string(out) + "_"
	}
	return string(out)
}

// CleanField is CleanName for a field: the hub's own tag names the device, and InfluxDB would take such a field for it.
func CleanField(name string) string {
	if name = CleanName(name); name == "device" {
		return "device_"
	}
	return name
}

// Mark returns a few characters that stand for name, to tell apart what cleaning made the same.
func Mark(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:markBytes])
}

func marked(clean, original string) string {
	mark := "_" + Mark(original)
	return clean[:min(len(clean), maxNameBytes-len(mark))] + mark
}

// CleanText makes a string storable: valid UTF-8 without control characters, at most limit bytes.
func CleanText(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
