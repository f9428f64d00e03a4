package devices_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// openRecords watches the records of a bus until the test ends.
func openRecords(t testing.TB, b *bus.Bus) *devices.Records {
	t.Helper()
	r := devices.NewRecords(bucket(t, b, bus.BucketDevices), discard())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	<-r.Ready()
	return r
}

func setLabel(key, value string) func(*devices.Record) (bool, error) {
	return func(r *devices.Record) (bool, error) {
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[key] = value
		return true, nil
	}
}

func TestRecordsReachEveryNode(t *testing.T) {
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	one, two := openRecords(t, b), openRecords(t, b)
	ctx := t.Context()
	made, err := one.Create(ctx, &devices.Record{ID: "a:b", Labels: map[string]string{"site": "p7"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := one.Record("a:b"); !ok {
		t.Fatal("a node does not see its own write")
	}
	if _, err := one.Create(ctx, &devices.Record{ID: "a:b"}); !errors.Is(err, devices.ErrExists) {
		t.Fatalf("made twice: %v", err)
	}
	eventually(t, "the other node sees it", func() bool { _, ok := two.Record("a:b"); return ok })
	if _, err := two.Update(ctx, "a:b", made.Revision, setLabel("room", "b2")); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Update(ctx, "a:b", made.Revision, setLabel("room", "b3")); !errors.Is(err, devices.ErrConflict) {
		t.Fatalf("an update of an older record: %v", err)
	}
	if _, err := one.Update(ctx, "a:b", 0, setLabel("floor", "1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both changes are everywhere", func() bool {
		r, _ := two.Record("a:b")
		return r.Labels["room"] == "b2" && r.Labels["floor"] == "1" && r.Labels["site"] == "p7"
	})
	if err := one.Delete(ctx, "a:b", 0); err != nil {
		t.Fatal(err)
	}
	if err := one.Delete(ctx, "a:b", 0); !errors.Is(err, devices.ErrUnknown) {
		t.Fatalf("deleted twice: %v", err)
	}
	eventually(t, "it is gone everywhere", func() bool { _, ok := two.Record("a:b"); return !ok })
	if _, err := one.Create(ctx, &devices.Record{ID: "a:b"}); err != nil {
		t.Fatalf("made again: %v", err)
	}
	eventually(t, "it is back everywhere", func() bool { _, ok := two.Record("a:b"); return ok })
	if r, ok := one.Record("a:b"); !ok || len(r.Labels) != 0 {
		t.Fatalf("%+v, %v", r, ok)
	}
}

func TestConcurrentUpdatesAllCount(t *testing.T) {
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	r := openRecords(t, b)
	if _, err := r.Create(t.Context(), &devices.Record{ID: "d"}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			if _, err := r.Update(context.Background(), "d", 0, setLabel(fmt.Sprintf("k%d", i), "v")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if rec, _ := r.Record("d"); len(rec.Labels) != 5 {
		t.Fatalf("labels %v", rec.Labels)
	}
}

func TestRecordsRefuse(t *testing.T) {
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	r := openRecords(t, b)
	for name, rec := range map[string]*devices.Record{
		"wild id":          {ID: "a.*"},
		"long id":          {ID: string(make([]byte, 65))},
		"label key":        {ID: "a", Labels: map[string]string{"a b": "x"}},
		"label value":      {ID: "a", Labels: map[string]string{"a": "x\n"}},
		"label backslash":  {ID: "a", Labels: map[string]string{"a": `x\`}},
		"key that is none": {ID: "a", Keys: []devices.Key{{KID: "k", PEM: "x"}}},
	} {
		if _, err := r.Create(t.Context(), rec); !errors.Is(err, devices.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListPagesSelectsAndSearches(t *testing.T) {
	h := startHub(t)
	for i := range 25 {
		labels := map[string]string{"n": fmt.Sprint(i % 3)}
		if i%2 == 0 {
			labels["site"] = "p7"
		}
		if _, err := h.records.Create(t.Context(), &devices.Record{ID: fmt.Sprintf("d%02d", i), Labels: labels, Model: "Thermo-2"}); err != nil {
			t.Fatal(err)
		}
	}
	h.connect(h.token("d04"))
	dir := devices.Directory{Records: h.records, Presence: h.presence}
	for _, c := range []struct {
		selector, search string
		status           devices.Status
		want             int
	}{
		{"", "", "", 25},
		{"site=p7", "", "", 13},
		{"site!=p7", "", "", 12},
		{"site", "", "", 13},
		{"!site", "", "", 12},
		{"site=p7,n in (0, 1)", "", "", 9},
		{"n notin (0,1),site=p7", "", "", 4},
		{"", "D1", "", 10},
		{"", "thermo", "", 25},
		{"", "nothing", "", 0},
		{"", "", devices.Online, 1},
		{"site=p7", "", devices.Never, 12},
	} {
		sel, err := selector.Parse(c.selector)
		if err != nil {
			t.Fatalf("%q: %v", c.selector, err)
		}
		q, got, pages := devices.Query{Selector: sel, Search: c.search, Status: c.status, Limit: 4}, map[string]bool{}, 0
		for {
			list, cursor, err := dir.List(q)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list {
				got[d.Record.ID] = true
			}
			pages++
			if q.Cursor = cursor; cursor == "" {
				break
			}
		}
		if len(got) != c.want || pages != max(1, (c.want+3)/4) {
			t.Errorf("%+v: %d devices on %d pages", c, len(got), pages)
		}
	}
	if _, _, err := dir.List(devices.Query{Cursor: "!"}); !errors.Is(err, devices.ErrInvalid) {
		t.Errorf("cursor: %v", err)
	}
}

func TestLabelsReachTheLog(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	c.send(`{"type":"telemetry","seq":1,"fields":{"a":1}}`)
	c.wantAck(1)
	if _, err := h.records.Update(t.Context(), "pump-7", 0, setLabel("site", "p7")); err != nil {
		t.Fatal(err)
	}
	c.send(`{"type":"telemetry","seq":2,"fields":{"a":1}}`)
	c.wantAck(2)
	h.log.set(func(l *telemetryLog) {
		if len(l.opened) != 2 || l.opened[1]["site"] != "p7" || l.closed != 1 {
			t.Errorf("opened with %v, closed %d", l.opened, l.closed)
		}
	})
}

// BenchmarkList filters 100,000 records, the last page of which is asked for.
func BenchmarkList(b *testing.B) {
	const n = 100_000
	nats := openBus(b, b.TempDir())
	b.Cleanup(func() { nats.Close() })
	kv := bucket(b, nats, bus.BucketDevices)
	js := nats.JetStream()
	for i := range n {
		value := fmt.Appendf(nil, `{"id":"device-%06d","labels":{"site":"p%d","room":"b%d"},"model":"thermo-2","firmware":"1.4.%d"}`, i, i%50, i%7, i%9)
		if _, err := js.PublishAsync(fmt.Sprintf("$KV.%s.device-%06d", kv.Bucket(), i), value); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		b.Fatal("records not stored")
	}
	start := time.Now()
	r := openRecords(b, nats)
	b.Logf("%d records read in %s", r.Len(), time.Since(start))
	sel, err := selector.Parse("site=p49,room in (b1,b2,b3)")
	if err != nil {
		b.Fatal(err)
	}
	never := func(string) devices.Status { return devices.Never }
	for name, q := range map[string]devices.Query{
		"selector":        {Selector: sel, Limit: 1000},
		"search":          {Search: "099999", Limit: 1000},
		"selector+status": {Selector: sel, Status: devices.Online, Limit: 1000},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.List(q, never); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestFaultsOfRecordsNameTheirPlace: whoever sent the record finds what to change.
func TestFaultsOfRecordsNameTheirPlace(t *testing.T) {
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	records := openRecords(t, b)
	key, err := devices.NewKey("k", `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`)
	if err != nil {
		t.Fatal(err)
	}
	many := map[string]string{}
	for i := range devices.MaxLabels + 1 {
		many[fmt.Sprintf("l%d", i)] = "x"
	}
	for path, rec := range map[string]devices.Record{
		"labels.a":     {ID: "a", Labels: map[string]string{"a": ""}},
		"labels.b":     {ID: "a", Labels: map[string]string{"b": `x\`}},
		"labels.(c)":   {ID: "a", Labels: map[string]string{"(c)": "x"}},
		"labels":       {ID: "a", Labels: many},
		"keys":         {ID: "a", Keys: []devices.Key{key, key}},
		"notes":        {ID: "a", Notes: "\xff"},
		"model":        {ID: "a", Model: "a\nb"},
		"firmware":     {ID: "a", Firmware: "a\nb"},
		"expect_every": {ID: "a", ExpectEvery: 10_000 * time.Hour},
		"id":           {ID: "a b"},
	} {
		_, err := records.Create(t.Context(), &rec)
		if f := (*devices.Fault)(nil); !errors.As(err, &f) || f.Path != path || f.Detail == "" || !errors.Is(err, devices.ErrInvalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := records.Create(t.Context(), &devices.Record{ID: "a", Labels: map[string]string{"a": "x"}, Keys: []devices.Key{key}}); err != nil {
		t.Errorf("a good one: %v", err)
	}
}
