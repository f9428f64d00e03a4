package wire

import (
	"encoding/json"
	"fmt"
	"math/big"
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

// cborNumbers turns JSON numbers into integers where they are written as such and CBOR has them without a tag, and into
// floats otherwise. Those beyond any float were refused before they came here.
func cborNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, ok := new(big.Int).SetString(string(v), 10); ok && magnitude(n).BitLen() <= 64 {
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

// magnitude is the argument of an integer's head [RFC8949 3.1].
func magnitude(n *big.Int) *big.Int {
	if n.Sign() < 0 {
		return new(big.Int).Not(n)
	}
	return n
}
