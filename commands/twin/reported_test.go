package twin_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/commands/twin"
)

// behindGate is a twin whose writes of reports wait for the test.
func behindGate(t *testing.T, devices ...string) (*node, *bucket) {
	t.Helper()
	b := openBus(t, t.TempDir(), "")
	t.Cleanup(func() { _ = b.Close() })
	var g *bucket
	n := start(t, b, newFleet(devices...), newSockets(devices...), func(kv jetstream.KeyValue) jetstream.KeyValue {
		g = gated(kv)
		return g
	})
	return n, g
}

// A device that never stops talking costs as many writes as there is time for, not as many as it says.
func TestReportsCoalesce(t *testing.T) {
	n, g := behindGate(t, "d", "e")
	sub := n.events()
	n.mustReport("d", `{"n":0,"first":true,"gone":1}`)
	<-g.entered // and the write hangs
	for i := 1; i <= 1000; i++ {
		n.mustReport("d", fmt.Sprintf(`{"n":%d,"k%d":1}`, i, i%10))
	}
	n.mustReport("d", `{"gone":null}`)
	n.mustReport("e", `{"quiet":true}`) // a write that hangs delays no other device
	if key := <-g.entered; key != "reported.e" {
		t.Fatalf("write of %s, want reported.e", key)
	}
	close(g.gate)
	s := until(t, sub, func(s twin.State) bool { return strings.Contains(string(s.Reported), `"n":1000}`) })
	const want = `{"first":true,"k0":1,"k1":1,"k2":1,"k3":1,"k4":1,"k5":1,"k6":1,"k7":1,"k8":1,"k9":1,"n":1000}`
	if string(s.Reported) != want || s.ReportedVersion != 2 {
		t.Errorf("reported %d %s, want 2 %s", s.ReportedVersion, s.Reported, want)
	}
	if reports, writes := n.counted("fairlead_twin_reports_total"), n.counted("fairlead_twin_report_writes_total"); reports != 1003 || writes != 3 {
		t.Errorf("%v reports, %v writes; want 1003 and 3", reports, writes)
	}
}

// A report that says nothing new is not written.
func TestSameReport(t *testing.T) {
	n := alone(t, "d")
	sub := n.events()
	n.mustReport("d", `{"a":1,"b":{"c":2}}`)
	until(t, sub, func(s twin.State) bool { return s.ReportedVersion == 1 })
	if err := n.stop(); err != nil { // so that nothing waits and nothing rests
		t.Fatal(err)
	}
	for _, same := range []string{`{"a":1.0}`, `{"b":{"c":2}}`, `{"z":null}`, `{}`} {
		n.mustReport("d", same)
	}
	if got := n.counted("fairlead_twin_reports_unchanged_total"); got != 4 {
		t.Errorf("counted %v unchanged, want 4", got)
	}
	if err := n.report("d", `{"a":2}`); !errors.Is(err, twin.ErrClosed) {
		t.Errorf("after the end: %v, want %v", err, twin.ErrClosed)
	}
}

// The bucket fails for a while: what was reported stays, below what is reported meanwhile.
func TestReportsSurviveFailure(t *testing.T) {
	n, g := behindGate(t, "d")
	sub := n.events()
	n.mustReport("d", `{"a":{"x":1},"b":1,"c":1}`)
	<-g.entered
	n.mustReport("d", `{"a":2,"b":null}`)
	g.gate <- errors.New("disk on fire")
	n.mustReport("d", `{"a":{"y":1}}`)
	<-g.entered
	g.gate <- errors.New("still on fire")
	<-g.entered
	g.gate <- nil
	until(t, sub, func(s twin.State) bool { return s.ReportedVersion == 1 })
	n.wantState("d", docs(`{}`, 0, `{"a":{"y":1},"c":1}`, 1, `{}`))
}

// What waits when the node stops is stored before it ends.
func TestStopStoresReports(t *testing.T) {
	dir := t.TempDir()
	b := openBus(t, dir, "")
	f := newFleet("d")
	n := start(t, b, f, newSockets(), nil)
	sub := n.events()
	n.mustReport("d", `{"n":1}`)
	until(t, sub, func(s twin.State) bool { return s.ReportedVersion == 1 })
	n.mustReport("d", `{"n":2}`) // rests now
	n.mustPatch("d", `{"n":3}`)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b = openBus(t, dir, "")
	defer b.Close()
	n = start(t, b, f, newSockets("d"), nil)
	n.wantState("d", docs(`{"n":3}`, 1, `{"n":2}`, 2, `{"n":3}`))
	n.Attached("d")
	n.wantSent("d", 1, `{"n":3}`)
	n.mustPatch("d", `{"n":4}`, 1)
	n.wantSent("d", 2, `{"n":4}`)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
}

// A stop with a bucket that takes nothing ends, and says so.
func TestStopWithoutBucket(t *testing.T) {
	n, g := behindGate(t, "d")
	n.mustReport("d", `{"a":1}`)
	<-g.entered
	n.mustReport("d", `{"a":2}`)
	g.gate <- nil
	var all sync.WaitGroup
	all.Go(func() {
		<-g.entered
		g.gate <- errors.New("disk on fire")
	})
	if err := n.stop(); err == nil {
		t.Error("stopped without an error")
	}
	all.Wait()
	n.wantState("d", docs(`{}`, 0, `{"a":1}`, 1, `{}`))
}

// When as much waits as may, the next is refused, and taken again once there is room.
func TestOverload(t *testing.T) {
	const size = 30 << 10
	const fits = twin.MaxPending / size
	f := newFleet()
	for i := range fits + 10 {
		f.set(fmt.Sprintf("d%d", i), true)
	}
	n, g := behindGate(t)
	n.fleet.known = f.known
	body := `{"a":"` + strings.Repeat("x", size) + `"}`
	refused := 0
	for i := range fits + 10 {
		switch err := n.report(fmt.Sprintf("d%d", i), body); {
		case errors.Is(err, twin.ErrOverloaded):
			refused++
		case err != nil:
			t.Fatal(err)
		}
	}
	if refused == 0 || refused > 100 {
		t.Errorf("%d refused, want a few", refused)
	}
	if got := n.counted("fairlead_twin_refused_total", "reported", "overloaded"); got != float64(refused) {
		t.Errorf("counted %v refused, want %d", got, refused)
	}
	// Some devices are deleted, more than can be on their way to the bucket just now, and the last one is heard again.
	for i := 10; i < 30; i++ {
		gone := fmt.Sprintf("d%d", i)
		n.fleet.set(gone, false)
		n.Deleted(gone)
	}
	n.mustReport(fmt.Sprintf("d%d", fits+9), body)

	// Nothing of this is to be written in the end.
	stopped := make(chan error, 1)
	go func() { stopped <- n.stop() }()
	for {
		select {
		case g.gate <- errors.New("disk on fire"):
			continue
		case err := <-stopped:
			if err == nil {
				t.Error("stopped without an error")
			}
			return
		}
	}
}
