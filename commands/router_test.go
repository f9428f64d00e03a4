package commands_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

func states(c commands.Command) []commands.State {
	var s []commands.State
	for _, e := range c.Events {
		s = append(s, e.State)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("pump-7", func(d *device, c wire.Command) {
		d.accept(c.ID)
		d.say(&wire.Answer{Kind: wire.Progress, ID: c.ID, Percent: 40, Message: "half"})
		d.succeed(c.ID)
	})
	f.connect("pump-7", "n1")
	c := create(t, r, commands.Request{Device: "pump-7", Params: json.RawMessage(`{ "seconds": 10 }`), Actor: "ann"})
	c = wantFinal(t, r, c.ID, commands.Succeeded)

	want := []commands.State{commands.Queued, commands.Sent, commands.Delivered, commands.Running, commands.Succeeded}
	if got := states(c); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	if c.Actor != "ann" || c.Attempt != 1 || c.Evidence != commands.Confirmed || c.Late || string(c.Result) != `{"done":true}` {
		t.Errorf("command: %s", show(c))
	}
	for i, e := range c.Events {
		if e.Node != "n1" || i > 0 && (e.Session != "s1" || e.Epoch != 1) || e.Time == 0 {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	got := d.received()
	if len(got) != 1 || got[0].ID != c.ID || string(got[0].Params) != `{"seconds":10}` || got[0].Attempt != 1 || got[0].Expires != c.Expires || got[0].TimeoutMS != 30_000 {
		t.Errorf("device received %+v", got)
	}
	wantEmpty(t, r)
}

// wantEmpty waits until nothing of ended commands is held but the recent ones.
func wantEmpty(t *testing.T, r *commands.Router) {
	t.Helper()
	ctx := within(t)
	for {
		open, pipes := r.Open()
		if open == 0 && pipes == 0 {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d commands and %d pipes left in memory", open, pipes)
		}
	}
}

func TestDeviceDecidesTheEnd(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	for code, want := range map[string]commands.State{
		"unknown_command": commands.Rejected, "invalid_params": commands.Rejected, "rejected": commands.Rejected,
		"jammed": commands.Failed, "cancelled": commands.Cancelled,
	} {
		id := "d-" + code
		f.add(id, func(d *device, c wire.Command) { d.fail(c.ID, code, "no") })
		f.connect(id, "n1")
		c := wantFinal(t, r, create(t, r, commands.Request{Device: id}).ID, want)
		if c.Error == nil || c.Error.Code != code {
			t.Errorf("%s: error %+v", code, c.Error)
		}
	}
}

func TestDeliveredOnlyByTheDevice(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", silent)
	f.connect("d", "n1")
	c := wantState(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Sent)
	if slices.Contains(states(c), commands.Delivered) {
		t.Error("delivered without a word from the device")
	}
	d.later(func() { d.accept(c.ID) })
	wantState(t, r, c.ID, commands.Delivered)
}

func TestQueueKeepsOrder(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f, func(c *configs.Commands) { c.DrainPerSecond = 1000 })
	d := f.add("d", obey)
	var ids []string
	for range 50 {
		ids = append(ids, create(t, r, commands.Request{Device: "d"}).ID)
	}
	if _, err := r.Create(within(t), commands.Request{Device: "d", Name: "set"}); !errors.Is(err, commands.ErrQueueFull) {
		t.Errorf("the 51st: %v, want ErrQueueFull", err)
	}
	f.connect("d", "n1")
	for _, id := range ids {
		wantFinal(t, r, id, commands.Succeeded)
	}
	var got []string
	for _, c := range d.received() {
		got = append(got, c.ID)
	}
	if !slices.Equal(got, ids) {
		t.Errorf("order of arrival %v, of creation %v", got, ids)
	}
}

func TestExpiredIsNeverDelivered(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", obey)
	short := create(t, r, commands.Request{Device: "d", TTL: 50 * time.Millisecond})
	long := create(t, r, commands.Request{Device: "d"})
	wantFinal(t, r, short.ID, commands.Expired)
	f.connect("d", "n1")
	wantFinal(t, r, long.ID, commands.Succeeded)
	if got := d.received(); len(got) != 1 || got[0].ID != long.ID {
		t.Errorf("device received %+v", got)
	}
}

func TestOnlineOnly(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", obey)
	q := commands.Request{Device: "d", Name: "set", OnlineOnly: true}
	if _, err := r.Create(within(t), q); !errors.Is(err, commands.ErrOffline) {
		t.Errorf("off line: %v", err)
	}
	f.connect("d", "n1")
	c := create(t, r, q)
	if c.State == commands.Queued {
		t.Error("returned while it was still in the queue")
	}
	wantFinal(t, r, c.ID, commands.Succeeded)

	// Presence still says on line, the socket is gone.
	gone := gonePresence{f}
	b := openBus(t, t.TempDir())
	defer b.Close()
	f2 := newFleet(t)
	f2.add("d", obey)
	r2, stop := startWith(t, b, f2, "n1", gone)
	defer stop()
	c, err := r2.Create(within(t), q)
	if !errors.Is(err, commands.ErrOffline) || c.State != commands.Expired {
		t.Errorf("gone: %v, %s", err, show(c))
	}
}

func TestTimeOutAndLateAnswer(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", silent)
	f.connect("d", "n1")
	for _, forget := range []bool{false, true} {
		c := create(t, r, commands.Request{Device: "d", Timeout: 50 * time.Millisecond})
		c = wantFinal(t, r, c.ID, commands.TimedOut)
		if c.Late {
			t.Error("late without an answer")
		}
		if forget { // the answer comes when the command is only in the log
			r.ForgetRecent()
		}
		recorded := make(chan error, 1)
		r.Answered(commands.Attachment{Device: "d", Session: "s1"}, &wire.Answer{Kind: wire.Result, ID: c.ID, OK: true}, func(err error) { recorded <- err })
		if err := <-recorded; err != nil {
			t.Fatal(err)
		}
		if forget {
			r.ForgetRecent()
		}
		c, err := r.Command(within(t), c.ID)
		if err != nil || c.State != commands.Succeeded || !c.Late {
			t.Errorf("after the late answer: %v %s", err, show(c))
		}
		// A second one changes nothing.
		r.Answered(commands.Attachment{Device: "d"}, &wire.Answer{Kind: wire.Result, ID: c.ID, Error: &wire.Fault{Code: "x"}}, func(err error) { recorded <- err })
		if err := <-recorded; err != nil {
			t.Fatal(err)
		}
		if again, err := r.Command(within(t), c.ID); err != nil || again.State != commands.Succeeded {
			t.Errorf("after a contradiction: %v %s", err, show(again))
		}
	}
	_ = d
}

func TestRedelivery(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", silent)
	f.connect("d", "n1")
	first := wantState(t, r, create(t, r, commands.Request{Device: "d", Name: "one"}).ID, commands.Sent)
	second := create(t, r, commands.Request{Device: "d", Name: "two"})
	wantState(t, r, second.ID, commands.Sent)
	d.later(func() { d.accept(second.ID) })
	wantState(t, r, second.ID, commands.Delivered)

	// Wifi dies; the device comes back. What it accepted does not come again.
	f.disconnect("d")
	f.connect("d", "n1")
	c := eventually(t, r, first.ID, func(c commands.Command) bool { return c.Attempt == 2 })
	if c.State != commands.Sent {
		t.Errorf("state %s", c.State)
	}
	got := d.received()
	if len(got) != 3 || got[2].ID != first.ID || got[2].Attempt != 2 {
		t.Errorf("device received %+v", got)
	}
	d.later(func() { d.succeed(first.ID); d.succeed(second.ID) })
	wantFinal(t, r, first.ID, commands.Succeeded)
	wantFinal(t, r, second.ID, commands.Succeeded)
}

func TestCancel(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", func(d *device, c wire.Command) { d.accept(c.ID) })
	queued := create(t, r, commands.Request{Device: "d"})
	c, err := r.Cancel(within(t), queued.ID, "bob")
	if err != nil || c.State != commands.Cancelled {
		t.Fatalf("queued: %v %s", err, show(c))
	}
	if last := c.Events[len(c.Events)-1]; last.Actor != "bob" {
		t.Errorf("who cancelled: %+v", last)
	}
	if _, err := r.Cancel(within(t), queued.ID, "bob"); !errors.Is(err, commands.ErrFinal) {
		t.Errorf("again: %v", err)
	}
	f.connect("d", "n1")
	c = wantState(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Delivered)
	c, err = r.Cancel(within(t), c.ID, "bob")
	if err != nil {
		t.Fatal(err)
	}
	c = wantFinal(t, r, c.ID, commands.Cancelled)
	if c.Error == nil || c.Error.Code != "cancelled" {
		t.Errorf("cancelled without the device's word: %s", show(c))
	}
	if got := d.received(); len(got) != 1 {
		t.Errorf("device received %+v", got)
	}
	if _, err := r.Cancel(within(t), "3F-ABCDEF", "bob"); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	dir := t.TempDir()
	f := newFleet(t)
	f.add("d", obey)
	b := openBus(t, dir)
	r, stop := start(t, b, f, "n1")
	q := commands.Request{Device: "d", Name: "set", Actor: "ann", IdempotencyKey: "k1"}

	// Many at once make one command.
	ids := make(chan string, 20)
	var wg sync.WaitGroup
	for range cap(ids) {
		wg.Go(func() {
			c, err := r.Create(within(t), q)
			if err != nil {
				t.Error(err)
			}
			ids <- c.ID
		})
	}
	wg.Wait()
	id := <-ids
	for range cap(ids) - 1 {
		if got := <-ids; got != id {
			t.Fatalf("two commands of one key: %s and %s", id, got)
		}
	}
	other := q
	other.Name = "get"
	if _, err := r.Create(within(t), other); !errors.Is(err, commands.ErrKeyReused) {
		t.Errorf("other body: %v", err)
	}
	bob := other
	bob.Actor = "bob"
	if c := create(t, r, bob); c.ID == id {
		t.Error("keys of two actors are one")
	}
	f.connect("d", "n1")
	wantFinal(t, r, id, commands.Succeeded)
	r.Floor(func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	// The hub starts anew, the floor is above the command.
	b = openBus(t, dir)
	defer b.Close()
	r, stop = start(t, b, f, "n1")
	defer stop()
	if c := create(t, r, q); c.ID != id || c.State != commands.Succeeded {
		t.Errorf("after a restart: %s, want %s", show(c), id)
	}
	if _, err := r.Create(within(t), other); !errors.Is(err, commands.ErrKeyReused) {
		t.Errorf("other body after a restart: %v", err)
	}
}

// An operator whose first answer was lost asks again with the key, also when the device has gone meanwhile.
func TestKeyOfACommandForNowOrNever(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", obey)
	f.connect("d", "n1")
	q := commands.Request{Device: "d", OnlineOnly: true, Actor: "ann", IdempotencyKey: "once"}
	c := wantFinal(t, r, create(t, r, q).ID, commands.Succeeded)
	f.disconnect("d")
	if again := create(t, r, q); again.ID != c.ID {
		t.Errorf("asked again: %s, want %s", again.ID, c.ID)
	}
	q.IdempotencyKey = "another"
	q.Name = "set"
	if _, err := r.Create(within(t), q); !errors.Is(err, commands.ErrOffline) {
		t.Errorf("off line: %v", err)
	}
	wantEmpty(t, r)
}

// A repeated request is answered by the command that it made, also when it would be refused by now.
func TestKeyGoesBeforeWhatHasChanged(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", obey)
	q := commands.Request{Device: "d", Name: "set", Actor: "ann", IdempotencyKey: "once"}
	c := create(t, r, q)
	if _, _, err := r.Hold(within(t), "d", "bob", time.Minute, false); err != nil {
		t.Fatal(err)
	}
	if again, err := r.Create(within(t), q); err != nil || again.ID != c.ID {
		t.Errorf("asked again: %v %s, want %s", err, again.ID, c.ID)
	}
	other := q
	other.Name = "get"
	if _, err := r.Create(within(t), other); !errors.Is(err, commands.ErrKeyReused) {
		t.Errorf("another request: %v", err)
	}
	q.IdempotencyKey = "another"
	if _, err := r.Create(within(t), q); !errors.Is(err, commands.ErrHeld) {
		t.Errorf("another key: %v", err)
	}
}

func TestRestartKeepsOpenCommands(t *testing.T) {
	dir := t.TempDir()
	f := newFleet(t)
	var hold sync.WaitGroup
	hold.Add(1)
	d := f.add("on", func(d *device, c wire.Command) { d.accept(c.ID) })
	off := f.add("off", obey)
	f.connect("on", "n1")
	b := openBus(t, dir)
	r, stop := start(t, b, f, "n1")
	var queued []string
	for range 5 {
		queued = append(queued, create(t, r, commands.Request{Device: "off"}).ID)
	}
	running := wantState(t, r, create(t, r, commands.Request{Device: "on"}).ID, commands.Delivered)
	ended := create(t, r, commands.Request{Device: "off", TTL: time.Millisecond})
	wantFinal(t, r, ended.ID, commands.Expired)
	stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b = openBus(t, dir)
	defer b.Close()
	f.disconnect("on")
	r, stop = start(t, b, f, "n1")
	defer stop()
	if n, _ := r.Open(); n != 6 {
		t.Errorf("%d commands open after the restart, want 6", n)
	}
	f.connect("on", "n1")
	f.connect("off", "n1")
	d.later(func() { d.succeed(running.ID) })
	wantFinal(t, r, running.ID, commands.Succeeded)
	for _, id := range queued {
		wantFinal(t, r, id, commands.Succeeded)
	}
	var got []string
	for _, c := range off.received() {
		got = append(got, c.ID)
	}
	if !slices.Equal(got, queued) {
		t.Errorf("order %v, want %v", got, queued)
	}
	if c, err := r.Command(within(t), ended.ID); err != nil || c.State != commands.Expired {
		t.Errorf("ended before: %v %s", err, show(c))
	}
}

func TestWaiters(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", obey)
	c := create(t, r, commands.Request{Device: "d"})
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := r.Wait(gone, c.ID); !errors.Is(err, context.Canceled) || got.State != commands.Queued {
		t.Errorf("cancelled waiter: %v %s", err, got.State)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if got, err := r.Wait(within(t), c.ID); err != nil || got.State != commands.Succeeded {
				t.Errorf("waiter: %v %s", err, got.State)
			}
		})
	}
	f.connect("d", "n1")
	wg.Wait()
}

func TestList(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := hub(t, f)
	for i := range 4 {
		f.add(fmt.Sprintf("d%d", i), obey)
	}
	f.connect("d0", "n1")
	f.connect("d1", "n1")
	var all []string
	for i := range 120 {
		c := create(t, r, commands.Request{Device: fmt.Sprintf("d%d", i%4), Actor: fmt.Sprintf("a%d", i%3)})
		if i%4 < 2 {
			wantFinal(t, r, c.ID, commands.Succeeded)
		}
		all = append(all, c.ID)
	}
	slices.Reverse(all)
	pages := func(f commands.Filter) (ids []string) {
		for range 200 {
			p, err := r.List(within(t), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Commands) > f.Limit {
				t.Fatalf("page of %d", len(p.Commands))
			}
			for _, c := range p.Commands {
				ids = append(ids, c.ID)
				if c.Events != nil || f.State != "" && c.State != f.State || f.Actor != "" && c.Actor != f.Actor || f.Device != "" && c.Device != f.Device {
					t.Errorf("%+v lists %s", f, show(c))
				}
			}
			if f.Cursor = p.Cursor; f.Cursor == "" {
				return ids
			}
		}
		t.Fatal("the list does not end")
		return nil
	}
	for _, forget := range []bool{false, true} {
		if forget {
			r.ForgetRecent()
		}
		if got := pages(commands.Filter{Limit: 7}); !slices.Equal(got, all) {
			t.Errorf("all: %d of %d\n%v\n%v", len(got), len(all), got, all)
		}
		for filter, want := range map[commands.Filter]int{
			{Limit: 7, Device: "d1"}:                              30,
			{Limit: 7, State: commands.Queued}:                    60,
			{Limit: 7, State: commands.Succeeded}:                 60,
			{Limit: 7, Actor: "a1"}:                               40,
			{Limit: 7, Actor: "a1", State: commands.Queued}:       20,
			{Limit: 7, Device: "d2", State: commands.Succeeded}:   0,
			{Limit: 1000, Device: "d2", State: commands.Queued}:   30,
			{Limit: 1000, State: commands.Failed}:                 0,
			{Limit: 1, Device: "d0", State: commands.Succeeded}:   30,
			{Limit: 10, Device: "none", State: commands.Expired}:  0,
			{Limit: 10, Device: "d3", Actor: "a2", State: "sent"}: 0,
		} {
			if got := pages(filter); len(got) != want {
				t.Errorf("%+v: %d, want %d", filter, len(got), want)
			}
		}
	}
	if _, err := r.List(within(t), commands.Filter{Cursor: "x"}); !errors.Is(err, commands.ErrInvalidRequest) {
		t.Errorf("bad cursor: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", obey)
	f.specs["set"] = wire.CommandSpec{Name: "set", Params: json.RawMessage(`{"type":"object","required":["seconds"],"properties":{"seconds":{"type":"integer","minimum":1}},"additionalProperties":false}`)}
	f.specs["wipe"] = wire.CommandSpec{Name: "wipe", Dangerous: true}
	for _, c := range []struct {
		name string
		q    commands.Request
		want error
		path string
	}{
		{"device", commands.Request{Device: "x", Name: "set"}, commands.ErrUnknownDevice, ""},
		{"wild device", commands.Request{Device: "*", Name: "set"}, commands.ErrUnknownDevice, ""},
		{"no name", commands.Request{Device: "d"}, commands.ErrInvalidRequest, "/name"},
		{"command", commands.Request{Device: "d", Name: "fly"}, commands.ErrUnknownCommand, ""},
		{"type", commands.Request{Device: "d", Name: "set", Params: json.RawMessage(`{"seconds":"x"}`)}, commands.ErrInvalidParams, "/params/seconds"},
		{"range", commands.Request{Device: "d", Name: "set", Params: json.RawMessage(`{"seconds":0}`)}, commands.ErrInvalidParams, "/params/seconds"},
		{"missing", commands.Request{Device: "d", Name: "set"}, commands.ErrInvalidParams, "/params/seconds"},
		{"unknown", commands.Request{Device: "d", Name: "set", Params: json.RawMessage(`{"seconds":1,"a/b":1}`)}, commands.ErrInvalidParams, "/params/a~1b"},
		{"JSON", commands.Request{Device: "d", Name: "wipe", Params: json.RawMessage(`{"a":`)}, commands.ErrInvalidRequest, "/params"},
		{"number", commands.Request{Device: "d", Name: "wipe", Params: json.RawMessage(`{"a":[1,-1e400]}`)}, commands.ErrInvalidRequest, "/params"},
		{"huge", commands.Request{Device: "d", Name: "wipe", Params: json.RawMessage(`"` + string(slices.Repeat([]byte("x"), 64<<10)) + `"`)}, commands.ErrInvalidRequest, "/params"},
		{"danger", commands.Request{Device: "d", Name: "wipe"}, commands.ErrConfirmRequired, ""},
		{"ttl", commands.Request{Device: "d", Name: "wipe", Confirm: "d", TTL: 31 * 24 * time.Hour}, commands.ErrInvalidRequest, "/ttl"},
		{"timeout", commands.Request{Device: "d", Name: "wipe", Confirm: "d", Timeout: -1}, commands.ErrInvalidRequest, "/timeout"},
	} {
		_, err := r.Create(within(t), c.q)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
			continue
		}
		var fault *commands.InvalidError
		if c.path != "" && (!errors.As(err, &fault) || fault.Path != c.path || fault.Message == "") {
			t.Errorf("%s: %v, want path %s", c.name, err, c.path)
		}
	}
	create(t, r, commands.Request{Device: "d", Name: "set", Params: json.RawMessage(`{"seconds":3}`)})
	create(t, r, commands.Request{Device: "d", Name: "wipe", Confirm: "d"})
}

func TestAnswersToNobody(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", silent)
	f.add("e", silent)
	f.connect("d", "n1")
	c := wantState(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Sent)
	recorded := make(chan error, 1)
	for _, id := range []string{"", "nonsense", "ZZZZ-ABCDEF", "1-ABCDEF", c.ID} {
		// Device e answers what it never got; it may forget it, and nothing changes.
		r.Answered(commands.Attachment{Device: "e"}, &wire.Answer{Kind: wire.Result, ID: id, OK: true}, func(err error) { recorded <- err })
		if err := <-recorded; err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if got, err := r.Command(within(t), c.ID); err != nil || got.State != commands.Sent {
		t.Errorf("another device's answer counted: %v %s", err, show(got))
	}
}

func TestAnswerTwice(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", func(d *device, c wire.Command) {
		obey(d, c)
		obey(d, c)
	})
	f.connect("d", "n1")
	c := wantFinal(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Succeeded)
	if got := states(c); len(got) != 4 {
		t.Errorf("events %v", got)
	}
}

// A device may answer before the write of its command has returned. The events' times tell the order in which it happened.
func TestTimesOfAFastAnswer(t *testing.T) {
	f := newFleet(t)
	said := make(chan struct{})
	f.linger = func() {
		<-said
		time.Sleep(3 * time.Millisecond) // times are of milliseconds
	}
	r := hub(t, f)
	f.add("d", func(d *device, c wire.Command) {
		d.succeed(c.ID)
		close(said)
	})
	f.connect("d", "n1")
	c := wantFinal(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Succeeded)
	if !slices.IsSortedFunc(c.Events, func(a, b commands.Event) int { return cmp.Compare(a.Time, b.Time) }) {
		t.Errorf("times go back: %s", show(c))
	}
}
