package commands_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// anyEntry is what some node might write, right or wrong.
func anyEntry(rnd *rand.Rand, id string, time int64, c *commands.Folded) commands.Entry {
	e := commands.Entry{
		Kind: commands.Kinds[rnd.IntN(len(commands.Kinds))], ID: id, Time: time,
		Node: fmt.Sprintf("n%d", rnd.IntN(3)), Attempt: rnd.IntN(3), Session: "s", Actor: fmt.Sprintf("a%d", rnd.IntN(3)),
		Try: rnd.IntN(c.Try() + 2),
	}
	if rnd.IntN(2) == 0 {
		e.Basis = c.Revision()
	}
	switch e.Kind {
	case "accept":
		e.Answer = &commands.Answer{}
	case "progress":
		e.Answer = &commands.Answer{Percent: 50}
	case "result":
		e.Answer = &commands.Answer{OK: rnd.IntN(2) == 0}
		if !e.Answer.OK && rnd.IntN(4) > 0 {
			e.Answer.Error = &wire.Fault{Code: []string{"unknown_command", "cancelled", "jammed"}[rnd.IntN(3)]}
		}
	}
	return e
}

// fold folds a random log and reports what is wrong with the command it makes. overwrite is the negative control: a
// fold that lets the last word win.
func fold(seed uint64, overwrite bool) (faults []string) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	first := commands.Entry{Kind: "created", Time: 1, Node: "n0", Actor: "a0", Order: &commands.Order{
		Suffix: "ABCDEF", Name: "set", Expires: 100, TimeoutMS: 50,
	}}
	switch rnd.IntN(6) {
	case 0:
		first.Order.OnlineOnly = true
	case 1, 2:
		first.Order.Tries, first.Order.DelayMS = 1+rnd.IntN(4), int64(rnd.IntN(20))
	case 3:
		first.Order.Approval = true
	case 4:
		first.Order.NotBefore = int64(rnd.IntN(60))
	}
	if !first.Order.Approval && first.Order.NotBefore == 0 && rnd.IntN(3) == 0 {
		first.Order.Grant = "n0"
	}
	approved := false
	c := commands.Begin("d", 7, &first)
	writers := make(map[string]bool) // who may have written the frame
	if c.Grant() != "" {
		writers[c.Grant()] = true
	}
	written := len(writers) > 0
	for i := range 40 {
		e := anyEntry(rnd, c.View().ID, int64(i+2), c)
		before := c.View()
		effective := c.Apply(&e)
		after := c.View()
		if overwrite && e.Kind == "expired" {
			after.State = commands.Expired
			after.Events = append(after.Events, commands.Event{State: commands.Expired})
			effective = true
		}
		if effective && e.Kind == "approve" {
			if e.Actor == "a0" {
				faults = append(faults, "approved by who asked for it")
			}
			approved = true
		}
		if effective && e.Kind == "sending" && (e.Time < first.Order.NotBefore || first.Order.Approval && !approved) {
			faults = append(faults, "may be written before its time or its approval")
		}
		if before.Retry != nil && c.Try() >= first.Order.Tries {
			faults = append(faults, "more tries than asked for")
		}
		if !effective && !slices.Equal(before.Events, after.Events) {
			faults = append(faults, fmt.Sprintf("%s had no effect and changed it", e.Kind))
		}
		if before.State.Final() && before.State != commands.TimedOut && (effective || after.State != before.State) {
			faults = append(faults, fmt.Sprintf("%s after %s", after.State, before.State))
		}
		if after.State == commands.Expired && before.State != commands.Expired && written && e.Kind == "expired" {
			faults = append(faults, "expired, though a node may have written it")
		}
		switch {
		case effective && e.Kind == "unsent":
			delete(writers, e.Node)
			written = c.Try() > 0 || len(writers) > 0
		case c.Grant() != "":
			writers[c.Grant()] = true
			written = true
		}
		if overwrite && after.State == commands.Expired {
			return append(faults, checkEvents(after)...)
		}
	}
	if v := c.View(); v.State.Final() {
		faults = append(faults, checkEvents(v)...)
		if v.Late && v.State != commands.Succeeded && v.State != commands.Failed {
			faults = append(faults, "late and "+string(v.State))
		}
	}
	return faults
}

func TestFoldHoldsForAnyLog(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20_000) {
		if faults := fold(seed, false); len(faults) > 0 {
			t.Fatalf("seed %d: %v", seed, faults)
		}
	}
	wrong := 0
	for seed := range uint64(1000) {
		if len(fold(seed, true)) > 0 {
			wrong++
		}
	}
	if wrong == 0 {
		t.Error("the checker finds nothing wrong with a fold that lets the last word win")
	}
}

func TestFoldIsTheSameFromAnyStart(t *testing.T) {
	t.Parallel()
	// A duplicate of any entry changes nothing that the first did not: two readers end alike.
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		first := commands.Entry{Kind: "created", Time: 1, Node: "n0", Order: &commands.Order{Suffix: "ABCDEF", Expires: 100, TimeoutMS: 50}}
		a, b := commands.Begin("d", 7, &first), commands.Begin("d", 7, &first)
		for i := range 30 {
			e := anyEntry(rnd, a.View().ID, int64(i), a)
			if a.Apply(&e) != b.Apply(&e) || i%10 == 0 && show(a.View()) != show(b.View()) {
				t.Fatalf("seed %d: two readers differ", seed)
			}
		}
	}
}

