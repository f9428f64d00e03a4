package devices

import (
	"fmt"
	"slices"
	"strings"
)

const (
	maxSelector     = 4096
	maxRequirements = 16
)

// Selector chooses devices by label. The zero value chooses all.
type Selector struct {
	all []requirement
}

type requirement struct {
	key    string
	values []string // nil: the label only has to be there
	not    bool
}

// ParseSelector reads a selector: requirements separated by commas, all of which must hold. They are key=value,
// key!=value, key in (a,b), key notin (a,b), key (the label is there) and !key (it is not). A device without the label
// fulfils != and notin.
func ParseSelector(s string) (Selector, error) {
	if len(s) > maxSelector {
		return Selector{}, fmt.Errorf("%w: selector: more than %d bytes", ErrInvalid, maxSelector)
	}
	var sel Selector
	for rest := strings.TrimSpace(s); rest != ""; {
		part, after, err := cutRequirement(rest)
		if err != nil {
			return Selector{}, err
		}
		r, err := parseRequirement(part)
		if err != nil {
			return Selector{}, err
		}
		if sel.all = append(sel.all, r); len(sel.all) > maxRequirements {
			return Selector{}, fmt.Errorf("%w: selector: more than %d requirements", ErrInvalid, maxRequirements)
		}
		rest = after
	}
	return sel, nil
}

// cutRequirement cuts at the first comma that is not inside parentheses.
func cutRequirement(s string) (part, rest string, err error) {
	end := len(s)
	if comma := strings.IndexByte(s, ','); comma >= 0 {
		end = comma
	}
	if open := strings.IndexByte(s, '('); open >= 0 && open < end {
		shut := strings.IndexByte(s, ')')
		if shut < open {
			return "", "", fmt.Errorf("%w: selector: %q: ( without )", ErrInvalid, s)
		}
		end = len(s)
		if comma := strings.IndexByte(s[shut:], ','); comma >= 0 {
			end = shut + comma
		}
	}
	part, rest = s[:end], s[end:]
	if rest != "" {
		if rest = strings.TrimSpace(rest[1:]); rest == "" {
			return "", "", fmt.Errorf("%w: selector: nothing after the last comma", ErrInvalid)
		}
	}
	return strings.TrimSpace(part), rest, nil
}

func parseRequirement(s string) (requirement, error) {
	var r requirement
	switch {
	case strings.HasSuffix(s, ")"):
		head, list, _ := strings.Cut(s[:len(s)-1], "(")
		key, op, _ := strings.Cut(strings.TrimSpace(head), " ")
		op = strings.TrimSpace(op)
		if op != "in" && op != "notin" {
			return r, fmt.Errorf("%w: selector: %q: use key in (a,b) or key notin (a,b)", ErrInvalid, s)
		}
		r = requirement{key: key, values: []string{}, not: op == "notin"}
		for v := range strings.SplitSeq(list, ",") {
			r.values = append(r.values, strings.TrimSpace(v))
		}
	case strings.Contains(s, "!="):
		key, value, _ := strings.Cut(s, "!=")
		r = requirement{key: strings.TrimSpace(key), values: []string{strings.TrimSpace(value)}, not: true}
	case strings.Contains(s, "="):
		key, value, _ := strings.Cut(s, "=")
		r = requirement{key: strings.TrimSpace(key), values: []string{strings.TrimSpace(strings.TrimPrefix(value, "="))}}
	default:
		key, not := strings.CutPrefix(s, "!")
		r = requirement{key: strings.TrimSpace(key), not: not}
	}
	if !isLabel(r.key) {
		return r, fmt.Errorf("%w: selector: %q is not a label; use k=v, k!=v, k in (a,b), k or !k", ErrInvalid, r.key)
	}
	return r, nil
}

// Matches reports whether the labels fulfil every requirement.
func (s Selector) Matches(labels map[string]string) bool {
	for i := range s.all {
		r := &s.all[i]
		value, ok := labels[r.key]
		if hit := ok && (r.values == nil || slices.Contains(r.values, value)); hit == r.not {
			return false
		}
	}
	return true
}
