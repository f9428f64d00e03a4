// Package selector is the little language that picks devices by label: site=plant-7,line!=3,critical,!retired. It is
// shared by the operator API, where it also binds an operator to part of the fleet, and by jobs.
package selector

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The bounds of a selector.
const (
	MaxLength = 1024
	MaxTerms  = 16
)

// Selector matches label sets. The zero value matches every device.
type Selector struct {
	terms []term
}

type term struct {
	key    string
	values []string // nil: the label only has to be there
	negate bool
}

// Parse reads a selector: terms joined by commas, all of which must hold. A term is key=value, key!=value, key in (a,b),
// key notin (a,b), key (the label is there) or !key (it is not). A device without the label fulfils != and notin. In a value
// a backslash takes the meaning from one of , = ( ) \ or a blank: name=pump \(old\).
func Parse(s string) (Selector, error) {
	if len(s) > MaxLength {
		return Selector{}, fmt.Errorf("selector: %d characters, at most %d", len(s), MaxLength)
	}
	if strings.TrimSpace(s) == "" {
		return Selector{}, nil
	}
	s, err := hide(s)
	if err != nil {
		return Selector{}, err
	}
	parts := split(s)
	if len(parts) > MaxTerms {
		return Selector{}, fmt.Errorf("selector: %d terms, at most %d", len(parts), MaxTerms)
	}
	var out Selector
	for _, part := range parts {
		t, err := parseTerm(strings.TrimSpace(part))
		if err != nil {
			return Selector{}, err
		}
		out.terms = append(out.terms, t)
	}
	return out, nil
}

// escapable are the characters that mean something where a value stands; hidden is their place in a selector while it is
// taken apart, the first of as many bytes that are not in UTF-8.
const (
	escapable = `,=()\ `
	hidden    = 0xf8
)

// hide puts a byte that means nothing in the place of each escaped character.
func hide(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errors.New("selector: not valid UTF-8")
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out.WriteByte(s[i])
			continue
		}
		at := -1
		if i++; i < len(s) {
			at = strings.IndexByte(escapable, s[i])
		}
		if at < 0 {
			return "", fmt.Errorf(`selector: after \ want one of , = ( ) \ or a blank, at character %d`, i)
		}
		out.WriteByte(hidden + byte(at))
	}
	return out.String(), nil
}

// show puts what was hidden back, each with before in front of it.
func show(s, before string) string {
	var out strings.Builder
	for i := range len(s) {
		if s[i] < hidden {
			out.WriteByte(s[i])
			continue
		}
		out.WriteString(before)
		out.WriteByte(escapable[s[i]-hidden])
	}
	return out.String()
}

// escape writes a value so that Parse reads it as it is.
func escape(value string) string {
	bare := strings.TrimSpace(value)
	at := strings.Index(value, bare)
	var out strings.Builder
	for i := range len(value) {
		if c := value[i]; strings.IndexByte(`,=()\`, c) >= 0 || c == ' ' && (i < at || i >= at+len(bare)) {
			out.WriteByte('\\')
		}
		out.WriteByte(value[i])
	}
	return out.String()
}

// split cuts at the commas that are not inside parentheses.
func split(s string) []string {
	var parts []string
	start, depth := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth <= 0 {
				parts = append(parts, s[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, s[start:])
}

func parseTerm(s string) (term, error) {
	t := term{}
	if head, list, ok := strings.Cut(strings.TrimSuffix(s, ")"), "("); ok && strings.HasSuffix(s, ")") {
		key, op, _ := strings.Cut(strings.TrimSpace(head), " ")
		op = strings.TrimSpace(op)
		if op != "in" && op != "notin" {
			return term{}, malformed(s)
		}
		t = term{key: key, values: strings.Split(list, ","), negate: op == "notin"}
	} else if key, value, ok := strings.Cut(s, "="); ok {
		key, negate := strings.CutSuffix(key, "!")
		t = term{key: key, values: []string{value}, negate: negate}
	} else {
		key, negate := strings.CutPrefix(s, "!")
		t = term{key: key, negate: negate}
	}
	t.key = strings.TrimSpace(t.key)
	if t.key == "" || strings.ContainsAny(t.key, "!=(), \t") || show(t.key, "") != t.key {
		return term{}, malformed(s)
	}
	for i, v := range t.values {
		if t.values[i] = show(strings.TrimSpace(v), ""); strings.ContainsAny(v, "=(),") {
			return term{}, malformed(s)
		}
	}
	return t, nil
}

func malformed(s string) error {
	return fmt.Errorf(`selector term %#q: want key=value, key!=value, key in (a,b), key notin (a,b), key or !key; in a value write \ before , = ( ) and \`,
		show(s, `\`))
}

// Match reports whether all terms hold for labels.
func (s Selector) Match(labels map[string]string) bool {
	for _, t := range s.terms {
		value, has := labels[t.key]
		if holds := has && (t.values == nil || slices.Contains(t.values, value)); holds == t.negate {
			return false
		}
	}
	return true
}

// Empty reports whether s matches every device.
func (s Selector) Empty() bool { return len(s.terms) == 0 }

// String writes s so that Parse reads the same again.
func (s Selector) String() string {
	parts := make([]string, len(s.terms))
	for i, t := range s.terms {
		parts[i] = t.text()
	}
	return strings.Join(parts, ",")
}

func (t term) text() string {
	values := make([]string, len(t.values))
	for i, v := range t.values {
		values[i] = escape(v)
	}
	switch {
	case t.values == nil && t.negate:
		return "!" + t.key
	case t.values == nil:
		return t.key
	case len(t.values) == 1 && t.negate:
		return t.key + "!=" + values[0]
	case len(t.values) == 1:
		return t.key + "=" + values[0]
	case t.negate:
		return t.key + " notin (" + strings.Join(values, ",") + ")"
	default:
		return t.key + " in (" + strings.Join(values, ",") + ")"
	}
}
