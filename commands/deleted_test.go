package commands_test

import (
	"errors"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
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

// restore brings a deleted device's record back as it was, as an import does.
func (f *fleet) restore(d *device) {
	again := f.add(d.id, d.do)
	f.mu.Lock()
	defer f.mu.Unlock()
	again.born = d.born
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
	r.Deleted("d", silent.born)
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
	a.Deleted("d", d.born)
	c := wantFinal(t, b, ofA.ID, commands.Cancelled)
	if last := c.Events[len(c.Events)-1]; last.Node != "n1" {
		t.Errorf("taken back by %+v, want n1", last)
	}
	f.connect("d", "n2")
	wantFinal(t, b, ofB.ID, commands.Succeeded)
}

// A cancel that the log has no room for is tried again until it is there, and the next device of the id hears nothing
// before.
func TestDeletedWhileTheLogIsFull(t *testing.T) {
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	defer stop()
	d, x := f.add("d", silent), f.add("x", silent)
	f.add("e", silent)
	queued := create(t, r, commands.Request{Device: "d", Name: "close"})
	unclaimed := create(t, r, commands.Request{Device: "x", Name: "close"})
	others := create(t, r, commands.Request{Device: "e", Name: "close"})
	fillLog(t, b, 1)
	full := func() {
		t.Helper()
		if _, err := r.Create(within(t), commands.Request{Device: "e", Name: "set"}); !errors.Is(err, commands.ErrLogFull) {
			t.Fatalf("the log is to be full: %v", err)
		}
	}
	full()
	f.delete(d)
	f.delete(x)
	r.Deleted("d", d.born)
	r.Deleted("x", x.born)
	full() // what was proposed before it was refused too
	next := f.add("d", obey)
	f.connect("d", "n1")
	full()
	fillLog(t, b, 1<<30)
	wantFinal(t, r, queued.ID, commands.Cancelled)
	wantFinal(t, r, unclaimed.ID, commands.Cancelled) // nobody has that id by now
	own := create(t, r, commands.Request{Device: "d", Name: "own"})
	wantFinal(t, r, own.ID, commands.Succeeded)
	if got := next.received(); len(got) != 1 || got[0].Name != "own" {
		t.Errorf("the next device of the id received %+v, want own alone", got)
	}
	wantState(t, r, others.ID, commands.Queued)
}

// A device that was deleted and made anew while the hub did not run is another one, though its id is known.
func TestMadeAnewWhileTheHubIsDown(t *testing.T) {
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	d, same := f.add("d", silent), f.add("same", obey)
	queued := create(t, r, commands.Request{Device: "d", Name: "close"})
	kept := create(t, r, commands.Request{Device: "same", Name: "close"})
	stop()
	f.delete(d)
	next := f.add("d", obey)
	f.connect("d", "n1")
	f.connect("same", "n1")
	r, stop = start(t, b, f, "n1")
	defer stop()
	wantFinal(t, r, queued.ID, commands.Cancelled)
	wantFinal(t, r, kept.ID, commands.Succeeded)
	if got := next.received(); len(got) != 0 {
		t.Errorf("the next device of the id received %+v", got)
	}
	if got := same.received(); len(got) != 1 {
		t.Errorf("the device that stayed received %+v", got)
	}
}

// The same while a command is on its way into the log: what was asked of the one is not taken to the other.
func TestMadeAnewWhileACommandIsMade(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", silent)
	f.connect("d", "n1")
	var next *device
	c := create(t, r, commands.Request{Device: "d", Name: "close", Permit: func() error {
		f.delete(d)
		next = f.add("d", obey)
		f.connect("d", "n1")
		return nil
	}})
	wantFinal(t, r, c.ID, commands.Cancelled)
	own := create(t, r, commands.Request{Device: "d", Name: "own"})
	wantFinal(t, r, own.ID, commands.Succeeded)
	if got := next.received(); len(got) != 1 || got[0].Name != "own" {
		t.Errorf("the next device of the id received %+v, want own alone", got)
	}
	_, err := r.Create(within(t), commands.Request{Device: "d", Name: "late", Born: d.born})
	if !errors.Is(err, commands.ErrOtherDevice) {
		t.Errorf("a command to the device that is gone: %v", err)
	}
	create(t, r, commands.Request{Device: "d", Name: "late", Born: next.born})
}

// A node writes nothing to a device that was meant for an earlier one of its id, though only the node that made the
// command takes it back, and that has not heard of the deletion yet.
func TestMadeAnewAtAnotherNode(t *testing.T) {
	f := newFleet(t)
	a, b := two(t, f)
	d := f.add("d", silent)
	ofA := create(t, a, commands.Request{Device: "d", Name: "close"})
	wantState(t, b, ofA.ID, commands.Queued)
	f.delete(d)
	next := f.add("d", obey)
	f.connect("d", "n2")
	own := create(t, b, commands.Request{Device: "d", Name: "own"})
	wantFinal(t, b, own.ID, commands.Succeeded)
	a.Deleted("d", d.born)
	wantFinal(t, b, ofA.ID, commands.Cancelled)
	if got := next.received(); len(got) != 1 || got[0].Name != "own" {
		t.Errorf("the next device of the id received %+v, want own alone", got)
	}
}

// Nobody holds the next device of an id, on no node, whether the deletion was heard of or not.
func TestLeaseEndsWithItsDevice(t *testing.T) {
	f := newFleet(t)
	a, b := two(t, f)
	d := f.add("d", obey)
	f.add("e", obey)
	hold := func(r *commands.Router, device, actor string) {
		t.Helper()
		if _, _, err := r.Hold(within(t), device, actor, time.Hour, false); err != nil {
			t.Fatalf("%s holds %s: %v", actor, device, err)
		}
	}
	send := func(r *commands.Router, device string) error {
		_, err := r.Create(within(t), commands.Request{Device: device, Name: "set", Actor: "bob"})
		return err
	}
	held := func(device string) {
		t.Helper()
		for ctx := within(t); !errors.Is(send(b, device), commands.ErrHeld); {
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("%s is held, and the other node never hears of it", device)
			}
		}
	}
	hold(a, "d", "ann")
	hold(a, "e", "ann")
	held("d")
	held("e")
	f.delete(d)
	d = f.add("d", obey)
	for _, r := range []*commands.Router{a, b} {
		if l, err := r.Lease(within(t), "d"); !errors.Is(err, commands.ErrNoLease) {
			t.Errorf("a lease on the next device of the id: %+v, %v", l, err)
		}
		if err := send(r, "d"); err != nil {
			t.Errorf("a command to the next device of the id: %v", err)
		}
	}
	if _, err := a.Release(within(t), "d", "ann", false); !errors.Is(err, commands.ErrNoLease) {
		t.Errorf("the holder of the last device of the id releases this one: %v", err)
	}
	hold(b, "d", "bob")
	a.Deleted("d", d.born-1) // heard late: what is held by now is another device
	a.Deleted("e", -1)
	if err := send(b, "e"); !errors.Is(err, commands.ErrHeld) {
		t.Errorf("a device that stayed is held no more: %v", err)
	}
	if l, err := b.Lease(within(t), "d"); err != nil || l.Holder != "bob" {
		t.Errorf("the lease on the next device of the id: %+v, %v", l, err)
	}
}

