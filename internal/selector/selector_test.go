package selector_test

import (
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/internal/selector"
)

func TestMatch(t *testing.T) {
	labels := map[string]string{
		"site": "plant-7", "line": "3", "critical": "", "name": "pump (old), 5=V", "path": `C:\a`, "edge": " b ",
	}
	for s, want := range map[string]bool{
		"": true, " ": true, "site=plant-7": true, "site = plant-7": true, "site=plant-8": false,
		"site!=plant-8": true, "site!=plant-7": false, "critical": true, "!critical": false, "!retired": true,
		"retired": false, "site=plant-7,line=3": true, "site=plant-7,line=4": false, "shelf!=1": true,
		"site in (plant-7, plant-8),line=3": true, "site notin (plant-7,plant-8)": false, "shelf notin (1,2)": true,
		"shelf in (1)": false, "critical=": true, "critical!=": false,
		`name=pump \(old\)\, 5\=V`: true, `name!=pump \(old\)\, 5\=V`: false, `name in (a, pump \(old\)\, 5\=V),line=3`: true,
		`name=pump`: false, `path=C:\\a`: true, `edge=\ b\ `: true, `edge= b `: false, `edge notin (\ b\ ,c)`: false,
	} {
		sel, err := selector.Parse(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		if got := sel.Match(labels); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
		again, err := selector.Parse(sel.String())
		if err != nil || again.Match(labels) != want {
			t.Errorf("%q written as %q: %v, %v", s, sel, again.Match(labels), err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		",", "=x", "!=x", "a=b=c", "a=b,,c=d", "!", "!!a", "a in b", "a in (b", "a of (b)", "(a)", "a=(b)", "a in (b,(c))", "a b", strings.Repeat("a", selector.MaxLength+1),
		strings.Repeat("a,", selector.MaxTerms) + "a", `a=b\`, `a=b\c`, `a\=b`, `a\ =b`, "a=\xff",
	} {
		if sel, err := selector.Parse(s); err == nil {
			t.Errorf("%q was read as %q", s, sel)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{"", "a=b", "a!=b,c in (d,e),!f", "a notin (b)", "a in (", ",,", "a in (b,c),d"} {
		f.Add(s)
	}
	labels := map[string]string{"a": "b"}
	f.Fuzz(func(t *testing.T, s string) {
		sel, err := selector.Parse(s)
		if err == nil {
			sel.Match(nil)
			if again, err := selector.Parse(sel.String()); err == nil && again.Match(labels) != sel.Match(labels) {
				t.Errorf("%q written as %q means something else", s, sel)
			}
		}
	})
}
