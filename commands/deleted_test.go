package commands_test

import (
	"testing"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// delete takes a device's record away, as an operator does.
func (f *fleet) delete(d *device) {
	f.disconnect(d.id)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.devices, d.id)
	close(d.inbox)
}

// wantNothingOf has a new device of the id connect and obey one command, which must be all that it hears of.
func wantNothingOf(t *testing.T, f *fleet, r *commands.Router, id string) {
	t.Helper()
	next := f.add(id, func(d *device, c wire.Command) { d.succeed(c.ID) })
	f.connect(id, "n1")
	own := create(t, r, commands.Request{Device: id, Name: "own"})
	wantFinal(t, r, own.ID, commands.Succeeded)
	if got := next.received(); len(got) != 1 || got[0].Name != "own" {
		t.Errorf("the next device of the id received %+v, want own alone", got)
	}
}

// Who gets the id of a deleted device hears nothing of what was asked of that one: neither what waited in its queue nor
// what it had not accepted.
func TestDeletedDeviceTakesItsCommandsAlong(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	silent := f.add("d", func(*device, wire.Command) {})
	f.connect("d", "n1")
	sent := create(t, r, commands.Request{Device: "d", Name: "open"})
	wantState(t, r, sent.ID, commands.Sent)
	f.disconnect("d")
	queued := create(t, r, commands.Request{Device: "d", Name: "close"})
	f.delete(silent)
	r.Deleted("d")
	c := wantFinal(t, r, queued.ID, commands.Cancelled)
	if last := c.Events[len(c.Events)-1]; last.Actor != "hub" || last.Detail != "the device was deleted" {
		t.Errorf("why it ended: %+v", last)
	}
	wantNothingOf(t, f, r, "d")
	if c, err := r.Command(within(t), sent.ID); err != nil || c.State != commands.Sent {
		t.Errorf("what may have been acted on is %s (%v), want sent until its time is over", show(c), err)
	}
}

// The same of a device that is deleted while the hub does not run.
func TestDeletedWhileTheHubIsDown(t *testing.T) {
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	r, stop := start(t, b, f, "n1")
	d := f.add("d", func(*device, wire.Command) {})
	queued := create(t, r, commands.Request{Device: "d", Name: "close"})
	stop()
	f.delete(d)
	r, stop = start(t, b, f, "n1")
	t.Cleanup(stop)
	wantFinal(t, r, queued.ID, commands.Cancelled)
	wantNothingOf(t, f, r, "d")
}

// Of two nodes the one that made a command takes it back: the other one may hear of the deletion when the id is already
// given anew.
func TestDeletedOnTwoNodes(t *testing.T) {
	f := newFleet(t)
	a, b := two(t, f)
	d := f.add("d", func(*device, wire.Command) {})
	ofA := create(t, a, commands.Request{Device: "d", Name: "close"})
	f.delete(d)
	f.add("d", obey)
	ofB := create(t, b, commands.Request{Device: "d", Name: "own"})
	wantState(t, a, ofB.ID, commands.Queued) // a knows of it
	a.Deleted("d")
	c := wantFinal(t, b, ofA.ID, commands.Cancelled)
	if last := c.Events[len(c.Events)-1]; last.Node != "n1" {
		t.Errorf("taken back by %+v, want n1", last)
	}
	f.connect("d", "n2")
	wantFinal(t, b, ofB.ID, commands.Succeeded)
}