// The lease on a deleted device ends in the bucket too, where one who has its record back with its date of old finds it.
func TestDeletionEndsTheLease(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", obey)
	if _, _, err := r.Hold(within(t), "d", "ann", time.Hour, false); err != nil {
		t.Fatal(err)
	}
	if l, err := r.Lease(within(t), "d"); err != nil || l.Holder != "ann" {
		t.Fatalf("held: %+v, %v", l, err)
	}
	f.delete(d)
	r.Deleted("d", d.born)
	f.restore(d)
	for ctx := within(t); ; {
		if _, err := r.Lease(ctx, "d"); errors.Is(err, commands.ErrNoLease) {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the lease on the deleted device never ends")
		}
	}
}

// Nobody can approve a command to a device that was deleted: it would never go.
func TestDeletedDeviceNeedsNoApproval(t *testing.T) {
	f := newFleet(t)
	f.approve = []configs.Approval{{Commands: []string{"wipe"}}}
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	defer stop()
	d := f.add("d", silent)
	f.add("e", silent)
	wipe := create(t, r, commands.Request{Device: "d", Name: "wipe", Actor: "ann"})
	other := create(t, r, commands.Request{Device: "e", Name: "wipe", Actor: "ann"})
	f.delete(d)
	f.add("d", silent)
	if _, err := r.Approve(within(t), wipe.ID, "bob"); !errors.Is(err, commands.ErrOtherDevice) {
		t.Errorf("approved for a device that is gone: %v", err)
	}
	if c, err := r.Approve(within(t), other.ID, "bob"); err != nil || c.ApprovedBy != "bob" {
		t.Errorf("approved: %v %s", err, show(c))
	}
}
