package twin

import (
	"encoding/json"
	"maps"
)

// Merge applies a JSON merge patch to a JSON value [RFC7396 2].
func Merge(target, patch json.RawMessage) (json.RawMessage, error) {
	t, err := parse(target)
	if err != nil {
		return nil, err
	}
	p, err := parse(patch)
	if err != nil {
		return nil, err
	}
	return encode(merge(t, p))
}

// replaced is an object in a composed patch that takes the place of whatever stood there, instead of being merged into
// it. It holds no deletions.
type replaced map[string]any

// merge applies patch to target. It changes neither, and the result shares memory with both.
func merge(target, patch any) any {
	switch p := patch.(type) {
	case map[string]any:
		t, _ := target.(map[string]any)
		out := maps.Clone(t)
		if out == nil {
			out = make(map[string]any, len(p))
		}
		for k, v := range p {
			if v == nil {
				delete(out, k)
			} else {
				out[k] = merge(out[k], v)
			}
		}
		return out
	case replaced:
		return map[string]any(p)
	}
	return patch
}

// mergeDocument applies a patch to a document.
func mergeDocument(doc, patch map[string]any) map[string]any {
	out, _ := merge(doc, patch).(map[string]any) // an object patch makes an object
	return out
}

// compose makes one patch of two: merging it is merging older, then newer. Merge patches alone cannot say that: after
// {"a":1} the patch {"a":{"b":2}} replaces a, while alone it is merged into it. Hence replaced.
func compose(older, newer any) any {
	n, ok := newer.(map[string]any)
	if !ok {
		return newer
	}
	switch o := older.(type) {
	case map[string]any:
		out := maps.Clone(o)
		for k, v := range n {
			if before, has := o[k]; has {
				out[k] = compose(before, v)
			} else {
				out[k] = v
			}
		}
		return out
	case replaced:
		return replaced(mergeDocument(o, n))
	}
	return replaced(mergeDocument(nil, n))
}

// composePatch is compose for the patches of a document.
func composePatch(older, newer map[string]any) map[string]any {
	out, _ := compose(older, newer).(map[string]any) // two object patches make an object patch
	return out
}

// difference is what of desired is missing in reported or is otherwise there, down to the keys that differ. What is only
// reported nobody asked for.
func difference(desired, reported map[string]any) map[string]any {
	out := map[string]any{}
	for k, want := range desired {
		have, has := reported[k]
		inner, isObject := want.(map[string]any)
		same, alsoObject := have.(map[string]any)
		switch {
		case isObject && alsoObject:
			if d := difference(inner, same); len(d) > 0 {
				out[k] = d
			}
		case !has || !equal(want, have):
			out[k] = want
		}
	}
	return out
}
