package twin_test

import (
	"encoding/json"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/twin"
)

// The cases of RFC 7396, appendix A, and some beyond.
func TestMerge(t *testing.T) {
	for _, c := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},

		{`{"a":[1,null]}`, `{"b":[null]}`, `{"a":[1,null],"b":[null]}`},
		{`{"n":1}`, `{"n":12345678901234567890,"m":1.50,"e":1E+2}`, `{"e":1E+2,"m":1.50,"n":12345678901234567890}`},
		{`{"h":"<b>&"}`, `{}`, `{"h":"<b>&"}`},
		{`{"a":1}`, `{"a":{"b":null,"c":{"d":null}}}`, `{"a":{"c":{}}}`},
	} {
		got, err := twin.Merge(json.RawMessage(c.target), json.RawMessage(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("%s + %s: %s %v, want %s", c.target, c.patch, got, err, c.want)
		}
	}
	for _, bad := range []string{``, `{`, `{} {}`, `{"a":01}`, `nul`} {
		if got, err := twin.Merge(json.RawMessage(`{}`), json.RawMessage(bad)); err == nil {
			t.Errorf("patch %q: %s, want an error", bad, got)
		}
	}
}

// Two patches composed do what they do one after the other, also where merge patches alone could not say it.
func TestCompose(t *testing.T) {
	for _, c := range []struct{ target, older, newer, want string }{
		{`{"a":{"c":1}}`, `{"a":1}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"a":{"c":1}}`, `{"a":null}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{`{"a":{"c":1}}`, `{"a":[1]}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{`{"a":{"c":1}}`, `{"b":1}`, `{"a":{"b":1}}`, `{"a":{"b":1,"c":1},"b":1}`},
		{`{"a":{"c":1}}`, `{"a":{"d":1}}`, `{"a":{"c":null}}`, `{"a":{"d":1}}`},
		{`{"x":1}`, `{"x":null}`, `{"x":2}`, `{"x":2}`},
		{`{"x":1}`, `{"x":2}`, `{"x":null}`, `{}`},
	} {
		got, err := twin.MergeBoth(json.RawMessage(c.target), json.RawMessage(c.older), json.RawMessage(c.newer))
		if err != nil || string(got) != c.want {
			t.Errorf("%s + %s + %s: %s %v, want %s", c.target, c.older, c.newer, got, err, c.want)
		}
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct{ desired, reported, want string }{
		{`{}`, `{"a":1}`, `{}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":1}`, `{"a":1}`, `{}`},
		{`{"a":21}`, `{"a":21.0}`, `{}`},
		{`{"a":20}`, `{"a":2e1}`, `{}`},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, `{"a":9007199254740993}`},
		{`{"a":-0}`, `{"a":0}`, `{}`},
		{`{"a":0}`, `{"a":1}`, `{"a":0}`},
		{`{"a":-1}`, `{"a":1}`, `{"a":-1}`},
		{`{"a":"1"}`, `{"a":1}`, `{"a":"1"}`},
		{`{"a":true}`, `{"a":false}`, `{"a":true}`},
		{`{"a":true}`, `{"a":{}}`, `{"a":true}`},
		{`{"a":"x"}`, `{"a":["x"]}`, `{"a":"x"}`},
		{`{"a":{"b":1,"c":{"d":2}}}`, `{"a":{"b":1,"c":{"d":3,"e":4}}}`, `{"a":{"c":{"d":2}}}`},
		{`{"a":{}}`, `{}`, `{"a":{}}`},
		{`{"a":{}}`, `{"a":{"x":1}}`, `{}`},
		{`{"a":{"b":1}}`, `{"a":1}`, `{"a":{"b":1}}`},
		{`{"a":[1,{"b":2}]}`, `{"a":[1.0,{"b":2}]}`, `{}`},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[1,2]}`},
		{`{"a":[1]}`, `{"a":[1,2]}`, `{"a":[1]}`},
	} {
		got, err := twin.Difference(json.RawMessage(c.desired), json.RawMessage(c.reported))
		if err != nil || string(got) != c.want {
			t.Errorf("%s - %s: %s %v, want %s", c.desired, c.reported, got, err, c.want)
		}
	}
}

// The laws that the rest relies on: a patch twice is a patch once, a composition is both, and a document that reports
// what is desired has no difference.
func FuzzMerge(f *testing.F) {
	for _, seed := range [][3]string{
		{`{"a":{"c":1}}`, `{"a":1}`, `{"a":{"b":null}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1],"b":{"x":{"y":null}}}`, `{"b":{"x":1},"a":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `null`},
		{`{"e":null}`, `{"e":{"e":{"e":1.0}}}`, `{"e":{"e":null}}`},
		{`1`, `{}`, `{"":{"":{"":null}}}`},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, target, older, newer string) {
		once, err := twin.Merge(json.RawMessage(target), json.RawMessage(older))
		if err != nil {
			return
		}
		again, err := twin.Merge(once, json.RawMessage(older))
		if err != nil || string(again) != string(once) {
			t.Fatalf("%s + %s: %s, and again: %s %v", target, older, once, again, err)
		}
		both, err := twin.Merge(once, json.RawMessage(newer))
		if err != nil {
			return
		}
		composed, err := twin.MergeBoth(json.RawMessage(target), json.RawMessage(older), json.RawMessage(newer))
		if err != nil || string(composed) != string(both) {
			t.Fatalf("%s + %s + %s: %s, composed %s %v", target, older, newer, both, composed, err)
		}
		if diff, err := twin.Difference(both, both); err == nil && string(diff) != `{}` {
			t.Fatalf("%s differs from itself by %s", both, diff)
		}
	})
}
