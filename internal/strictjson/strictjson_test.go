package strictjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/internal/strictjson"
)

type part struct {
	Name  string  `json:"name"`
	Count int     `json:"count"`
	Ratio float64 `json:"ratio"`
}

type whole struct {
	part
	Parts []part            `json:"parts"`
	Free  json.RawMessage   `json:"free"`
	Tags  map[string]string `json:"tags"`
	On    *bool             `json:"on"`
}

func TestDecode(t *testing.T) {
	for _, tc := range []struct {
		text       string
		code, path string // of Decode
		open       string // the code of DecodeOpen
		says       string
	}{
		{`{"name":"a","parts":[{"name":"b","count":-1}],"free":{"x":[1]},"tags":{"k":"v"},"on":true} `, "", "", "", ""},
		{`{"on":null,"parts":null}`, "", "", "", ""},
		{`{"name":"a","name":"b"}`, strictjson.Twice, "name", strictjson.Twice, "name is there twice"},
		{`{"parts":[{},{"count":1,"count":1}]}`, strictjson.Twice, "parts[1].count", strictjson.Twice, "twice"},
		{`{"tags":{"a":"1","a":"2"}}`, strictjson.Twice, "tags.a", strictjson.Twice, "twice"},
		{`{"free":{"a":1,"a":2}}`, strictjson.Twice, "free.a", "", "twice"},
		{`{"nome":"a"}`, strictjson.Unknown, "nome", "", "nome is not a field here"},
		{`{"nome":{"a":1,"a":[{}]},"name":"a"}`, strictjson.Unknown, "nome", "", ""},
		{`{"Name":"a"}`, strictjson.Unknown, "Name", "", ""},
		{`{"name":5}`, strictjson.WrongType, "name", strictjson.WrongType, "name is a number, want a string"},
		{`{"on":"yes"}`, strictjson.WrongType, "on", strictjson.WrongType, "on is a string, want a boolean"},
		{`{"count":1.5}`, strictjson.WrongType, "count", strictjson.WrongType, "count is 1.5, want a whole number in range"},
		{`{"ratio":1e400}`, strictjson.WrongType, "ratio", strictjson.WrongType, "ratio is 1e400, want a number in range"},
		{`{"parts":[{"name":"a"},{"name":true}]}`, strictjson.WrongType, "parts[1].name", strictjson.WrongType, "parts[1].name is a boolean"},
		{`{"name":7}`, strictjson.WrongType, "name", strictjson.WrongType, "name is a number, want a string"},
		{`{"parts":{}}`, strictjson.WrongType, "parts", strictjson.WrongType, "want an array"},
		{`{"tags":[]}`, strictjson.WrongType, "tags", strictjson.WrongType, "want an object"},
		{`null`, strictjson.WrongType, "", strictjson.WrongType, "the whole is null, want an object"},
		{`[]`, strictjson.WrongType, "", strictjson.WrongType, "the whole is an array, want an object"},
		{`{"name":"a"`, strictjson.Malformed, "", strictjson.Malformed, "ends too early"},
		{``, strictjson.Malformed, "", strictjson.Malformed, "ends too early"},
		{`{"name":"a"} {}`, strictjson.Malformed, "", strictjson.Malformed, "follows"},
		{`{"free":{"a":}}`, strictjson.Malformed, "", strictjson.Malformed, "not JSON"},
		{"{\"name\":\"\xff\"}", strictjson.Malformed, "", strictjson.Malformed, "UTF-8"},
		{`{"free":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`, strictjson.Malformed, "", "", "deeper"},
	} {
		var v whole
		code, path, says := told(strictjson.Decode([]byte(tc.text), &v))
		if code != tc.code || path != tc.path || !strings.Contains(says, tc.says) {
			t.Errorf("%.60s: %s at %q: %q; want %s at %q: %q", tc.text, code, path, says, tc.code, tc.path, tc.says)
		}
		if code, _, says := told(strictjson.DecodeOpen([]byte(tc.text), &v)); code != tc.open {
			t.Errorf("%.60s, open: %s, %q; want %q", tc.text, code, says, tc.open)
		}
	}
}

func told(err error) (code, path, says string) {
	if err == nil {
		return "", "", ""
	}
	f := (*strictjson.Fault)(nil)
	if !errors.As(err, &f) {
		return "not a fault", "", err.Error()
	}
	return f.Code, f.Path, f.Error()
}
