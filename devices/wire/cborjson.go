package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// cborModes are how the rare frames are carried over from and to JSON, where their free-form parts live.
var cborDec = must(cbor.DecOptions{
	DefaultMapType: reflect.TypeFor[map[string]any](), MaxNestedLevels: maxDepth, DupMapKey: cbor.DupMapKeyEnforcedAPF,
}.DecMode())

var cborEnc = must(cbor.EncOptions{}.EncMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func cborToJSON(data []byte) ([]byte, error) {
	var v any
	if err := cborDec.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	js, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("CBOR without a JSON form: %w", err)
	}
	return js, nil
}

func jsonToCBOR(js []byte) ([]byte, error) {
	dec := json.NewDecoder(strings.NewReader(string(js)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return cborEnc.Marshal(cborNumbers(v))
}

// cborNumbers turns JSON numbers into integers where they are written as such, and into floats otherwise.
func cborNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k, e := range v {
			v[k] = cborNumbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = cborNumbers(e)
		}
	}
	return v
}
