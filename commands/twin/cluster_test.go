package twin_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/twin"
)

// two are two nodes on one NATS; the second has the sockets.
func two(t *testing.T, devices ...string) (a, b *node) {
	t.Helper()
	url := natsServer(t)
	f := newFleet(devices...)
	var nodes []*node
	for i := range 2 {
		bus := openBus(t, "", url)
		t.Cleanup(func() { _ = bus.Close() })
		s := newSockets()
		if i == 1 {
			s = newSockets(devices...)
		}
		nodes = append(nodes, start(t, bus, f, s, nil))
	}
	return nodes[0], nodes[1]
}

func TestTwoNodes(t *testing.T) {
	a, b := two(t, "d")
	heard := b.events()

	// The operator is at one node, the socket at the other.
	a.mustPatch("d", `{"mode":"eco"}`)
	b.wantSent("d", 1, `{"mode":"eco"}`)
	b.wantState("d", docs(`{"mode":"eco"}`, 1, `{}`, 0, `{"mode":"eco"}`))
	b.Attached("d")
	b.wantSent("d", 1, `{"mode":"eco"}`)

	// A version seen at one counts at the other at once.
	s := b.mustPatch("d", `{"level":1}`, 1)
	s = a.mustPatch("d", `{"level":2}`, s.DesiredVersion)
	s = b.mustPatch("d", `{"level":3}`, s.DesiredVersion)
	if s.DesiredVersion != 4 {
		t.Errorf("version %d, want 4", s.DesiredVersion)
	}

	// What the device reports at its node the other one's operators see.
	b.mustReport("d", `{"mode":"eco","level":3}`)
	until(t, heard, func(s twin.State) bool { return s.ReportedVersion == 1 && string(s.Difference) == `{}` })
	w, err := a.kv.Watch(within(t), "reported.d")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	<-w.Updates()
	s = a.mustPatch("d", `{"level":4}`)
	if s.DesiredVersion != 5 {
		t.Errorf("version %d, want 5", s.DesiredVersion)
	}
}

// Operators at both nodes write different keys at the same time: all land, each with a version of its own.
func TestTwoNodesRace(t *testing.T) {
	a, b := two(t, "d")
	const each = 25
	var all sync.WaitGroup
	for i, n := range []*node{a, b} {
		for k := range each {
			all.Go(func() {
				if _, err := n.patch("d", fmt.Sprintf(`{"n%d":{"k%d":1}}`, i, k)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	s := a.mustPatch("d", `{"n0":null,"n1":null}`, 2*each)
	if s.DesiredVersion != 2*each+1 || string(s.Desired) != `{}` {
		t.Errorf("%s", text(s))
	}
	if a.counted("fairlead_twin_conflicts_total")+b.counted("fairlead_twin_conflicts_total") == 0 {
		t.Error("no conflicts: the race was none")
	}
}

// A device moves from one node to the other while its reports wait there: neither node loses what the other stored.
func TestReportsOfBothNodes(t *testing.T) {
	a, b := two(t, "d")
	heard := b.events()
	a.mustReport("d", `{"a":1,"both":"a"}`)
	until(t, heard, func(s twin.State) bool { return s.ReportedVersion == 1 })
	b.mustReport("d", `{"b":1,"both":"b"}`)
	until(t, heard, func(s twin.State) bool { return s.ReportedVersion == 2 })
	a.mustReport("d", `{"a":2}`)
	s := until(t, heard, func(s twin.State) bool { return s.ReportedVersion == 3 })
	if want := `{"a":2,"b":1,"both":"b"}`; string(s.Reported) != want {
		t.Errorf("reported %s, want %s", s.Reported, want)
	}
}
