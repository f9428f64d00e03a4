package bridge_test

import (
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/bridge"
)

func TestCheckTopic(t *testing.T) {
	for topic, good := range map[string]bool{
		"a": true, "a/b": true, "/": true, "a//b": true, "é/ü": true, "a b": true,
		"": false, "a/#": false, "a/+/b": false, "a\x00b": false, "\xff": false, "$SYS/x": false, "$share/g/a": false,
		"a\nb": false, "a\u0085": false, "a\ufffe": false, "\xed\xa0\x80": false,
		strings.Repeat("x", 65535): true, strings.Repeat("x", 65536): false,
	} {
		if err := bridge.CheckTopic(topic); (err == nil) != good {
			t.Errorf("%.20q: %v, want good=%v", topic, err, good)
		}
	}
	for filter, good := range map[string]bool{
		"#": true, "a/#": true, "+/+": true, "a/+/b": true,
		"a#": false, "#/a": false, "a+/b": false, "$SYS/#": false, "": false, "a/\x00": false,
	} {
		if err := bridge.CheckFilter(filter); (err == nil) != good {
			t.Errorf("filter %q: %v, want good=%v", filter, err, good)
		}
	}
}

func TestMatchAndOverlap(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"#", "a/b", true},
		{"#", "$SYS/a", false},
		{"+/b", "a/b", true},
		{"+/b", "a/c", false},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/+", "a", false},
		{"a/+", "a/b/c", false},
		{"a", "a", true},
		{"a/b", "a", false},
		{"+", "a/b", false},
		{"a/+/#", "a/b", true},
		{"+/+", "/a", true},
		{"a//b", "a//b", true},
	} {
		if got := bridge.Matches(c.filter, c.topic); got != c.want {
			t.Errorf("Matches(%q, %q) = %v", c.filter, c.topic, got)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a/b", "a/b", true},
		{"a/+", "+/b", true},
		{"a/b", "a/c", false},
		{"#", "x/y", true},
		{"a/#", "a", true},
		{"a/+", "a", false},
		{"a/b/c", "a/+/d", false},
		{"out/+/+", "out/#", true},
		{"out/+", "in/#", false},
		{"+/x", "y/+/z", false},
	} {
		if bridge.Overlap(c.a, c.b) != c.want || bridge.Overlap(c.b, c.a) != c.want {
			t.Errorf("Overlap(%q, %q) is not %v both ways", c.a, c.b, c.want)
		}
	}
}

// What matches both filters shows that they overlap.
func FuzzOverlap(f *testing.F) {
	f.Add("a/+", "+/b", "a/b")
	f.Add("#", "a/#", "a")
	f.Fuzz(func(t *testing.T, a, b, topic string) {
		if bridge.CheckFilter(a) != nil || bridge.CheckFilter(b) != nil || bridge.CheckTopic(topic) != nil {
			return
		}
		if bridge.Matches(a, topic) && bridge.Matches(b, topic) && !bridge.Overlap(a, b) {
			t.Errorf("%q is covered by %q and %q, which are said not to overlap", topic, a, b)
		}
	})
}
