package devices_test

import (
	"testing"

	"github.com/fairlead-hub/fairlead/devices"
)

// FuzzWalker holds that the way a stream is cut into reads changes nothing.
func FuzzWalker(f *testing.F) {
	f.Add(cat(text(point(1)), maskedFrame(0x01, []byte("a")), maskedFrame(0x89, nil), maskedFrame(0x80, make([]byte, 300))), byte(3))
	f.Add(frameHeader(0x82, 70_000), byte(1))
	f.Fuzz(func(t *testing.T, stream []byte, cut byte) {
		whole := devices.Walk(stream, len(stream)+1)
		if parts := devices.Walk(stream, int(cut)+1); parts != whole {
			t.Fatalf("whole %+v, in parts of %d %+v", whole, int(cut)+1, parts)
		}
	})
}
