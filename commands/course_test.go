package commands_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

func TestNotBefore(t *testing.T) {
	f := newFleet(t)
	dir := t.TempDir()
	b := openBus(t, dir)
	r, stop := start(t, b, f, "n1")
	var at []time.Time
	d := f.add("d", func(d *device, c wire.Command) {
		at = append(at, time.Now())
		obey(d, c)
	})
	f.connect("d", "n1")
	due := time.Now().Add(700 * time.Millisecond)
	later := create(t, r, commands.Request{Device: "d", Name: "later", NotBefore: due, TTL: time.Minute})
	if later.State != commands.Queued || later.NotBefore != due.UnixMilli() || later.Expires != due.UnixMilli()+60_000 {
		t.Errorf("scheduled: %s", show(later))
	}
	// It lets the others pass, which still take the short way: created with the permission to write.
	now := wantFinal(t, r, create(t, r, commands.Request{Device: "d", Name: "now"}).ID, commands.Succeeded)
	if len(now.Events) != 4 {
		t.Errorf("a command beside a scheduled one: %s", show(now))
	}
	// The hub is restarted in between.
	stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBus(t, dir)
	defer b.Close()
	r, stop = start(t, b, f, "n1")
	defer stop()
	wantFinal(t, r, later.ID, commands.Succeeded)
	stop()
	if got := d.received(); len(got) != 2 || got[1].Name != "later" {
		t.Fatalf("device received %+v", got)
	}
	if at[1].UnixMilli() < due.UnixMilli() {
		t.Errorf("sent %s too early", due.Sub(at[1]))
	}
}

