package api

import (
	"errors"

	"github.com/fairlead-hub/fairlead/internal/strictjson"
)

// decodeStrict reads data into v, a pointer to a struct. It fails with an *Invalid.
func decodeStrict(data []byte, v any) error {
	err := strictjson.Decode(data, v)
	if f := (*strictjson.Fault)(nil); errors.As(err, &f) {
		return &Invalid{Code: f.Code, Path: f.Path, Detail: f.Detail, Hint: f.Hint}
	}
	return err
}
