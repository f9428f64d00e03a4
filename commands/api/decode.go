package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of any JSON that the API takes.
const maxDepth = 64

// decodeStrict reads data into v, a pointer to a struct. Unlike encoding/json it compares keys exactly, refuses unknown
// and repeated ones, and says where they are.
func decodeStrict(data []byte, v any) error {
	// encoding/json takes anything within a string, and what is passed on as it came, as the parameters of a command,
	// would make the receiver close its connection: again and again, for it is sent again.
	if !utf8.Valid(data) {
		return &Invalid{Code: "invalid_json", Detail: "the body is not valid UTF-8"}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	w := shapeWalker{dec: dec}
	if err := w.value(reflect.TypeOf(v).Elem(), "", 0); err != nil {
		return asInvalidJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &Invalid{Code: "invalid_json", Detail: "something follows the JSON value"}
	}
	if err := json.Unmarshal(data, v); err != nil {
		return asInvalidJSON(err)
	}
	return nil
}

func asInvalidJSON(err error) error {
	if inv := (*Invalid)(nil); errors.As(err, &inv) {
		return inv
	}
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return &Invalid{
			Code: "invalid_type", Path: wrong.Field,
			Detail: fmt.Sprintf("%s is a JSON %s, want %s", wrong.Field, wrong.Value, jsonName(wrong.Type)),
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Invalid{Code: "invalid_json", Detail: "the JSON ends too early"}
	}
	return &Invalid{Code: "invalid_json", Detail: "the body is not JSON: " + err.Error()}
}

func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Pointer:
		return jsonName(t.Elem())
	default:
		return "a number"
	}
}

// shapeWalker walks a JSON text beside the Go type it is meant for.
type shapeWalker struct{ dec *json.Decoder }

var anyType = reflect.TypeFor[any]()

func (w *shapeWalker) value(t reflect.Type, path string, depth int) error {
	if depth > maxDepth {
		return &Invalid{Code: "invalid_json", Detail: fmt.Sprintf("nested deeper than %d", maxDepth)}
	}
	tok, err := w.dec.Token()
	if err != nil {
		return err
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch tok {
	case json.Delim('{'):
		return w.object(t, path, depth)
	case json.Delim('['):
		return w.array(t, path, depth)
	}
	return nil
}

func (w *shapeWalker) object(t reflect.Type, path string, depth int) error {
	seen := map[string]bool{}
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		at := join(path, key)
		if seen[key] {
			return &Invalid{Code: "duplicate_field", Path: at, Detail: fmt.Sprintf("%s is there twice", at)}
		}
		seen[key] = true
		member, ok := memberType(t, key)
		if !ok {
			return &Invalid{
				Code: "unknown_field", Path: at, Detail: fmt.Sprintf("%s is not a field of this request", at),
				Hint: "known here: " + strings.Join(fieldNames(t), ", "),
			}
		}
		if err := w.value(member, at, depth+1); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

func (w *shapeWalker) array(t reflect.Type, path string, depth int) error {
	elem := anyType
	if t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 {
		elem = t.Elem()
	}
	for i := 0; w.dec.More(); i++ {
		if err := w.value(elem, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// memberType is the type that the value of key has in t. Free-form JSON takes any key.
func memberType(t reflect.Type, key string) (reflect.Type, bool) {
	switch t.Kind() {
	case reflect.Map:
		return t.Elem(), true
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Anonymous {
				if m, ok := memberType(f.Type, key); ok {
					return m, true
				}
				continue
			}
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == key {
				return f.Type, true
			}
		}
		return nil, false
	default:
		return anyType, true // a wrong type is found by the decoder
	}
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if t.Field(i).Anonymous {
			names = append(names, fieldNames(t.Field(i).Type)...)
			continue
		}
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