func TestNotBeforeExpiresAndCancels(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", obey)
	f.connect("d", "n1")
	c := create(t, r, commands.Request{Device: "d", NotBefore: time.Now().Add(time.Hour)})
	if c, err := r.Cancel(within(t), c.ID, "x"); err != nil || c.State != commands.Cancelled {
		t.Errorf("cancel: %v %s", err, show(c))
	}
	f.disconnect("d")
	due := time.Now().Add(100 * time.Millisecond)
	c = create(t, r, commands.Request{Device: "d", NotBefore: due, TTL: 50 * time.Millisecond})
	c = wantFinal(t, r, c.ID, commands.Expired)
	if end := c.Events[len(c.Events)-1].Time; end < due.UnixMilli()+50 {
		t.Errorf("expired %d ms too early", due.UnixMilli()+50-end)
	}
	if got := d.received(); len(got) != 0 {
		t.Errorf("device received %+v", got)
	}
	for _, q := range []commands.Request{
		{NotBefore: time.Now().Add(time.Hour), OnlineOnly: true},
		{Retry: commands.Retry{Attempts: 2}, OnlineOnly: true},
		{NotBefore: time.Now().Add(100 * configs.Day)},
		{Retry: commands.Retry{Attempts: 11}},
		{Retry: commands.Retry{Attempts: 2, Delay: -1}},
		{Priority: ptr(10)},
		{Priority: ptr(-1)},
	} {
		q.Device, q.Name = "d", "set"
		if _, err := r.Create(within(t), q); !errors.Is(err, commands.ErrInvalidRequest) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func ptr(n int) *int { return &n }

func TestPriority(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f, func(c *configs.Commands) { c.DrainPerSecond = 1000 })
	d := f.add("d", obey)
	var last string
	for i, p := range []int{5, 0, 9, 5, 9, 0, 7} {
		q := commands.Request{Device: "d", Name: fmt.Sprintf("%d-%d", p, i), Priority: ptr(p)}
		if p == 5 {
			q.Priority = nil
		}
		last = create(t, r, q).ID
	}
	_ = last
	f.connect("d", "n1")
	var got []string
	for _, c := range waitReceived(t, d, 7) {
		got = append(got, c.Name)
	}
	if want := []string{"9-2", "9-4", "7-6", "5-0", "5-3", "0-1", "0-5"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	wantEmpty(t, r)
}

func waitReceived(t *testing.T, d *device, n int) []wire.Command {
	t.Helper()
	ctx := within(t)
	for {
		if got := d.received(); len(got) >= n {
			return got
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d of %d commands", len(d.received()), n)
		}
	}
}

// tries makes a device fail, stay silent or succeed, try by try.
func tries(course ...string) behaviour {
	n := 0
	return func(d *device, c wire.Command) {
		n++
		switch course[min(n, len(course))-1] {
		case "fail":
			d.fail(c.ID, "jammed", "again")
		case "ok":
			d.succeed(c.ID)
		case "reject":
			d.fail(c.ID, "rejected", "never")
		}
	}
}

func TestRetry(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	for _, c := range []struct {
		name, course string
		steps        []string
		want         commands.State
		frames       int
	}{
		{"third", "", []string{"fail", "silent", "ok"}, commands.Succeeded, 3},
		{"never", "", []string{"fail"}, commands.Failed, 3},
		{"silent", "", []string{"silent"}, commands.TimedOut, 3},
		{"refused", "", []string{"reject"}, commands.Rejected, 1},
		{"first", "", []string{"ok"}, commands.Succeeded, 1},
	} {
		d := f.add(c.name, tries(c.steps...))
		f.connect(c.name, "n1")
		q := commands.Request{Device: c.name, Timeout: 50 * time.Millisecond, Retry: commands.Retry{Attempts: 3, Delay: 20 * time.Millisecond}}
		got := wantFinal(t, r, create(t, r, q).ID, c.want)
		frames := d.received()
		if len(frames) != c.frames {
			t.Errorf("%s: %d frames, want %d", c.name, len(frames), c.frames)
		}
		for i, w := range frames {
			if want := commands.WireID(got.ID, i); w.ID != want {
				t.Errorf("%s: frame %d has id %s, want %s", c.name, i, w.ID, want)
			}
		}
		queued := 0
		for _, e := range got.Events {
			if e.State == commands.Queued && e.Detail != "" && e.Detail[:3] == "try" {
				queued++
			}
		}
		if queued != c.frames-1 {
			t.Errorf("%s: %d tries told, want %d: %s", c.name, queued, c.frames-1, show(got))
		}
		if c.want == commands.Succeeded && got.Error != nil || c.want == commands.Failed && got.Error == nil {
			t.Errorf("%s: %s", c.name, show(got))
		}
	}
	wantEmpty(t, r)
}

func TestRetrySurvivesRestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	dir := t.TempDir()
	b := openBus(t, dir)
	r, stop := start(t, b, f, "n1")
	d := f.add("d", tries("fail", "ok"))
	f.connect("d", "n1")
	c := create(t, r, commands.Request{Device: "d", Retry: commands.Retry{Attempts: 2, Delay: time.Second}})
	eventually(t, r, c.ID, func(c commands.Command) bool { return c.State == commands.Queued && c.Error != nil })
	stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBus(t, dir)
	defer b.Close()
	r, stop = start(t, b, f, "n1")
	defer stop()
	wantFinal(t, r, c.ID, commands.Succeeded)
	if got := d.received(); len(got) != 2 {
		t.Errorf("device received %+v", got)
	}
}

func TestEarlierTryAnswersLate(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", silent)
	f.connect("d", "n1")
	q := commands.Request{Device: "d", Timeout: 50 * time.Millisecond, Retry: commands.Retry{Attempts: 2, Delay: time.Minute}}
	c := create(t, r, q)
	waiting := func(c commands.Command) bool { return c.State == commands.Queued && c.Attempt == 1 }
	eventually(t, r, c.ID, waiting)
	d.later(func() { d.succeed(c.ID) })
	if c = wantFinal(t, r, c.ID, commands.Succeeded); !c.Late {
		t.Errorf("not late: %s", show(c))
	}
	// Once the next try is out it decides; what the first says is kept, once.
	q.Retry.Delay = 0
	q.Timeout = 300 * time.Millisecond
	c = create(t, r, q)
	eventually(t, r, c.ID, func(c commands.Command) bool { return c.State == commands.Sent && c.Attempt == 2 })
	d.later(func() { d.succeed(c.ID) })
	d.later(func() { d.succeed(c.ID) })
	d.later(func() { d.fail(commands.WireID(c.ID, 1), "jammed", "") })
	c = wantFinal(t, r, c.ID, commands.Failed)
	late := 0
	for _, e := range c.Events {
		if e.Detail == "try 1 answered late: succeeded" {
			late++
		}
	}
	if late != 1 {
		t.Errorf("%d late answers kept: %s", late, show(c))
	}
}

func TestCancelBetweenTries(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", tries("fail"))
	f.connect("d", "n1")
	c := create(t, r, commands.Request{Device: "d", Retry: commands.Retry{Attempts: 3, Delay: time.Minute}})
	eventually(t, r, c.ID, func(c commands.Command) bool { return c.State == commands.Queued && c.Error != nil })
	// The device did try: that is what became of it.
	if c, err := r.Cancel(within(t), c.ID, "x"); err != nil || c.State != commands.Failed || c.Error == nil {
		t.Errorf("cancelled: %v %s", err, show(c))
	}
	if got := d.received(); len(got) != 1 {
		t.Errorf("device received %+v", got)
	}
}

func TestWireIDs(t *testing.T) {
	for try := range 10 {
		id, got := commands.SplitTry(commands.WireID("3F-ABCDEF", try))
		if id != "3F-ABCDEF" || got != try {
			t.Errorf("%d: %s %d", try, id, got)
		}
	}
	for _, s := range []string{"", "-", "--", "3F", "3F-ABCDEF-", "3F-ABCDEF-0", "3F-ABCDEF-1", "3F-ABCDEF-02", "3F-ABCDEF-11", "3F-ABCDEF-+2", "3F-ABCDEF-999"} {
		if id, try := commands.SplitTry(s); id != s || try != 0 {
			t.Errorf("%q: %s %d", s, id, try)
		}
	}
}

func TestLease(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	dir := t.TempDir()
	b := openBus(t, dir)
	r, stop := start(t, b, f, "n1")
	f.add("d", obey)
	f.connect("d", "n1")
	send := func(actor string) error {
		_, err := r.Create(within(t), commands.Request{Device: "d", Name: "set", Actor: actor})
		return err
	}
	hold := func(actor string, ttl time.Duration, over bool) (commands.Lease, string) {
		t.Helper()
		l, from, err := r.Hold(within(t), "d", actor, ttl, over)
		if err != nil {
			t.Fatal(err)
		}
		return l, from
	}
	if err := send("bob"); err != nil {
		t.Fatal(err)
	}
	l, _ := hold("ann", time.Hour, false)
	var held *commands.HeldError
	if err := send("bob"); !errors.As(err, &held) || held.Lease.Holder != "ann" || held.Lease.Until != l.Until || !errors.Is(err, commands.ErrHeld) {
		t.Errorf("bob: %v", err)
	}
	if err := send("ann"); err != nil {
		t.Error("the holder:", err)
	}
	if _, _, err := r.Hold(within(t), "d", "bob", time.Hour, false); !errors.Is(err, commands.ErrHeld) {
		t.Errorf("held twice: %v", err)
	}
	if again, from := hold("ann", 2*time.Hour, false); again.Since != l.Since || again.Until <= l.Until || from != "" {
		t.Errorf("prolonged: %+v after %+v", again, l)
	}
	// It survives a restart.
	stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBus(t, dir)
	defer b.Close()
	r, stop = start(t, b, f, "n1")
	defer stop()
	if err := send("bob"); !errors.Is(err, commands.ErrHeld) {
		t.Errorf("after a restart: %v", err)
	}
	if _, from := hold("bob", time.Hour, true); from != "ann" {
		t.Errorf("taken from %q", from)
	}
	if err := send("ann"); !errors.Is(err, commands.ErrHeld) {
		t.Errorf("after the take-over: %v", err)
	}
	if _, err := r.Release(within(t), "d", "ann", false); !errors.Is(err, commands.ErrHeld) {
		t.Errorf("released by another: %v", err)
	}
	if _, err := r.Release(within(t), "d", "bob", false); err != nil {
		t.Error(err)
	}
	if err := send("ann"); err != nil {
		t.Error("after the release:", err)
	}
	if _, err := r.Lease(within(t), "d"); !errors.Is(err, commands.ErrNoLease) {
		t.Errorf("free: %v", err)
	}
	// It ends by itself.
	hold("ann", commands.MinLease, false)
	for ctx := within(t); send("bob") != nil; {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the lease does not end")
		}
	}
	for _, ttl := range []time.Duration{0, time.Millisecond, 25 * time.Hour} {
		if _, _, err := r.Hold(within(t), "d", "ann", ttl, false); !errors.Is(err, commands.ErrInvalidRequest) {
			t.Errorf("%s: %v", ttl, err)
		}
	}
	if _, _, err := r.Hold(within(t), "nobody", "ann", time.Hour, false); !errors.Is(err, commands.ErrUnknownDevice) {
		t.Error(err)
	}
}

