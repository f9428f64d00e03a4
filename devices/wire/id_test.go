package wire_test

import (
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// FuzzID holds that an id stays one word wherever it is put, and that any name can be made one.
func FuzzID(f *testing.F) {
	for _, id := range []string{"pump-7", "a", "A:b_c-9", "", "*", ">", "a.b", "a/b", "a b", "-a", "a\r\nPUB x 1", "рump", "\xff", strings.Repeat("a", 64), strings.Repeat("a", 65)} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if wire.CheckID(id) == nil {
			if id == "" || len(id) > wire.MaxID || strings.ContainsAny(id, ".*>+#/$ \t\r\n\x00\\\"'=,") || strings.ToValidUTF8(id, "") != id {
				t.Fatalf("%q is an id", id)
			}
			if wire.CleanID(id) != id {
				t.Fatalf("%q became %q", id, wire.CleanID(id))
			}
			return
		}
		clean := wire.CleanID(id)
		if err := wire.CheckID(clean); err != nil {
			t.Fatalf("%q became %q: %v", id, clean, err)
		}
		if again := wire.CleanID(clean); again != clean {
			t.Fatalf("%q became %q and then %q", id, clean, again)
		}
	})
}
