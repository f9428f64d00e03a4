package commands_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

func TestSentPerDevice(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f, func(c *configs.Commands) { c.SentPerDevice = 3 })
	d := f.add("d", silent)
	f.connect("d", "n1")
	var ids []string
	for range 5 {
		ids = append(ids, create(t, r, commands.Request{Device: "d"}).ID)
	}
	for _, id := range ids[:3] {
		wantState(t, r, id, commands.Sent)
	}
	for _, id := range ids[3:] {
		if c, err := r.Command(within(t), id); err != nil || c.State != commands.Queued {
			t.Errorf("over the limit: %v %s", err, c.State)
		}
	}
	d.later(func() { d.succeed(ids[0]) })
	wantFinal(t, r, ids[0], commands.Succeeded)
	wantState(t, r, ids[3], commands.Sent)
}

func TestMaxOpen(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f, func(c *configs.Commands) { c.MaxOpen = 2 })
	for i := range 3 {
		id := fmt.Sprintf("d%d", i)
		f.add(id, obey)
		_, err := r.Create(within(t), commands.Request{Device: id, Name: "set"})
		if i < 2 && err != nil || i == 2 && !errors.Is(err, commands.ErrOverloaded) {
			t.Errorf("command %d: %v", i+1, err)
		}
	}
}

