package twin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/twin"
)

func TestVersionsGrow(t *testing.T) {
	n := alone(t, "d")
	n.wantState("d", docs(`{}`, 0, `{}`, 0, `{}`))
	n.mustPatch("d", `{"setpoint":21.50,"led":{"red":1}}`)
	n.mustPatch("d", `{"led":{"green":2}}`, 1)
	n.wantState("d", docs(`{"led":{"green":2,"red":1},"setpoint":21.50}`, 2, `{}`, 0, `{"led":{"green":2,"red":1},"setpoint":21.50}`))

	// What changes nothing is no new version, also if it says the same in other digits, and the device hears nothing.
	for _, same := range []string{`{}`, `{"setpoint":21.5}`, `{"gone":null}`, `{"led":{}}`} {
		if s := n.mustPatch("d", same); s.DesiredVersion != 2 {
			t.Errorf("%s: version %d, want 2", same, s.DesiredVersion)
		}
	}
	n.mustPatch("d", `{"led":null,"setpoint":null}`)
	n.wantState("d", docs(`{}`, 3, `{}`, 0, `{}`))
	if got := n.counted("fairlead_twin_desired_changes_total"); got != 3 {
		t.Errorf("counted %v changes, want 3", got)
	}
}

func TestIfMatch(t *testing.T) {
	n := alone(t, "d")
	n.mustPatch("d", `{"a":1}`, 0)
	for _, stale := range []uint64{0, 2, 99} {
		if _, err := n.patch("d", `{"a":2}`, stale); !errors.Is(err, twin.ErrVersionMismatch) {
			t.Errorf("version %d: %v, want %v", stale, err, twin.ErrVersionMismatch)
		}
	}
	n.wantState("d", docs(`{"a":1}`, 1, `{}`, 0, `{"a":1}`))
	n.mustPatch("d", `{"a":2}`, 1)
	n.wantState("d", docs(`{"a":2}`, 2, `{}`, 0, `{"a":2}`))
	if got := n.counted("fairlead_twin_refused_total", "desired", "version_mismatch"); got != 3 {
		t.Errorf("counted %v refusals, want 3", got)
	}
}

// Of operators who have all seen the same version exactly one may write.
func TestIfMatchRace(t *testing.T) {
	n := alone(t, "d")
	const operators = 16
	var all sync.WaitGroup
	errs := make([]error, operators)
	for i := range operators {
		all.Go(func() { _, errs[i] = n.patch("d", fmt.Sprintf(`{"by":%d}`, i+1), 0) })
	}
	all.Wait()
	wrote := 0
	for _, err := range errs {
		if err == nil {
			wrote++
		} else if !errors.Is(err, twin.ErrVersionMismatch) {
			t.Error(err)
		}
	}
	if s := n.state("d"); wrote != 1 || s.DesiredVersion != 1 {
		t.Errorf("%d wrote, version %d; want 1 and 1", wrote, s.DesiredVersion)
	}
}

