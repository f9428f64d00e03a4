// Package selector is the little language that picks devices by label: site=plant-7,line!=3,critical,!retired. It is
// shared by the operator API, where it also binds an operator to part of the fleet, and by jobs.
package selector

import (
	"fmt"
	"slices"
	"strings"
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
// key notin (a,b), key (the label is there) or !key (it is not). A device without the label fulfils != and notin.
func Parse(s string) (Selector, error) {
	if len(s) > MaxLength {
		return Selector{}, fmt.Errorf("selector: %d characters, at most %d", len(s), MaxLength)
	}
	if strings.TrimSpace(s) == "" {
		return Selector{}, nil
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
	if t.key == "" || strings.ContainsAny(t.key, "!=(), \t") {
		return term{}, malformed(s)
	}
	for i, v := range t.values {
		if t.values[i] = strings.TrimSpace(v); strings.ContainsAny(v, "=(),") {
			return term{}, malformed(s)
		}
	}
	return t, nil
}

func malformed(s string) error {
	return fmt.Errorf("selector term %q: want key=value, key!=value, key in (a,b), key notin (a,b), key or !key", s)
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
	switch {
	case t.values == nil && t.negate:
		return "!" + t.key
	case t.values == nil:
		return t.key
	case len(t.values) == 1 && t.negate:
		return t.key + "!=" + t.values[0]
	case len(t.values) == 1:
		return t.key + "=" + t.values[0]
	case t.negate:
		return t.key + " notin (" + strings.Join(t.values, ",") + ")"
	default:
		return t.key + " in (" + strings.Join(t.values, ",") + ")"
	}
}
