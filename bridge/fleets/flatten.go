package fleets

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The bounds of a flattened object; those of fields are the device protocol's.
const (
	MaxDepth     = 8
	MaxFields    = 64
	maxTextBytes = 4096
)

// DecodeJSON reads one JSON value and nothing after it, keeping numbers as they were written.
func DecodeJSON(payload []byte) (any, error) {
	if len(bytes.TrimSpace(payload)) == 0 {
		return nil, &Drop{Reason: Empty}
	}
	if !utf8.Valid(payload) {
		return nil, &Drop{Reason: InvalidUTF8}
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, &Drop{Reason: InvalidJSON, Detail: err.Error()}
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, &Drop{Reason: InvalidJSON, Detail: "more than one value"}
	}
	return v, nil
}

// DecodeObject reads one JSON object.
func DecodeObject(payload []byte) (map[string]any, error) {
	v, err := DecodeJSON(payload)
	if err != nil {
		return nil, err
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return nil, &Drop{Reason: NotAnObject}
	}
	return obj, nil
}

// leaf is one value at the end of a path.
type leaf struct {
	path  string // as the message has it
	field wire.Field
}

// Flatten turns a decoded object into fields: nested names are joined by "_", elements of lists by their index, names
// that the device protocol does not allow are cleaned, null is left out. The order is that of the names.
func Flatten(obj map[string]any) ([]wire.Field, error) {
	var leaves []leaf
	if err := collect(&leaves, "", obj, 0); err != nil {
		return nil, err
	}
	slices.SortFunc(leaves, func(a, b leaf) int { return cmp.Compare(a.path, b.path) })
	return distinct(leaves), nil
}

func collect(to *[]leaf, path string, v any, depth int) error {
	if depth > MaxDepth {
		return &Drop{Reason: TooDeep, Detail: fmt.Sprintf("more than %d levels", MaxDepth)}
	}
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if err := collect(to, join(path, key), inner, depth+1); err != nil {
				return err
			}
		}
		return nil
	case []any:
		for i, inner := range v {
			if err := collect(to, join(path, strconv.Itoa(i)), inner, depth+1); err != nil {
				return err
			}
		}
		return nil
	case nil:
		return nil
	}
	field, err := scalar(v)
	if err != nil {
		return &Drop{Reason: InvalidValue, Detail: path + ": " + err.Error()}
	}
	if len(*to) == MaxFields {
		return &Drop{Reason: TooManyFields, Detail: fmt.Sprintf("more than %d", MaxFields)}
	}
	*to = append(*to, leaf{path: path, field: field})
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "_" + key
}

func scalar(v any) (wire.Field, error) {
	switch v := v.(type) {
	case bool:
		return wire.NewBool("", v), nil
	case string:
		return wire.NewText("", CleanText(v, maxTextBytes)), nil
	case json.Number:
		return Number(string(v))
	default:
		return wire.Field{}, fmt.Errorf("%T", v)
	}
}

// Number makes a number field without a key of a decimal literal.
func Number(literal string) (wire.Field, error) {
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return wire.Field{}, fmt.Errorf("%q is not a finite number", literal)
	}
	return wire.NewNumber("", f), nil
}

// distinct names the fields. Where two names become one, those that had to be changed get a mark of their own.
func distinct(leaves []leaf) []wire.Field {
	count := make(map[string]int, len(leaves))
	for _, l := range leaves {
		count[CleanField(l.path)]++
	}
	taken := make(map[string]bool, len(leaves))
	fields := make([]wire.Field, 0, len(leaves))
	for _, l := range leaves {
		name := CleanField(l.path)
		if count[name] > 1 && name != l.path {
			name = marked(name, l.path)
		}
		if taken[name] {
			continue // the same path twice: {"a":{"b":1},"a_b":2}
		}
		taken[name] = true
		l.field.Key = []byte(name)
		fields = append(fields, l.field)
	}
	return fields
}
