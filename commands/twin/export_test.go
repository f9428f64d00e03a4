package twin

import "encoding/json"

// MergeBoth merges the composition of two patches.
func MergeBoth(target, older, newer json.RawMessage) (json.RawMessage, error) {
	t, err := parse(target)
	if err != nil {
		return nil, err
	}
	o, err := parse(older)
	if err != nil {
		return nil, err
	}
	n, err := parse(newer)
	if err != nil {
		return nil, err
	}
	return encode(merge(t, compose(o, n)))
}

// Difference is what of desired is not so in reported.
func Difference(desired, reported json.RawMessage) (json.RawMessage, error) {
	d, err := parseDocument(desired)
	if err != nil {
		return nil, err
	}
	r, err := parseDocument(reported)
	if err != nil {
		return nil, err
	}
	return encode(difference(d, r))
}

// MaxPending and the rest are bounds for tests.
const (
	MaxPending = maxPending
	MaxPatch   = maxPatch
)