// fill leaves the log no room.
func fillLog(t *testing.T, b *bus.Bus, limit int64) {
	t.Helper()
	s, err := b.Stream(within(t), bus.StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxBytes = limit
	if _, err := b.JetStream().UpdateStream(within(t), cfg); err != nil {
		t.Fatal(err)
	}
}

func TestFullLogRefuses(t *testing.T) {
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	defer stop()
	f.add("d", silent)
	f.connect("d", "n1")
	c := wantState(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Sent)
	fillLog(t, b, 1200)
	for range 10 { // until it is full
		if _, err := r.Create(within(t), commands.Request{Device: "d", Name: "set"}); err != nil {
			if !errors.Is(err, commands.ErrLogFull) {
				t.Fatal(err)
			}
			break
		}
	}
	recorded := make(chan error, 1)
	long := json.RawMessage(`"` + strings.Repeat("x", 2000) + `"`)
	answer := func() error {
		r.Answered(commands.Attachment{Device: "d"}, &wire.Answer{Kind: wire.Result, ID: c.ID, OK: true, Result: long}, func(err error) { recorded <- err })
		return <-recorded
	}
	if err := answer(); !errors.Is(err, commands.ErrLogFull) {
		t.Fatalf("answer into a full log: %v", err)
	}
	if got, err := r.Command(within(t), c.ID); err != nil || got.State == commands.Succeeded {
		t.Errorf("not recorded, yet: %v %s", err, show(got))
	}
	// There is room again, and the device repeats itself.
	fillLog(t, b, 1<<30)
	if err := answer(); err != nil {
		t.Fatal(err)
	}
	wantFinal(t, r, c.ID, commands.Succeeded)
}

func TestTrimKeepsOpenCommands(t *testing.T) {
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	f.add("d", obey)
	f.add("off", obey)
	f.connect("d", "n1")
	var ended []string
	for range 30 {
		ended = append(ended, wantFinal(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Succeeded).ID)
	}
	open := create(t, r, commands.Request{Device: "off"})
	s, err := b.Stream(within(t), bus.StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(within(t))
	if err != nil {
		t.Fatal(err)
	}
	fillLog(t, b, int64(float64(info.State.Bytes)*1.05))
	for range 20 {
		if err := r.Trim(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	r.ForgetRecent()
	if _, err := r.Command(within(t), ended[0]); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("the oldest: %v", err)
	}
	create(t, r, commands.Request{Device: "off"}) // room again
	stop()
	r, stop = start(t, b, f, "n1")
	defer stop()
	if c, err := r.Command(within(t), open.ID); err != nil || c.State != commands.Queued {
		t.Errorf("the open one: %v %s", err, show(c))
	}
}

// A command that waits for weeks pins what lies behind it only for its own device.
func TestTrimGoesAroundWhatWaits(t *testing.T) {
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	defer stop()
	f.add("d", obey)
	f.add("off", obey)
	f.connect("d", "n1")
	open := create(t, r, commands.Request{Device: "off"})
	var ended []string
	for range 40 {
		ended = append(ended, wantFinal(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Succeeded).ID)
	}
	later := create(t, r, commands.Request{Device: "off"})
	s, err := b.Stream(within(t), bus.StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(within(t))
	if err != nil {
		t.Fatal(err)
	}
	fillLog(t, b, int64(float64(info.State.Bytes)*1.05))
	for range 3 {
		if err := r.Trim(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	r.ForgetRecent()
	if _, err := r.Command(within(t), ended[0]); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("the oldest: %v", err)
	}
	if c, err := r.Command(within(t), ended[len(ended)-1]); err != nil || c.State != commands.Succeeded {
		t.Errorf("the youngest: %v %s", err, show(c))
	}
	f.connect("off", "n1")
	for _, id := range []string{open.ID, later.ID} {
		wantFinal(t, r, id, commands.Succeeded)
	}
}

func TestMessageCountsOnce(t *testing.T) {
	// A publish was repeated because its ack was lost: the log has it twice.
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	f.add("d", obey)
	first := create(t, r, commands.Request{Device: "d", Name: "one"})
	stop()
	s, err := b.Stream(within(t), bus.StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	seq, _, _ := commands.ParseID(first.ID)
	raw, err := s.GetMsg(within(t), seq)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().PublishMsg(within(t), &nats.Msg{Subject: raw.Subject, Data: raw.Data}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().Publish(within(t), raw.Subject, []byte("no JSON")); err != nil {
		t.Fatal(err)
	}
	r, stop = start(t, b, f, "n1")
	defer stop()
	if n, _ := r.Open(); n != 1 {
		t.Errorf("%d commands, want 1", n)
	}
	if last := r.Applied(); last != seq+2 {
		t.Errorf("read up to %d, want %d", last, seq+2)
	}
	// The same while the hub runs: what it publishes next does not follow what it read last.
	if _, err := b.JetStream().PublishMsg(within(t), &nats.Msg{Subject: raw.Subject, Data: raw.Data}); err != nil {
		t.Fatal(err)
	}
	f.connect("d", "n1")
	wantFinal(t, r, create(t, r, commands.Request{Device: "d", Name: "two"}).ID, commands.Succeeded)
	wantFinal(t, r, first.ID, commands.Succeeded)
	if got := f.devices["d"].received(); len(got) != 2 {
		t.Errorf("device received %+v", got)
	}
}

// What a device said stands in the log twice. Whoever reads the command back from there finds it as it ended.
func TestRepeatedMessageChangesNoHistory(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1")
	defer stop()
	d := f.add("d", silent)
	f.connect("d", "n1")
	c := create(t, r, commands.Request{Device: "d", Timeout: 2 * time.Second})
	wantState(t, r, c.ID, commands.Sent)
	d.say(&wire.Answer{Kind: wire.Progress, ID: c.ID, Percent: 10})
	wantState(t, r, c.ID, commands.Running)
	s, err := b.Stream(within(t), bus.StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.GetMsg(within(t), r.Applied())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().PublishMsg(within(t), &nats.Msg{Subject: raw.Subject, Data: raw.Data}); err != nil {
		t.Fatal(err)
	}
	wantFinal(t, r, c.ID, commands.TimedOut)
	r.ForgetRecent()
	if again, err := r.Command(within(t), c.ID); err != nil || again.State != commands.TimedOut {
		t.Errorf("read back: %v %s", err, show(again))
	}
	r.ForgetRecent()
	if page, err := r.List(within(t), commands.Filter{Device: "d"}); err != nil || len(page.Commands) != 1 {
		t.Errorf("list: %v, %d commands", err, len(page.Commands))
	}
}

// What JSON would escape must not make an answer too long for the log: it would never be acked, and the commit that
// holds it would be repeated without end, with everybody behind it.
func TestLongAnswersAreRecorded(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	const frame = 64 << 10
	page := []byte(`"` + strings.Repeat("<", frame-1024) + `"`)
	text := strings.Repeat("\x01", frame)
	d := f.add("d", silent)
	f.add("e", obey)
	f.connect("d", "n1")
	f.connect("e", "n1")
	var ids []string
	for range 6 {
		ids = append(ids, wantState(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Sent).ID)
	}
	for i, id := range ids {
		a := &wire.Answer{Kind: wire.Result, ID: id, OK: true, Result: page}
		if i%2 == 1 {
			a = &wire.Answer{Kind: wire.Result, ID: id, Error: &wire.Fault{Code: text, Message: text}}
		}
		d.say(a)
	}
	wantFinal(t, r, create(t, r, commands.Request{Device: "e"}).ID, commands.Succeeded)
	for i, id := range ids {
		if i%2 == 1 {
			wantFinal(t, r, id, commands.Failed)
			continue
		}
		if c := wantFinal(t, r, id, commands.Succeeded); string(c.Result) != string(page) {
			t.Errorf("result of %d bytes, the device gave %d", len(c.Result), len(page))
		}
	}
	r.ForgetRecent()
	if c, err := r.Command(within(t), ids[0]); err != nil || string(c.Result) != string(page) {
		t.Errorf("read back: %v, %d bytes", err, len(c.Result))
	}
}

// A result that the log has no room for in one message ends its command nevertheless, as the device said, and says that
// it was left out. The device may forget it: it would never be recorded.
func TestResultTooLargeForTheLog(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", silent)
	f.connect("d", "n1")
	large := json.RawMessage(`"` + strings.Repeat("x", 600<<10) + `"`)
	for _, tc := range []struct {
		name   string
		answer wire.Answer
		state  commands.State
		code   string
	}{
		{"done", wire.Answer{OK: true, Result: large}, commands.Succeeded, "result_too_large"},
		{"failed for no reason", wire.Answer{Result: large}, commands.Failed, "result_too_large"},
		{"failed", wire.Answer{Result: large, Error: &wire.Fault{Code: "jammed"}}, commands.Failed, "jammed"},
	} {
		c := wantState(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Sent)
		tc.answer.Kind, tc.answer.ID = wire.Result, c.ID
		recorded := make(chan error, 1)
		r.Answered(commands.Attachment{Device: "d"}, &tc.answer, func(err error) { recorded <- err })
		if err := <-recorded; err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		r.ForgetRecent() // what the log says is the truth
		c = wantFinal(t, r, c.ID, tc.state)
		if c.Error == nil || c.Error.Code != tc.code || len(c.Result) > 0 {
			t.Errorf("%s: %s", tc.name, show(c))
		}
	}
}

func TestFloorRises(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	f.add("d", obey)
	f.add("off", obey)
	f.connect("d", "n1")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		wantFinal(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Succeeded)
	}
	if got := r.Floor(check); got != r.Applied()+1 {
		t.Errorf("floor %d, read up to %d", got, r.Applied())
	}
	open := create(t, r, commands.Request{Device: "off"})
	wantFinal(t, r, create(t, r, commands.Request{Device: "d"}).ID, commands.Succeeded)
	if got, seq := r.Floor(check), uint64(place(open.ID)); got != seq {
		t.Errorf("floor %d, the open command is at %d", got, seq)
	}
}

func TestSchemas(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	bomb := func(width int) string {
		var defs []string
		for i := range 40 {
			ref := fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, i+1)
			defs = append(defs, fmt.Sprintf(`"d%d":{"allOf":[%s]}`, i, strings.TrimSuffix(strings.Repeat(ref+",", width), ",")))
		}
		return `{"$ref":"#/$defs/d0","$defs":{` + strings.Join(defs, ",") + `,"d40":{"type":"string"}}}`
	}
	for name, c := range map[string]struct {
		schema, params string
		bad            bool
	}{
		"fits":           {`{"type":"object"}`, `{}`, false},
		"does not":       {`{"type":"object"}`, `[]`, true},
		"empty schema":   {``, `[]`, false},
		"true":           {`true`, `[]`, false},
		"false":          {`false`, `{}`, true},
		"local ref":      {`{"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}}}`, `1`, true},
		"deep":           {`{"anyOf":[{"type":"object","properties":{"a":{"enum":[1]}}},{"type":"string"}]}`, `{"a":2}`, true},
		"chain of refs":  {bomb(1), `1`, true},
		"not a schema":   {`{"type":17}`, `[]`, false},
		"not JSON":       {`{`, `[]`, false},
		"file":           {`{"$ref":"file:///etc/passwd"}`, `[]`, false},
		"address":        {`{"$ref":"http://127.0.0.1:1/x"}`, `[]`, false},
		"bomb":           {bomb(2), `1`, false},
		"circle":         {`{"$ref":"#"}`, `[]`, false},
		"growing circle": {`{"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, `{"a":{"a":{}}}`, false},
	} {
		err := r.CheckParams(c.schema, c.params)
		if (err != nil) != c.bad {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (!errors.Is(err, commands.ErrInvalidParams) || !strings.HasPrefix(err.Error(), "/params")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpecsThatCannotBeUsed(t *testing.T) {
	r := hub(t, newFleet(t))
	specs := func(schema string) []wire.CommandSpec {
		return []wire.CommandSpec{{Name: "plain"}, {Name: "go", Params: json.RawMessage(`{"type":"object"}`)}, {Name: "stop", Params: json.RawMessage(schema)}}
	}
	for schema, says := range map[string]string{
		`{"properties":{"a":{"minimum":1}}}`:            "",
		`{"properties":{"a":{"type":"banana"}}}`:        "schema: /properties/a/type: value must be one of",
		`{"$ref":"#"}`:                                  `schema: $ref "#" leads in a circle`,
		`{"$ref":"https://example.com/schema.json"}`:    `leads nowhere inside the schema`,
		`{"$schema":"https://example.com/own-dialect"}`: "references to elsewhere are not followed",
	} {
		for range 2 { // the second time it is known
			err := r.CheckSpecs(specs(schema))
			if (err == nil) != (says == "") || err != nil && (!strings.HasPrefix(err.Error(), "commands[2].params") || !strings.Contains(err.Error(), says)) {
				t.Errorf("%s: %v; want %q", schema, err, says)
			}
		}
	}
}

func TestManyQueued(t *testing.T) {
	// Many devices off line with 10 commands each, some of which expire; then all come at once.
	const devices, each, drain = manyDevices, 10, 20
	f := newFleet(t)
	ends := &ends{state: make(map[string]commands.State), changed: make(chan struct{}, 1)}
	f.notes = ends
	b := openBus(t, t.TempDir())
	defer b.Close()
	r, stop := start(t, b, f, "n1", func(c *configs.Commands) { c.DrainPerSecond = drain })
	defer stop()
	for i := range devices {
		f.add(fmt.Sprintf("d%d", i), obey)
	}
	before := heap()
	ids := make([][]string, devices)
	var wg sync.WaitGroup
	for i := range devices {
		wg.Go(func() {
			for n := range each {
				ttl := time.Hour
				if n%5 == 4 {
					ttl = time.Millisecond
				}
				c, err := r.Create(t.Context(), commands.Request{Device: fmt.Sprintf("d%d", i), Name: "set", TTL: ttl, Params: json.RawMessage(`{"seconds":10}`)})
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = append(ids[i], c.ID)
			}
		})
	}
	wg.Wait()
	s, err := b.Stream(within(t), bus.StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(within(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d devices: %d bytes of memory and %d of the log a queued command, %d MiB in all", devices, (heap()-before)/devices/each, info.State.Bytes/devices/each, (heap()-before)>>20)
	ends.await(t, 2*devices)
	began := time.Now()
	for i := range devices {
		f.connect(fmt.Sprintf("d%d", i), "n1")
	}
	ends.await(t, each*devices)
	took := time.Since(began)
	t.Logf("drained %d commands in %s: %.1f a second and device, allowed %d", devices*each*4/5, took, float64(each*4/5)/took.Seconds(), drain)
	for i := range devices {
		for n, id := range ids[i] {
			want := commands.Succeeded
			if n%5 == 4 {
				want = commands.Expired
			}
			if got := ends.state[id]; got != want {
				t.Errorf("command %d of d%d is %s, want %s", n, i, got, want)
			}
		}
		var got []string
		for _, c := range f.devices[fmt.Sprintf("d%d", i)].received() {
			got = append(got, c.ID)
		}
		want := slices.DeleteFunc(slices.Clone(ids[i]), func(id string) bool { return id == ids[i][4] || id == ids[i][9] })
		if !slices.Equal(got, want) {
			t.Fatalf("d%d received %v, want %v", i, got, want)
		}
	}
	wantEmpty(t, r)
}

// ends collects how commands ended.
type ends struct {
	mu      sync.Mutex
	state   map[string]commands.State
	changed chan struct{}
}

func (e *ends) Annotate(c commands.Command) {
	if !c.State.Final() {
		return
	}
	e.mu.Lock()
	e.state[c.ID] = c.State
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// await waits until n commands have ended.
func (e *ends) await(t *testing.T, n int) {
	t.Helper()
	ctx := within(t)
	for {
		e.mu.Lock()
		got := len(e.state)
		e.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-e.changed:
		case <-ctx.Done():
			t.Fatalf("%d of %d commands have ended", got, n)
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestLinkFailsAndRecovers(t *testing.T) {
	f := newFleet(t)
	r := hub(t, f)
	d := f.add("d", obey)
	f.fail = errors.New("write: broken pipe")
	f.connect("d", "n1")
	c := create(t, r, commands.Request{Device: "d"})
	// The frame may have left, so it cannot be taken back for good: the device has the word.
	if got, err := r.Cancel(within(t), c.ID, "x"); err != nil || got.State.Final() {
		t.Errorf("cancelled: %v %s", err, show(got))
	}
	second := create(t, r, commands.Request{Device: "d"})
	f.mu.Lock()
	f.fail = nil
	f.mu.Unlock()
	f.connect("d", "n1")
	wantFinal(t, r, second.ID, commands.Succeeded)
	wantFinal(t, r, c.ID, commands.Cancelled)
	_ = d
}