func TestRefusals(t *testing.T) {
	n := alone(t, "d")
	n.mustPatch("d", `{"a":1}`)
	n.mustReport("d", `{"a":1}`)
	fill := strings.Repeat("x", twin.MaxDocument)
	half := strings.Repeat("y", twin.MaxDocument/2)
	deep := func(levels int) string {
		return strings.Repeat(`{"a":`, levels-1) + `{}` + strings.Repeat(`}`, levels-1)
	}
	for _, c := range []struct {
		name, device, patch string
		want                error
	}{
		{"unknown", "e", `{"a":2}`, twin.ErrUnknownDevice},
		{"empty", "d", ``, twin.ErrInvalid},
		{"null", "d", `null`, twin.ErrInvalid},
		{"array", "d", `[1]`, twin.ErrInvalid},
		{"text", "d", `"a"`, twin.ErrInvalid},
		{"broken", "d", `{"a":`, twin.ErrInvalid},
		{"two", "d", `{"a":2}{"a":3}`, twin.ErrInvalid},
		{"infinite", "d", `{"a":1e999}`, twin.ErrInvalid},
		{"deep", "d", deep(twin.MaxDepth + 1), twin.ErrInvalid},
		{"deep array", "d", `{"a":` + strings.Repeat(`[`, twin.MaxDepth) + strings.Repeat(`]`, twin.MaxDepth) + `}`, twin.ErrInvalid},
		{"large", "d", `{"big":"` + fill + `"}`, twin.ErrTooLarge},
		{"no device", "*", `{"a":2}`, twin.ErrUnknownDevice},
	} {
		if _, err := n.patch(c.device, c.patch); !errors.Is(err, c.want) {
			t.Errorf("desired, %s: %v, want %v", c.name, err, c.want)
		}
		if err := n.report(c.device, c.patch); !errors.Is(err, c.want) {
			t.Errorf("reported, %s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := n.report("d", `{"a":"`+strings.Repeat("z", twin.MaxPatch)+`"}`); !errors.Is(err, twin.ErrTooLarge) {
		t.Errorf("report: %v, want %v", err, twin.ErrTooLarge)
	}
	if _, err := n.State(within(t), "e"); !errors.Is(err, twin.ErrUnknownDevice) {
		t.Errorf("state: %v, want %v", err, twin.ErrUnknownDevice)
	}
	if s := n.state("d"); string(s.Desired) != `{"a":1}` || s.DesiredVersion != 1 {
		t.Errorf("changed by what was refused: %s", text(s))
	}
	// Just within the bounds. Two halves are one too many, and what is deleted makes room.
	n.mustPatch("d", deep(twin.MaxDepth))
	n.mustPatch("d", `{"a":null,"one":"`+half+`"}`)
	if _, err := n.patch("d", `{"two":"`+half+`"}`); !errors.Is(err, twin.ErrTooLarge) {
		t.Errorf("two halves: %v, want %v", err, twin.ErrTooLarge)
	}
	n.mustPatch("d", `{"one":null,"two":"`+half+`"}`)
}

// The size of a document is that of its JSON, also when it is all characters that some encoders blow up.
func TestLargestDocument(t *testing.T) {
	n := alone(t, "d")
	body := `{"a":"` + strings.Repeat("<", twin.MaxDocument-len(`{"a":""}`)) + `"}`
	n.mustPatch("d", body)
	n.mustReport("d", body)
	n.wantSent("d", 1, body)
	sub := n.events()
	n.mustReport("d", body[:len(body)-3]+`"}`)
	s := until(t, sub, func(s twin.State) bool { return len(s.Reported) == twin.MaxDocument-1 })
	if len(s.Desired) != twin.MaxDocument {
		t.Errorf("desired has %d bytes, want %d", len(s.Desired), twin.MaxDocument)
	}
}

func TestDelivery(t *testing.T) {
	n := alone(t, "d", "e")

	// Who attaches without a document hears nothing; who has one hears it whole, each time.
	n.Attached("d")
	n.mustPatch("d", `{"a":1}`)
	n.wantSent("d", 1, `{"a":1}`)
	n.Attached("d")
	n.wantSent("d", 1, `{"a":1}`)
	n.mustPatch("d", `{"b":2}`)
	n.wantSent("d", 2, `{"a":1,"b":2}`)
	n.mustPatch("d", `{"a":null,"b":null}`)
	n.wantSent("d", 3, `{}`)
	n.Attached("d")
	n.wantSent("d", 3, `{}`)

	// What it reports, and what changes nothing, is not sent back. The next it hears is the next change.
	n.mustReport("d", `{"a":1}`)
	n.mustPatch("d", `{"nothing":null}`)
	n.mustPatch("d", `{"c":3}`)
	n.wantSent("d", 4, `{"c":3}`)
	if got := n.counted("fairlead_twin_deliveries_total", "written"); got != 6 {
		t.Errorf("counted %v deliveries, want 6", got)
	}
	if got := len(n.sockets.of("e")); got != 0 {
		t.Errorf("another device was sent %d documents", got)
	}
}

// A device that does not read delays nobody, and then hears only the newest.
func TestSlowDevice(t *testing.T) {
	n := alone(t, "slow", "quick")
	tried, free := n.sockets.jam("slow")
	defer free()
	n.mustPatch("slow", `{"n":1}`)
	<-tried
	for i := 2; i <= 20; i++ {
		n.mustPatch("slow", fmt.Sprintf(`{"n":%d}`, i))
	}
	n.mustPatch("quick", `{"n":1}`)
	n.wantSent("quick", 1, `{"n":1}`)
	free()
	n.wantSent("slow", 1, `{"n":1}`)
	n.wantSent("slow", 20, `{"n":20}`)
	if got := len(tried); got != 1 {
		t.Errorf("%d more writes to the slow device, want 1", got)
	}
}

func TestManyDevices(t *testing.T) {
	var ids []string
	for i := range 200 {
		ids = append(ids, fmt.Sprintf("d%d", i))
	}
	n := alone(t, ids...)
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			n.mustReport(id, `{"id":"`+id+`"}`)
			if _, err := n.patch(id, `{"id":"`+id+`"}`); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		n.wantSent(id, 1, `{"id":"`+id+`"}`)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		n.wantState(id, docs(`{"id":"`+id+`"}`, 1, `{"id":"`+id+`"}`, 1, `{}`))
	}
}

func TestDesiredEvent(t *testing.T) {
	n := alone(t, "d")
	sub := n.events()
	n.mustPatch("d", `{"a":{"b":1}}`)
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"event":"state","device":"d","desired":{"a":{"b":1}},"desired_version":1,"reported":{},"reported_version":0,"difference":{"a":{"b":1}}}`
	if string(m.Data) != want {
		t.Errorf("event\n got %s\nwant %s", m.Data, want)
	}
	if !json.Valid(m.Data) {
		t.Error("not JSON")
	}
}
