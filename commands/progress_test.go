package commands_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// report says progress until the command looks as wanted.
func report(t *testing.T, r *commands.Router, id string, p wire.Answer, ok func(commands.Command) bool) commands.Command {
	t.Helper()
	p.Kind, p.ID = wire.Progress, id
	return eventually(t, r, id, func(c commands.Command) bool {
		r.Answered(commands.Attachment{Device: c.Device}, &p, func(error) {})
		return ok(c)
	})
}

func percent(n float64) func(commands.Command) bool {
	return func(c commands.Command) bool { return c.Progress != nil && c.Progress.Percent == n }
}

// Operators see each progress, the log keeps one now and then: a device that reports all the time does not fill it.
func TestProgressIsRecordedSeldom(t *testing.T) {
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	f.add("d", silent)
	f.connect("d", "n1")
	c := wantState(t, r, create(t, r, commands.Request{Device: "d", Timeout: time.Hour}).ID, commands.Sent)
	c = report(t, r, c.ID, wire.Answer{Percent: 1, Message: strings.Repeat("x", 9000)}, percent(1))
	if n := len(c.Progress.Message); n != 512 {
		t.Errorf("%d bytes of the message are kept", n)
	}
	for _, n := range []float64{2, 3, 4} {
		report(t, r, c.ID, wire.Answer{Percent: n}, percent(n))
	}
	want := []commands.State{commands.Queued, commands.Sent, commands.Running}
	if c, err := r.Command(within(t), c.ID); err != nil || !slices.Equal(states(c), want) {
		t.Errorf("recorded: %v %v, want %v", err, states(c), want)
	}
	stop()

	r, stop = start(t, b, f, "n1") // it knows what is in the log
	defer stop()
	if c, err := r.Command(within(t), c.ID); err != nil || c.State != commands.Running || !percent(1)(c) {
		t.Errorf("after a restart: %v %s", err, show(c))
	}
	r.Answered(commands.Attachment{Device: "d"}, &wire.Answer{Kind: wire.Result, ID: c.ID, OK: true}, func(error) {})
	wantFinal(t, r, c.ID, commands.Succeeded)
}

// Progress keeps a command alive, but not for ever; nor does a restart begin its time anew. A late answer still counts.
func TestProgressDoesNotLastForEver(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	change := func(c *configs.Commands) { c.MaxTimeout = 2 * time.Second }
	r, stop := start(t, b, f, "n1", change)
	f.add("d", silent)
	f.connect("d", "n1")
	c := wantState(t, r, create(t, r, commands.Request{Device: "d", Timeout: 2 * time.Second}).ID, commands.Sent)
	report(t, r, c.ID, wire.Answer{Percent: 1}, percent(1))
	stop()
	r, stop = start(t, b, f, "n1", change)
	defer stop()
	c = report(t, r, c.ID, wire.Answer{Percent: 2}, func(c commands.Command) bool { return c.State == commands.TimedOut })
	if e := c.Events[len(c.Events)-1]; e.Detail != "it ran for as long as a command may" {
		t.Errorf("timed out: %+v", e)
	}
	recorded := make(chan error, 1)
	r.Answered(commands.Attachment{Device: "d"}, &wire.Answer{Kind: wire.Result, ID: c.ID, OK: true}, func(err error) { recorded <- err })
	if err := <-recorded; err != nil {
		t.Fatal(err)
	}
	if c = wantFinal(t, r, c.ID, commands.Succeeded); !c.Late {
		t.Error("the answer after the time-out is not late")
	}
}