func TestIDs(t *testing.T) {
	for _, seq := range []uint64{1, 31, 32, 1023, 1 << 40, 1<<64 - 1} {
		id := commands.FormatID(seq, "7QK2ZD")
		if got, suffix, ok := commands.ParseID(id); !ok || got != seq || suffix != "7QK2ZD" {
			t.Errorf("%d: %s: %d %s %v", seq, id, got, suffix, ok)
		}
	}
	for _, id := range []string{"", "-", "3F", "3F-", "-ABCDEF", "3f-ABCDEF", "3F-ABCDE", "3F-ABCDEU", "03-ABCDEF", "0-ABCDEF", "ZZZZZZZZZZZZZ-ABCDEF", "ZZZZZZZZZZZZZZZZ-ABCDEF", "3F-ABC-EF", "../../etc"} {
		if seq, _, ok := commands.ParseID(id); ok {
			t.Errorf("%q is id of %d", id, seq)
		}
	}
}

func TestCheckerSeesFaults(t *testing.T) {
	good := func() *history {
		c := commands.Command{ID: "3F-ABCDEF", Device: "d", State: commands.Succeeded, Events: []commands.Event{
			{State: commands.Queued}, {State: commands.Sent}, {State: commands.Delivered}, {State: commands.Succeeded},
		}}
		return &history{
			commands: map[string]commands.Command{c.ID: c}, made: []string{c.ID},
			told: map[string][]commands.State{c.ID: {commands.Succeeded}}, acted: map[string][]string{"d": {c.ID}},
			answered: map[string]map[string]bool{"d": {c.ID: true}},
		}
	}
	if faults := good().check(); len(faults) > 0 {
		t.Fatal(faults)
	}
	end := func(h *history, states ...commands.State) {
		c := h.commands["3F-ABCDEF"]
		c.Events = nil
		for _, s := range states {
			c.Events = append(c.Events, commands.Event{State: s})
		}
		c.State = states[len(states)-1]
		h.commands[c.ID] = c
		h.told = nil
	}
	for name, spoil := range map[string]func(h *history){
		"lost":              func(h *history) { h.made = append(h.made, "40-ABCDEF") },
		"no end":            func(h *history) { end(h, commands.Queued, commands.Sent) },
		"two ends":          func(h *history) { end(h, commands.Queued, commands.Failed, commands.Succeeded) },
		"backwards":         func(h *history) { end(h, commands.Queued, commands.Running, commands.Sent, commands.Succeeded) },
		"acted on expired":  func(h *history) { end(h, commands.Queued, commands.Expired) },
		"acted on recalled": func(h *history) { end(h, commands.Queued, commands.Cancelled) },
		"twice":             func(h *history) { h.acted["d"] = []string{"3F-ABCDEF", "3F-ABCDEF"} },
		"never said":        func(h *history) { h.answered = nil },
		"told otherwise":    func(h *history) { h.told["3F-ABCDEF"] = []commands.State{commands.Failed} },
		"order":             func(h *history) { h.acted["d"] = []string{"40-ABCDEF", "3F-ABCDEF"} },
	} {
		h := good()
		spoil(h)
		if len(h.check()) == 0 {
			t.Errorf("%s: not seen", name)
		}
	}
}

// A node that gives its grant back says nothing of one that had it before: what that may have written does not expire, and
// is not taken back, before it has said so too.
func TestGrantThatWasTakenOver(t *testing.T) {
	order := func() *commands.Folded {
		return commands.Begin("d", 7, &commands.Entry{Kind: "created", Time: 1, Node: "n1", Actor: "a", Order: &commands.Order{
			Suffix: "ABCDEF", Name: "set", Expires: 100, TimeoutMS: 50,
		}})
	}
	apply := func(c *commands.Folded, kind commands.Kind, node string, time int64) bool {
		return c.Apply(&commands.Entry{Kind: kind, ID: c.View().ID, Node: node, Time: time, Basis: c.Revision()})
	}
	c := order()
	apply(c, "sending", "n2", 2)
	apply(c, "sending", "n1", 3)
	apply(c, "unsent", "n1", 4)
	if apply(c, "expired", "n1", 101) {
		t.Errorf("expired, though n2 may have written it: %+v", c.View())
	}
	if apply(c, "cancel", "n1", 102); c.View().State != commands.Queued {
		t.Errorf("taken back, though n2 may have written it: %+v", c.View())
	}
	if apply(c, "timed_out", "n1", 103); c.View().State != commands.TimedOut {
		t.Errorf("no end: %+v", c.View())
	}
	// Once both have said that they wrote nothing, in whatever order, it expires.
	for _, nodes := range [][]string{{"n1", "n2"}, {"n2", "n1"}} {
		c := order()
		apply(c, "sending", "n2", 2)
		apply(c, "sending", "n1", 3)
		for _, n := range nodes {
			apply(c, "unsent", n, 4)
		}
		if !apply(c, "expired", "n1", 101) {
			t.Errorf("%v wrote nothing, and it does not expire: %+v", nodes, c.View())
		}
	}
}
