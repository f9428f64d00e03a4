package twin_test

import (
	"errors"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/twin"
)

// A deleted device leaves nothing but its versions: one that comes back under its id never sees them fall.
func TestRemove(t *testing.T) {
	n := alone(t, "d", "e")
	sub := n.events()
	n.mustPatch("d", `{"a":1}`)
	n.wantSent("d", 1, `{"a":1}`)
	n.mustReport("d", `{"a":1}`)
	until(t, sub, func(s twin.State) bool { return s.ReportedVersion == 1 })
	n.mustPatch("e", `{"a":1}`)
	n.mustReport("d", `{"a":"waits"}`)

	n.fleet.set("d", false)
	if err := n.Remove(within(t), "d"); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(within(t), "d"); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := n.report("d", `{"a":2}`); !errors.Is(err, twin.ErrUnknownDevice) {
		t.Errorf("report of a deleted device: %v", err)
	}
	n.fleet.set("d", true)
	n.wantState("d", docs(`{}`, 2, `{}`, 2, `{}`))
	n.Attached("d")
	n.mustPatch("d", `{"b":1}`)
	n.wantSent("d", 3, `{"b":1}`)
	n.wantState("e", docs(`{"a":1}`, 1, `{}`, 0, `{"a":1}`))
}

// Deleted is the way of the record's watch; it spares a device that is known again.
func TestDeleted(t *testing.T) {
	n := alone(t, "d", "e")
	n.mustPatch("d", `{"a":1}`)
	n.mustPatch("e", `{"a":1}`)
	n.Deleted("e")
	n.fleet.set("d", false)
	n.Deleted("d")
	n.wantStored("desired.d", `{"version":2}`)
	n.wantState("e", docs(`{"a":1}`, 1, `{}`, 0, `{"a":1}`))
}

// Devices deleted while no node looked are found at the next start.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	b := openBus(t, dir, "")
	n := start(t, b, newFleet("d", "e"), newSockets(), nil)
	n.mustPatch("d", `{"a":1}`)
	n.mustPatch("e", `{"a":1}`)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n = start(t, b, newFleet("e"), newSockets(), nil)
	n.wantStored("desired.d", `{"version":2}`)
	n.wantState("e", docs(`{"a":1}`, 1, `{}`, 0, `{"a":1}`))
	if err := errors.Join(n.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
}

// wantStored waits until the bucket holds a value.
func (n *node) wantStored(key, value string) {
	n.t.Helper()
	w, err := n.kv.Watch(within(n.t), key)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = w.Stop() }()
	for e := range w.Updates() {
		if e != nil && string(e.Value()) == value {
			return
		}
	}
	n.t.Fatalf("%s never became %s", key, value)
}
