// Package selector is the little language that picks devices by label: site=plant-7,line!=3,critical,!retired. It is
// shared by the operator API, where it also binds an operator to part of the fleet, and by jobs.
package selector

import (
	"fmt"
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
	key, value string
	negate     bool
	exists     bool // key alone: has it, or with negate: has it not
}

// Parse reads a selector: terms joined by commas, all of which must hold. A term is key=value, key!=value, key or !key.
func Parse(s string) (Selector, error) {
	if len(s) > MaxLength {
		return Selector{}, fmt.Errorf("selector: %d characters, at most %d", len(s), MaxLength)
	}
	if strings.TrimSpace(s) == "" {
		return Selector{}, nil
	}
	parts := strings.Split(s, ",")
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

func parseTerm(s string) (term, error) {
	t := term{}
	key, value, hasValue := strings.Cut(s, "=")
	switch {
	case hasValue && strings.HasSuffix(key, "!"):
		t = term{key: strings.TrimSuffix(key, "!"), value: value, negate: true}
	case hasValue:
		t = term{key: key, value: value}
	case strings.HasPrefix(s, "!"):
		t = term{key: s[1:], negate: true, exists: true}
	default:
		t = term{key: s, exists: true}
	}
	t.key, t.value = strings.TrimSpace(t.key), strings.TrimSpace(t.value)
	if t.key == "" || strings.ContainsAny(t.key, "!=") || strings.ContainsAny(t.value, "=") {
		return term{}, fmt.Errorf("selector term %q: want key=value, key!=value, key or !key", s)
	}
	return t, nil
}

// Match reports whether all terms hold for labels.
func (s Selector) Match(labels map[string]string) bool {
	for _, t := range s.terms {
		value, has := labels[t.key]
		holds := has && (t.exists || value == t.value)
		if holds == t.negate {
			return false
		}
	}
	return true
}

// Empty reports whether s matches every device.
func (s Selector) Empty() bool { return len(s.terms) == 0 }

// String writes s so that Parse reads the same again.
func (s Selector) String() string {
	var b strings.Builder
	for i, t := range s.terms {
		if i > 0 {
			b.WriteByte(',')
		}
		switch {
		case t.exists && t.negate:
			b.WriteString("!" + t.key)
		case t.exists:
			b.WriteString(t.key)
		case t.negate:
			b.WriteString(t.key + "!=" + t.value)
		default:
			b.WriteString(t.key + "=" + t.value)
		}
	}
	return b.String()
}
