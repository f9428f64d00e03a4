// Package strictjson reads JSON that outsiders wrote: a key that comes twice has no meaning, and what is wrong is told with
// its place, in words that do not speak of Go.
package strictjson

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

// maxDepth bounds the nesting.
const maxDepth = 64

// The codes of a Fault.
const (
	Malformed = "invalid_json"
	Twice     = "duplicate_field"
	Unknown   = "unknown_field"
	WrongType = "invalid_type"
)

// Fault is what is wrong with a text.
type Fault struct {
	Code   string
	Path   string // as rollout.per_minute or keys[1].kid; empty: the whole
	Detail string // a sentence that repeats the path
	Hint   string
}

// Error returns the detail.
func (f *Fault) Error() string { return f.Detail }

// Decode reads data into v, a pointer to a struct. Unlike encoding/json it compares keys exactly and refuses unknown and
// repeated ones, also within what is passed on as it came. It fails with a *Fault.
func Decode(data []byte, v any) error { return decode(data, v, true) }

// DecodeOpen is Decode for those who may know less than the sender: it ignores unknown keys, and what is in them or is
// passed on as it came may hold anything.
func DecodeOpen(data []byte, v any) error { return decode(data, v, false) }

func decode(data []byte, v any, closed bool) error {
	// encoding/json takes anything within a string, and what is passed on as it came, as the parameters of a command,
	// would make the receiver close its connection: again and again, for it is sent again.
	if !utf8.Valid(data) {
		return &Fault{Code: Malformed, Detail: "the JSON is not valid UTF-8"}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	w := walker{dec, closed}
	if err := w.value(reflect.TypeOf(v).Elem(), "", 0); err != nil {
		return explain(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &Fault{Code: Malformed, Detail: "something follows the JSON value"}
	}
	if err := json.Unmarshal(data, v); err != nil { // of a type that reads itself
		return &Fault{Code: WrongType, Detail: err.Error()}
	}
	return nil
}

func explain(err error) error {
	if f := (*Fault)(nil); errors.As(err, &f) {
		return f
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Fault{Code: Malformed, Detail: "the JSON ends too early"}
	}
	return &Fault{Code: Malformed, Detail: "this is not JSON: " + err.Error()}
}

// name is what a value of a type is in JSON.
func name(t reflect.Type) string {
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
		return name(t.Elem())
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a whole number"
	}
}

// walker walks a JSON text beside the Go type it is meant for.
type walker struct {
	dec    *json.Decoder
	closed bool // unknown keys are refused
}

var anyType, rawType, unmarshaler = reflect.TypeFor[any](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Unmarshaler]()

func (w *walker) value(t reflect.Type, path string, depth int) error {
	if depth > maxDepth {
		return &Fault{Code: Malformed, Detail: fmt.Sprintf("nested deeper than %d", maxDepth)}
	}
	tok, err := w.dec.Token()
	if err != nil {
		return err
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	nothing := tok == nil && depth == 0 && t.Kind() == reflect.Struct // null may stand for a part that is left out, not for all
	if nothing || !reflect.PointerTo(t).Implements(unmarshaler) && !fits(tok, t) {
		return wrongType(tok, t, path)
	}
	switch tok {
	case json.Delim('{'):
		return w.object(t, path, depth)
	case json.Delim('['):
		return w.array(t, path, depth)
	}
	return nil
}

// fits reports whether a value that begins with tok may be in a variable of type t.
func fits(tok json.Token, t reflect.Type) bool {
	k := t.Kind()
	if tok == nil || k == reflect.Interface {
		return true
	}
	switch v := tok.(type) {
	case string:
		return k == reflect.String
	case bool:
		return k == reflect.Bool
	case json.Number:
		return json.Unmarshal([]byte(v), reflect.New(t).Interface()) == nil
	case json.Delim:
		return v == '{' && (k == reflect.Struct || k == reflect.Map) || v == '[' && (k == reflect.Slice || k == reflect.Array)
	}
	return false
}

func wrongType(tok json.Token, t reflect.Type, path string) error {
	is, want := "", name(t)
	switch v := tok.(type) {
	case nil:
		is = "null"
	case string:
		is = "a string"
	case bool:
		is = "a boolean"
	case json.Number:
		if is = "a number"; strings.HasSuffix(want, "number") {
			is, want = v.String(), want+" in range"
		}
	case json.Delim:
		if is = "an object"; v == '[' {
			is = "an array"
		}
	}
	subject := path
	if subject == "" {
		subject = "the whole"
	}
	return &Fault{Code: WrongType, Path: path, Detail: fmt.Sprintf("%s is %.40s, want %s", subject, is, want)}
}

func (w *walker) object(t reflect.Type, path string, depth int) error {
	seen := map[string]bool{}
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		at := join(path, key)
		if seen[key] {
			return &Fault{Code: Twice, Path: at, Detail: fmt.Sprintf("%s is there twice", at)}
		}
		seen[key] = true
		member, ok := memberType(t, key)
		if !w.closed && (!ok || member == rawType) {
			var anything json.RawMessage
			if err := w.dec.Decode(&anything); err != nil {
				return err
			}
			continue
		}
		if !ok {
			return &Fault{
				Code: Unknown, Path: at, Detail: fmt.Sprintf("%s is not a field here", at),
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

func (w *walker) array(t reflect.Type, path string, depth int) error {
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
		return anyType, true
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
