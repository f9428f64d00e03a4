package twin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// parse reads one JSON value. Numbers keep their digits: what a device wrote as 21.50 stays so.
func parse(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the JSON value", ErrInvalid)
	}
	return v, nil
}

// parsePatch reads a patch of a document.
func parsePatch(data []byte) (map[string]any, error) {
	v, err := parse(data)
	if err != nil {
		return nil, err
	}
	patch, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: not a JSON object", ErrInvalid)
	}
	return patch, check(patch, 1)
}

// parseDocument reads a stored document; an absent one is empty.
func parseDocument(data []byte) (map[string]any, error) {
	if len(data) == 0 {
		return map[string]any{}, nil
	}
	return parsePatch(data)
}

// check refuses what is nested too deep and numbers beyond any float, which half of the devices could not read.
func check(v any, depth int) error {
	switch v := v.(type) {
	case map[string]any:
		if depth > MaxDepth {
			return errDepth
		}
		for _, inner := range v {
			if err := check(inner, depth+1); err != nil {
				return err
			}
		}
	case []any:
		if depth > MaxDepth {
			return errDepth
		}
		for _, inner := range v {
			if err := check(inner, depth+1); err != nil {
				return err
			}
		}
	case json.Number:
		if _, err := strconv.ParseFloat(string(v), 64); err != nil {
			return fmt.Errorf("%w: number %.40s is out of range", ErrInvalid, string(v))
		}
	}
	return nil
}

var errDepth = fmt.Errorf("%w: nested deeper than %d", ErrInvalid, MaxDepth)

// encode writes a value compactly, with sorted keys: equal documents are equal bytes.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// weigh estimates the memory of a patch, at least its size as JSON.
func weigh(v any) int {
	const node = 16
	switch v := v.(type) {
	case map[string]any:
		n := node
		for k, inner := range v {
			n += node + len(k) + weigh(inner)
		}
		return n
	case replaced:
		return weigh(map[string]any(v))
	case []any:
		n := node
		for _, inner := range v {
			n += weigh(inner)
		}
		return n
	case string:
		return node + len(v)
	case json.Number:
		return node + len(v)
	}
	return node
}

// equal compares values as JSON means them: 21, 21.0 and 2.1e1 are one number.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if w, has := b[k]; !has || !equal(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && equalNumbers(string(a), string(b))
	}
	switch b.(type) {
	case map[string]any, []any: // not comparable
		return false
	}
	return a == b
}

// equalNumbers compares integers by their digits, since a float cannot tell large ones apart, and all else as floats.
func equalNumbers(a, b string) bool {
	if a == b {
		return true
	}
	const fraction = ".eE"
	if !strings.ContainsAny(a, fraction) && !strings.ContainsAny(b, fraction) {
		return strings.Trim(a, "-0") == "" && strings.Trim(b, "-0") == ""
	}
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err1 == nil && err2 == nil && x == y
}
