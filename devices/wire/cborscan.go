package wire

import (
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"
)

// The major types of CBOR [RFC8949 3.1].
const (
	cborUint   = 0
	cborNegint = 1
	cborBytes  = 2
	cborText   = 3
	cborArray  = 4
	cborMap    = 5
	cborTag    = 6
	cborSimple = 7
)

// indefinite is the argument of a head whose length is not told; cborBreak ends it.
const (
	indefinite = math.MaxUint64
	cborBreak  = 0xff
)

// cborScanner reads CBOR [RFC8949] without allocating. After an error why says what was found.
type cborScanner struct {
	in  []byte
	pos int
	why string
}

func (c *cborScanner) fail(why string) bool {
	if c.why == "" {
		c.why = why + " at byte " + strconv.Itoa(c.pos)
	}
	return false
}

// major returns the major type of the next item, or 8 at the end.
func (c *cborScanner) major() byte {
	if c.pos >= len(c.in) {
		return 8
	}
	return c.in[c.pos] >> 5
}

// head reads the head of an item: its major type, additional information and argument.
func (c *cborScanner) head() (major, info byte, arg uint64, ok bool) {
	if c.pos >= len(c.in) {
		return 0, 0, 0, c.fail("item missing")
	}
	b := c.in[c.pos]
	major, info = b>>5, b&31
	c.pos++
	switch {
	case info < 24:
		return major, info, uint64(info), true
	case info <= 27:
		n := 1 << (info - 24)
		if len(c.in)-c.pos < n {
			return 0, 0, 0, c.fail("item cut short")
		}
		var buf [8]byte
		copy(buf[8-n:], c.in[c.pos:c.pos+n])
		c.pos += n
		arg = binary.BigEndian.Uint64(buf[:])
		if arg == indefinite && (major == cborArray || major == cborMap) {
			return 0, 0, 0, c.fail("collection cut short") // nothing is that long, and it is not what says that no length is told
		}
		return major, info, arg, true
	case info == 31 && (major == cborArray || major == cborMap):
		return major, info, indefinite, true
	default:
		return 0, 0, 0, c.fail("unsupported item")
	}
}

// text reads a text string of definite length.
func (c *cborScanner) text() ([]byte, bool) {
	major, _, n, ok := c.head()
	if !ok {
		return nil, false
	}
	if major != cborText {
		return nil, c.fail("want a text string")
	}
	if uint64(len(c.in)-c.pos) < n {
		return nil, c.fail("string cut short")
	}
	b := c.in[c.pos : c.pos+int(n)]
	c.pos += int(n)
	if !utf8.Valid(b) {
		return nil, c.fail("string is not valid UTF-8")
	}
	return b, true
}

// more reports whether another member follows in a collection of n members (or indefinite), i of them read.
func (c *cborScanner) more(n, i uint64) bool {
	if n != indefinite {
		return i < n
	}
	if c.pos < len(c.in) && c.in[c.pos] == cborBreak {
		c.pos++
		return false
	}
	return true
}

// skip reads any item.
func (c *cborScanner) skip(depth int) bool {
	if depth > maxDepth {
		return c.fail("nested deeper than " + strconv.Itoa(maxDepth))
	}
	major, _, n, ok := c.head()
	if !ok {
		return false
	}
	switch major {
	case cborBytes, cborText:
		if uint64(len(c.in)-c.pos) < n {
			return c.fail("string cut short")
		}
		if major == cborText && !utf8.Valid(c.in[c.pos:c.pos+int(n)]) {
			return c.fail("string is not valid UTF-8")
		}
		c.pos += int(n)
	case cborArray, cborMap:
		for i := uint64(0); c.more(n, i); i++ {
			if major == cborMap && !c.skip(depth+1) || !c.skip(depth+1) {
				return false
			}
		}
	case cborTag:
		return c.skip(depth + 1)
	}
	return true
}

// integer reads an integer, which encoders of languages with one number type may write as a float.
func (c *cborScanner) integer() (int64, bool) {
	major, info, v, ok := c.head()
	switch {
	case !ok || v > math.MaxInt64 && major != cborSimple:
		return 0, false
	case major == cborUint:
		return int64(v), true
	case major == cborNegint:
		return -1 - int64(v), true
	case major != cborSimple:
		return 0, false
	}
	f, ok := simpleFloat(info, v)
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// simpleFloat widens a floating-point item.
func simpleFloat(info byte, v uint64) (float64, bool) {
	switch info {
	case 25:
		return halfFloat(uint16(v)), true
	case 26:
		return float64(math.Float32frombits(uint32(v))), true
	case 27:
		return math.Float64frombits(v), true
	}
	return 0, false
}

// halfFloat widens an IEEE 754 half-precision number [RFC8949 appendix D].
func halfFloat(h uint16) float64 {
	exp, mant := int(h>>10&0x1f), float64(h&0x3ff)
	var v float64
	switch exp {
	case 0:
		v = math.Ldexp(mant, -24)
	case 31:
		v = math.Inf(1)
		if mant != 0 {
			v = math.NaN()
		}
	default:
		v = math.Ldexp(mant+1024, exp-25)
	}
	if h&0x8000 != 0 {
		return -v
	}
	return v
}

// number reads any number.
func (c *cborScanner) number() (float64, bool) {
	major, info, v, ok := c.head()
	switch {
	case !ok:
		return 0, false
	case major == cborUint:
		return float64(v), true
	case major == cborNegint:
		return -1 - float64(v), true
	case major != cborSimple:
		return 0, false
	}
	return simpleFloat(info, v)
}
