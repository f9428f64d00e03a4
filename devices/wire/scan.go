package wire

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds nesting; no frame of the protocol needs a tenth of it.
const maxDepth = 64

// scanner reads JSON [RFC8259] without allocating: strings without escapes are views of the input, others are unescaped
// into scratch. After a syntax error ok is false and why says what was found.
type scanner struct {
	in      []byte
	pos     int
	scratch []byte
	why     string

	exponent bool // of the number read last
}

func (s *scanner) fail(why string) bool {
	if s.why == "" {
		s.why = why
	}
	return false
}

func (s *scanner) space() {
	for s.pos < len(s.in) {
		switch s.in[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek skips blanks and returns the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.in) && s.in[s.pos] > ' ' {
		return s.in[s.pos]
	}
	s.space()
	if s.pos < len(s.in) {
		return s.in[s.pos]
	}
	return 0
}

// take consumes c, which must come next.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return s.fail("want " + strconv.QuoteRune(rune(c)) + s.at())
	}
	s.pos++
	return true
}

func (s *scanner) at() string { return " at byte " + strconv.Itoa(s.pos) }

// more is called before each member of an object or array that ends with end; n counts the members so far. It consumes
// the comma or the end.
func (s *scanner) more(end byte, n int) (another, ok bool) {
	c := s.peek()
	switch {
	case c == end:
		s.pos++
		return false, true
	case n == 0:
		return true, true
	case c == ',':
		s.pos++
		if s.peek() == end {
			return false, s.fail("comma before the end" + s.at())
		}
		return true, true
	default:
		return false, s.fail("want ',' or " + strconv.QuoteRune(rune(end)) + s.at())
	}
}

// key reads a member name and its colon.
func (s *scanner) key() (k []byte, ok bool) {
	if k, ok = s.str(); !ok {
		return nil, false
	}
	return k, s.take(':')
}

// str reads a string.
func (s *scanner) str() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	start := s.pos
	for i, c := range s.in[start:] {
		if !special[c] {
			continue
		}
		s.pos = start + i
		switch c {
		case '"':
			s.pos++
			return s.in[start : s.pos-1], true
		case '\\':
			return s.escaped(start)
		default:
			return nil, s.fail("control character in a string" + s.at())
		}
	}
	s.pos = len(s.in)
	return nil, s.fail("string without an end")
}

// special are the bytes that a string does not hold as they are.
var special = func() (t [256]bool) {
	for c := range 0x20 {
		t[c] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

// escaped reads the rest of a string in which the first escape was met.
func (s *scanner) escaped(start int) ([]byte, bool) {
	from := len(s.scratch)
	s.scratch = append(s.scratch, s.in[start:s.pos]...)
	for s.pos < len(s.in) {
		switch c := s.in[s.pos]; {
		case c == '"':
			s.pos++
			return s.scratch[from:len(s.scratch):len(s.scratch)], true
		case c < 0x20:
			return nil, s.fail("control character in a string" + s.at())
		case c != '\\':
			s.scratch = append(s.scratch, c)
			s.pos++
		default:
			s.pos++
			if !s.escape() {
				return nil, false
			}
		}
	}
	return nil, s.fail("string without an end")
}

// escape reads what follows a backslash.
func (s *scanner) escape() bool {
	if s.pos >= len(s.in) {
		return s.fail("string without an end")
	}
	c := s.in[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/':
		s.scratch = append(s.scratch, c)
	case 'b':
		s.scratch = append(s.scratch, '\b')
	case 'f':
		s.scratch = append(s.scratch, '\f')
	case 'n':
		s.scratch = append(s.scratch, '\n')
	case 'r':
		s.scratch = append(s.scratch, '\r')
	case 't':
		s.scratch = append(s.scratch, '\t')
	case 'u':
		return s.unicode()
	default:
		return s.fail("unknown escape" + s.at())
	}
	return true
}

// unicode reads the four digits of \u, and the low surrogate that must follow a high one.
func (s *scanner) unicode() bool {
	r, ok := s.hex4()
	if !ok {
		return false
	}
	if utf16.IsSurrogate(r) {
		if s.pos+2 > len(s.in) || s.in[s.pos] != '\\' || s.in[s.pos+1] != 'u' {
			return s.fail("lone surrogate" + s.at())
		}
		s.pos += 2
		low, ok := s.hex4()
		if !ok {
			return false
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return s.fail("lone surrogate" + s.at())
		}
	}
	s.scratch = utf8.AppendRune(s.scratch, r)
	return true
}

func (s *scanner) hex4() (rune, bool) {
	if s.pos+4 > len(s.in) {
		return 0, s.fail("short \\u escape" + s.at())
	}
	var r rune
	for _, c := range s.in[s.pos : s.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, s.fail("bad \\u escape" + s.at())
		}
		r = r<<4 | rune(c)
	}
	s.pos += 4
	return r, true
}

// number reads a number literal and says whether it is written as an integer.
func (s *scanner) number() (lit []byte, integer, ok bool) {
	s.space()
	start := s.pos
	s.exponent = false
	if s.pos < len(s.in) && s.in[s.pos] == '-' {
		s.pos++
	}
	zero := s.pos < len(s.in) && s.in[s.pos] == '0'
	if n := s.digits(); n == 0 || zero && n > 1 {
		return nil, false, s.fail("bad number" + s.at())
	}
	integer = true
	if s.pos < len(s.in) && s.in[s.pos] == '.' {
		s.pos++
		integer = false
		if s.digits() == 0 {
			return nil, false, s.fail("bad number" + s.at())
		}
	}
	if s.pos < len(s.in) && s.in[s.pos]|0x20 == 'e' {
		s.pos++
		integer, s.exponent = false, true
		if s.pos < len(s.in) && (s.in[s.pos] == '+' || s.in[s.pos] == '-') {
			s.pos++
		}
		if s.digits() == 0 {
			return nil, false, s.fail("bad number" + s.at())
		}
	}
	return s.in[start:s.pos], integer, true
}

func (s *scanner) digits() (n int) {
	for _, c := range s.in[s.pos:] {
		if c-'0' > 9 {
			break
		}
		n++
	}
	s.pos += n
	return n
}

// word consumes the literal w, if it comes next.
func (s *scanner) word(w string) bool {
	s.space()
	if len(s.in)-s.pos < len(w) || string(s.in[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

// skip reads any value and checks its syntax.
func (s *scanner) skip(depth int) bool {
	if depth > maxDepth {
		return s.fail("nested deeper than " + strconv.Itoa(maxDepth))
	}
	switch c := s.peek(); {
	case c == '{':
		return s.skipMembers('}', depth)
	case c == '[':
		return s.skipMembers(']', depth)
	case c == '"':
		keep := len(s.scratch)
		_, ok := s.str()
		s.scratch = s.scratch[:keep]
		return ok
	case c == '-' || c-'0' <= 9:
		_, _, ok := s.number()
		return ok
	default:
		if s.word("true") || s.word("false") || s.word("null") {
			return true
		}
		return s.fail("no value" + s.at())
	}
}

func (s *scanner) skipMembers(end byte, depth int) bool {
	s.pos++
	for n := 0; ; n++ {
		another, ok := s.more(end, n)
		if !ok || !another {
			return ok
		}
		if end == '}' {
			keep := len(s.scratch)
			if _, ok := s.key(); !ok {
				return false
			}
			s.scratch = s.scratch[:keep]
		}
		if !s.skip(depth + 1) {
			return false
		}
	}
}
