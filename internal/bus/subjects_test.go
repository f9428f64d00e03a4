package bus_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// subjects are all builders that take a name from outside; the live ones take "*" too.
var subjects = map[string]struct {
	build func(string) (string, error)
	wild  bool
}{
	"deadletter": {bus.DeadletterSubject, false},
	"command":    {bus.CommandSubject, false},
	"pointed":    {bus.NodePointed, false},
	"presence":   {bus.PresenceEvent, true},
	"telemetry":  {bus.TelemetryEvent, true},
	"commands":   {bus.CommandEvent, true},
	"state":      {bus.StateEvent, true},
	"trace":      {bus.TraceEvent, true},
}

// bucketKey is what JetStream takes as a key.
var bucketKey = regexp.MustCompile(`^[-/_=\.a-zA-Z0-9]+$`)

// FuzzSubject holds that no name reaches another's subject, a wildcard, or a line of the bus's protocol; and that a
// key of a bucket names the device that it was made of.
func FuzzSubject(f *testing.F) {
	for _, name := range []string{"pump-7", "a:b", "", "*", ">", "a.b", "a.>", "a b", "a\r\nPUB x 1", "$JS.API", "é", "-a", "a=b", strings.Repeat("x", 64), strings.Repeat("x", 5000)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		good := wire.CheckID(name) == nil
		var seen []string
		for kind, s := range subjects {
			subject, err := s.build(name)
			if allowed := good || s.wild && name == "*"; (err == nil) != allowed {
				t.Fatalf("%s subject of %q: %q, %v", kind, name, subject, err)
			}
			if err != nil {
				if subject != "" {
					t.Fatalf("%s subject of %q is refused and %q", kind, name, subject)
				}
				continue
			}
			if slices.Contains(seen, subject) || !server.IsValidSubject(subject) || len(subject) > 100 {
				t.Fatalf("%s subject of %q: %q", kind, name, subject)
			}
			seen = append(seen, subject)
			if good && (!server.IsValidLiteralSubject(subject) || strings.Count(subject, ".") > 2 || !strings.Contains(subject, name)) {
				t.Fatalf("%s subject of %q: %q", kind, name, subject)
			}
		}
		key, err := bus.DeviceKey(name)
		if (err == nil) != good {
			t.Fatalf("key of %q: %q, %v", name, key, err)
		}
		if err == nil {
			if back, err := bus.KeyDevice(key); err != nil || back != name || !bucketKey.MatchString(key) {
				t.Fatalf("key of %q: %q, which names %q, %v", name, key, back, err)
			}
		}
	})
}