func TestLeaseOnTwoNodes(t *testing.T) {
	f := newFleet(t)
	a, b := two(t, f)
	f.add("d", obey)
	if _, _, err := a.Hold(within(t), "d", "ann", time.Hour, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Hold(within(t), "d", "bob", time.Hour, false); !errors.Is(err, commands.ErrHeld) {
		t.Errorf("the other node: %v", err)
	}
	for ctx := within(t); ; {
		if _, err := b.Create(within(t), commands.Request{Device: "d", Name: "set", Actor: "bob"}); errors.Is(err, commands.ErrHeld) {
			break
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the other node never hears of it")
		}
	}
}

func TestApproval(t *testing.T) {
	f := newFleet(t)
	f.approve = []configs.Approval{{Selector: "site=a", Devices: []string{"pump-*"}, Commands: []string{"reboot"}}}
	f.labels = map[string]map[string]string{"pump-1": {"site": "a"}, "pump-2": {"site": "b"}, "fan-1": {"site": "a"}}
	dir := t.TempDir()
	b := openBus(t, dir)
	r, stop := start(t, b, f, "n1")
	for id := range f.labels {
		f.add(id, obey)
		f.connect(id, "n1")
	}
	ask := func(device, name string, ttl time.Duration) commands.Command {
		t.Helper()
		return create(t, r, commands.Request{Device: device, Name: name, Actor: "ann", TTL: ttl})
	}
	// What no rule fits goes at once.
	wantFinal(t, r, ask("pump-1", "set", 0).ID, commands.Succeeded)
	wantFinal(t, r, ask("pump-2", "reboot", 0).ID, commands.Succeeded)
	wantFinal(t, r, ask("fan-1", "reboot", 0).ID, commands.Succeeded)

	c, short, undone := ask("pump-1", "reboot", 0), ask("pump-1", "reboot", 50*time.Millisecond), ask("pump-1", "reboot", 0)
	if c.State != commands.Queued || c.Events[0].Detail != "awaiting approval" {
		t.Errorf("waiting: %s", show(c))
	}
	wantFinal(t, r, ask("pump-1", "set", 0).ID, commands.Succeeded) // it lets others pass
	wantFinal(t, r, short.ID, commands.Expired)
	create(t, r, commands.Request{Device: "fan-1", NotBefore: time.Now().Add(time.Hour)}) // queued too, and the list is without it
	if page, err := r.List(within(t), commands.Filter{Awaiting: true, Limit: 1}); err != nil || len(page.Commands) != 1 || page.Commands[0].ID != undone.ID || !page.Commands[0].Awaiting || page.Cursor == "" {
		t.Errorf("awaiting: %v %+v", err, page)
	} else if page, err = r.List(within(t), commands.Filter{Awaiting: true, Limit: 1, Cursor: page.Cursor}); err != nil || len(page.Commands) != 1 || page.Commands[0].ID != c.ID || page.Cursor != "" {
		t.Errorf("awaiting, second page: %v %+v", err, page)
	}
	if got, err := r.Cancel(within(t), undone.ID, "ann"); err != nil || got.State != commands.Cancelled {
		t.Errorf("cancel: %v %s", err, show(got))
	}
	if _, err := r.Approve(within(t), c.ID, "ann"); !errors.Is(err, commands.ErrSelfApproval) {
		t.Errorf("approved by who asked: %v", err)
	}
	stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBus(t, dir)
	defer b.Close()
	r, stop = start(t, b, f, "n1")
	defer stop()
	f.connect("pump-1", "n1")
	if got, err := r.Command(within(t), c.ID); err != nil || got.State != commands.Queued {
		t.Errorf("after a restart: %v %s", err, show(got))
	}
	if got, err := r.Approve(within(t), c.ID, "bob"); err != nil || got.ApprovedBy != "bob" || got.Awaiting {
		t.Errorf("approve: %v %s", err, show(got))
	}
	wantFinal(t, r, c.ID, commands.Succeeded)
	for _, id := range []string{c.ID, short.ID} {
		if _, err := r.Approve(within(t), id, "bob"); !errors.Is(err, commands.ErrFinal) {
			t.Errorf("approve what has ended: %v", err)
		}
	}
	plain := create(t, r, commands.Request{Device: "fan-1", NotBefore: time.Now().Add(time.Hour)})
	if _, err := r.Approve(within(t), plain.ID, "bob"); !errors.Is(err, commands.ErrNotAwaiting) {
		t.Errorf("approve what needs none: %v", err)
	}
	// Somebody agreed to it before, as part of a job.
	wantFinal(t, r, create(t, r, commands.Request{Device: "pump-1", Name: "reboot", Actor: "ann", Approver: "bob"}).ID, commands.Succeeded)
	if own := create(t, r, commands.Request{Device: "pump-1", Name: "reboot", Actor: "ann", Approver: "ann"}); own.State != commands.Queued {
		t.Errorf("agreed with oneself: %s", show(own))
	}
	if _, err := r.Create(within(t), commands.Request{Device: "pump-1", Name: "reboot", OnlineOnly: true}); !errors.Is(err, commands.ErrInvalidRequest) {
		t.Errorf("now or never: %v", err)
	}
}

// notes is an Annotator.
type notes chan commands.Command

func (n notes) Annotate(c commands.Command) { n <- c }

func TestAnnotations(t *testing.T) {
	f := newFleet(t)
	told := make(notes, 100)
	f.notes = told
	r := hub(t, f)
	f.add("d", obey)
	f.connect("d", "n1")
	c := wantFinal(t, r, create(t, r, commands.Request{Device: "d", Actor: "ann"}).ID, commands.Succeeded)
	for _, want := range []commands.State{commands.Queued, commands.Succeeded} {
		select {
		case got := <-told:
			if got.ID != c.ID || got.State != want || got.Actor != "ann" || len(got.Events) != 1 || got.Events[0].Time == 0 {
				t.Errorf("told %s, want %s", show(got), want)
			}
		case <-time.After(patience):
			t.Fatalf("%s is not told", want)
		}
	}
}
