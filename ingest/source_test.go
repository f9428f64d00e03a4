package ingest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// wantReject appends a frame that must be refused.
func wantReject(t *testing.T, src *ingest.Source, js string, code wire.Code, path string) {
	t.Helper()
	err := src.Append(frame(t, js))
	var rej *wire.Reject
	if !errors.As(err, &rej) || rej.Code != code || rej.Path != path {
		t.Errorf("%s\ngot %v (%+v), want %s at %q", js, err, rej, code, path)
	}
}

func wantTaken(t *testing.T, src *ingest.Source, js string) {
	t.Helper()
	if err := src.Append(frame(t, js)); err != nil {
		t.Errorf("%s: %v", js, err)
	}
}

func TestPointsAreChecked(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), func(o *ingest.Options) {
		o.Config.IntegerFields, o.Config.Tags, o.Config.DeviceFields = []string{"*_count"}, []string{"site"}, 100
		o.PointsPerFrame = 3
	})
	src := c.Open("pump-7", map[string]string{"site": "plant 7", "other": "x"}, nil)
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf(`"f%d":1`, i)
	}
	for _, r := range []struct {
		body string
		code wire.Code
		path string
	}{
		{`"fields":{"a b":1}`, wire.InvalidField, "fields.a b"},
		{`"fields":{"time":1}`, wire.InvalidField, "fields.time"},
		{`"fields":{"":1}`, wire.InvalidField, "fields."},
		{`"fields":{"a":1,"device":"pump-8"}`, wire.InvalidField, "fields.device"},
		{`"fields":{"site":"plant 8"}`, wire.InvalidField, "fields.site"},
		{`"fields":{"x":1,"x":2}`, wire.InvalidField, "fields.x"},
		{`"fields":{"x":null}`, wire.InvalidField, "fields"},
		{`"fields":{"s":"a\nb"}`, wire.InvalidField, "fields.s"},
		{`"fields":{"s":"a\u0085b"}`, wire.InvalidField, "fields.s"},
		{`"fields":{"s":"` + strings.Repeat("x", 4097) + `"}`, wire.InvalidField, "fields.s"},
		{`"fields":{"n_count":1.5}`, wire.InvalidField, "fields.n_count"},
		{`"fields":{` + strings.Join(many, ",") + `}`, wire.TooManyFields, "fields"},
		{`"measurement":"#x","fields":{"a":1}`, wire.InvalidMeasurement, "measurement"},
		{`"measurement":"a,b","fields":{"a":1}`, wire.InvalidMeasurement, "measurement"},
		{`"tags":{"device":"x"},"fields":{"a":1}`, wire.InvalidTag, "tags.device"},
		{`"tags":{"site":"x"},"fields":{"a":1}`, wire.InvalidTag, "tags.site"},
		{`"tags":{"k":""},"fields":{"a":1}`, wire.InvalidTag, "tags.k"},
		{`"tags":{"k":"a\\"},"fields":{"a":1}`, wire.InvalidTag, "tags.k"},
		{`"tags":{"k":"1","k":"2"},"fields":{"a":1}`, wire.InvalidTag, "tags.k"},
		{`"time":"2150-01-01T00:00:00Z","fields":{"a":1}`, wire.InvalidTime, "time"},
		{`"time":1,"fields":{"a":1}`, wire.InvalidTime, "time"},
		{`"points":[{"fields":{"a":1}},{"fields":{"b":1,"c c":1}}]`, wire.InvalidField, "points[1].fields.c c"},
		{`"points":[{"fields":{"a":1}},{"fields":{"a":1}},{"fields":{"a":1}},{"fields":{"a":1}}]`, wire.TooManyPoints, "points"},
	} {
		wantReject(t, src, `{"type":"telemetry","seq":1,`+r.body+`}`, r.code, r.path)
	}
	w := newWaiter()
	good := c.Open("pump-7", map[string]string{"site": "plant 7"}, w)
	wantTaken(t, good, `{"type":"telemetry","seq":1,"measurement":"m","time":1700000000000,"tags":{"z":"a,b= c","a":"é"},"fields":{"f":-0.5,"s":"q\"\\","b":true,"n_count":7e2,"big":1e300}}`)
	w.wait(1)
	want := `m,a=é,device=pump-7,site=plant\ 7,z=a\,b\=\ c f=-0.5,s="q\"\\",b=true,n_count=700i,big=1e+300 1700000000000000000`
	if lines := logged(t, b); len(lines) != 1 || lines[0] != want {
		t.Errorf("got  %s\nwant %s", lines, want)
	}
}

// A point that the store would not keep is refused before the ack, and its device hears by which setting.
func TestPointsBeyondTheRetentionAreRefused(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(age time.Duration) string {
		return fmt.Sprintf(`{"type":"telemetry","seq":1,"fields":{"a":1},"time":%d}`, now.Add(-age).UnixMilli())
	}
	for _, r := range []struct {
		name              string
		maxAge, retention time.Duration
		oldest            time.Duration
		setting           string
	}{
		{"kept for ever", 100 * time.Hour, 0, 100 * time.Hour, "ingest.max_age"},
		{"kept for longer", 100 * time.Hour, 200 * time.Hour, 100 * time.Hour, "ingest.max_age"},
		{"kept for less", 100 * time.Hour, 50 * time.Hour, 50 * time.Hour, "influx.retention"},
	} {
		c, _ := startCommitter(t, b.JetStream(), func(o *ingest.Options) {
			o.Config.MaxAge, o.Retention, o.Now = r.maxAge, r.retention, func() time.Time { return now }
		})
		if got := c.MaxAge(); got != r.oldest {
			t.Errorf("%s: points may be %s old, want %s", r.name, got, r.oldest)
		}
		src := c.Open("dev-0", nil, nil)
		err := src.Append(frame(t, at(r.oldest+time.Second)))
		var rej *wire.Reject
		if !errors.As(err, &rej) || rej.Code != wire.InvalidTime || !strings.Contains(rej.Message, r.setting) {
			t.Errorf("%s: got %v, want %s that names %s", r.name, err, wire.InvalidTime, r.setting)
		}
		wantTaken(t, src, at(r.oldest))
	}
}

func TestFirstTypeWinsOnEveryNodeAndAfterARestart(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	kv, err := b.Bucket(t.Context(), bus.BucketTypes)
	if err != nil {
		t.Fatal(err)
	}
	withTypes := func(o *ingest.Options) { o.Types = kv }
	c, stop := startCommitter(t, b.JetStream(), withTypes)
	other, _ := startCommitter(t, b.JetStream(), withTypes)
	wantTaken(t, c.Open("a", nil, nil), `{"type":"telemetry","seq":1,"fields":{"temp":21}}`)
	wantTaken(t, c.Open("b", nil, nil), `{"type":"telemetry","seq":1,"fields":{"temp":21.5}}`)
	wantReject(t, c.Open("c", nil, nil), `{"type":"telemetry","seq":1,"fields":{"temp":"21"}}`, wire.TypeConflict, "fields.temp")
	wantReject(t, other.Open("d", nil, nil), `{"type":"telemetry","seq":1,"fields":{"temp":true}}`, wire.TypeConflict, "fields.temp")
	stop()
	again, _ := startCommitter(t, b.JetStream(), withTypes)
	<-again.Ready()
	wantReject(t, again.Open("e", nil, nil), `{"type":"telemetry","seq":1,"fields":{"temp":"21"}}`, wire.TypeConflict, "fields.temp")
	if err := again.Seed(t.Context(), []ingest.FieldType{{"telemetry", "old", "integer"}}); err != nil {
		t.Fatal(err)
	}
	wantReject(t, again.Open("e", nil, nil), `{"type":"telemetry","seq":1,"fields":{"old":"1"}}`, wire.TypeConflict, "fields.old")
	wantReject(t, again.Open("e", nil, nil), `{"type":"telemetry","seq":1,"fields":{"old":1.5}}`, wire.InvalidField, "fields.old")
	wantTaken(t, again.Open("e", nil, nil), `{"type":"telemetry","seq":1,"fields":{"old":1}}`) // as the integer that is stored
	// Without the bucket nobody remembers: the control of what this test claims.
	alone, _ := startCommitter(t, b.JetStream(), nil)
	wantTaken(t, alone.Open("f", nil, nil), `{"type":"telemetry","seq":1,"fields":{"temp":"21"}}`)
}

func TestSeriesAreBounded(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), func(o *ingest.Options) { o.Config.TotalSeries = 20 })
	src := c.Open("a", nil, nil)
	for i := range 20 {
		wantTaken(t, src, fmt.Sprintf(`{"type":"telemetry","tags":{"k":"%d"},"fields":{"x":1}}`, i))
	}
	wantTaken(t, src, `{"type":"telemetry","tags":{"k":"7"},"fields":{"x":1}}`)
	wantReject(t, src, `{"type":"telemetry","seq":1,"tags":{"k":"new"},"fields":{"x":1}}`, wire.TooManySeries, "tags")
}

// What was kept in memory of a deleted device goes: its last values, its share of the series, and what it still sends
// before its session ends.
func TestDeletedDeviceLeavesNothing(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), func(o *ingest.Options) { o.Config.TotalSeries = 2 })
	src := c.Open("a", nil, nil)
	wantTaken(t, src, `{"type":"telemetry","tags":{"k":"1"},"fields":{"x":1}}`)
	wantTaken(t, src, `{"type":"telemetry","tags":{"k":"2"},"fields":{"x":1}}`)
	other := c.Open("b", nil, nil)
	wantReject(t, other, `{"type":"telemetry","seq":1,"fields":{"x":1}}`, wire.TooManySeries, "tags")
	c.Forget("a")
	c.Forget("a")
	c.Forget("never")
	wantTaken(t, src, `{"type":"telemetry","tags":{"k":"3"},"fields":{"x":1}}`) // on its way out
	if got := c.Device("a"); len(got) != 0 {
		t.Errorf("last values of a deleted device: %+v", got)
	}
	wantTaken(t, other, `{"type":"telemetry","fields":{"x":1}}`)
	again := c.Open("a", nil, nil)
	wantTaken(t, again, `{"type":"telemetry","fields":{"y":1}}`)
	wantReject(t, again, `{"type":"telemetry","seq":1,"tags":{"k":"1"},"fields":{"y":1}}`, wire.TooManySeries, "tags")
	if got := c.Device("a"); len(got) != 1 || got[0].Field != "y" {
		t.Errorf("last values of the next device of the id: %+v, want y alone", got)
	}
}

// What others say about a device stands in the log like its own points, and nowhere else.
func TestPointsApart(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), func(o *ingest.Options) { o.Config.DeviceFields = 1 })
	const note = `{"type":"telemetry","measurement":"command","time":1700000000000,"fields":{"id":"x"}}`
	wantTaken(t, c.OpenApart("a", nil), note)
	if got := c.Device("a"); len(got) != 0 {
		t.Errorf("last values of a device that sent nothing: %+v", got)
	}
	w := newWaiter()
	own := c.Open("a", nil, w)
	wantTaken(t, own, `{"type":"telemetry","seq":1,"time":1700000000000,"fields":{"x":1}}`)
	wantReject(t, own, `{"type":"telemetry","seq":2,"measurement":"command","fields":{"id":"x"}}`, wire.TooManyFields, "fields") // the control
	wantTaken(t, c.OpenApart("a", nil), note)
	w.wait(1)
	if got := c.Device("a"); len(got) != 1 || got[0].Field != "x" {
		t.Errorf("last values %+v, want x alone", got)
	}
	if lines := logged(t, b); !slices.Contains(lines, `command,device=a id="x" 1700000000000000000`) {
		t.Errorf("the log holds %s", lines)
	}
}

// The first frame of a device may hold many points of the same few fields, as after a long time without the hub.
func TestFieldsAreCountedOnce(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), func(o *ingest.Options) { o.Config.DeviceFields = 3 })
	points := func(n int, fields string) string {
		return `{"type":"telemetry","seq":1,"points":[` + strings.TrimSuffix(strings.Repeat(`{"fields":{`+fields+`}},`, n), ",") + `]}`
	}
	src := c.Open("a", nil, nil)
	wantTaken(t, src, points(100, `"x":1,"y":2`))
	wantReject(t, src, points(2, `"z":1,"zz":2`), wire.TooManyFields, "points[0].fields")
	wantTaken(t, src, points(2, `"z":1`))
	wantReject(t, src, points(1, `"zz":1`), wire.TooManyFields, "points[0].fields")
}

// Points without a time get one each, and no two of a device get the same.
func TestMissingTimesAreUnique(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), nil)
	w := newWaiter()
	src := c.Open("a", nil, w)
	for i := 1; i <= 500; i++ {
		wantTaken(t, src, fmt.Sprintf(`{"type":"telemetry","seq":%d,"points":[{"fields":{"n":1}},{"fields":{"n":1}}]}`, i))
	}
	w.wait(500)
	seen := make(map[string]bool)
	for _, l := range logged(t, b) {
		seen[l] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different points, want 1000", len(seen))
	}
}

func TestLastValues(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), nil)
	src := c.Open("a", nil, nil)
	wantTaken(t, src, `{"type":"telemetry","measurement":"env","time":1700000002000,"fields":{"t":2,"s":"x"}}`)
	wantTaken(t, src, `{"type":"telemetry","measurement":"env","time":1700000001000,"fields":{"t":1}}`)
	got := c.Device("a")
	if len(got) != 2 || got[0].Field != "s" || got[1].Value != "2" {
		t.Errorf("%+v", got)
	}
}

// Names may end in a dot and have two in a row, keys of the bucket may not: such a field's type is settled all the same.
func TestTypesOfDottedNames(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	kv, err := b.Bucket(t.Context(), bus.BucketTypes)
	if err != nil {
		t.Fatal(err)
	}
	withTypes := func(o *ingest.Options) { o.Types = kv }
	c, stop := startCommitter(t, b.JetStream(), withTypes)
	src := c.Open("a", nil, nil)
	for _, name := range []string{"Temp.", "a..b", "a.b", "z..."} {
		wantTaken(t, src, fmt.Sprintf(`{"type":"telemetry","measurement":"m..n","fields":{%q:1}}`, name))
		wantTaken(t, src, fmt.Sprintf(`{"type":"telemetry","fields":{%q:1}}`, name))
	}
	stop()
	again, _ := startCommitter(t, b.JetStream(), withTypes)
	<-again.Ready()
	if err := again.Seed(t.Context(), []ingest.FieldType{{"telemetry", "old.", "integer"}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range again.FieldTypes() {
		got = append(got, f.Measurement+" "+f.Field)
	}
	want := []string{"m..n Temp.", "m..n a..b", "m..n a.b", "m..n z...", "telemetry Temp.", "telemetry a..b", "telemetry a.b", "telemetry old.", "telemetry z..."}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("types of\n%q, want\n%q", got, want)
	}
	wantReject(t, again.Open("b", nil, nil), `{"type":"telemetry","fields":{"Temp.":"x"}}`, wire.TypeConflict, "fields.Temp.")
}

// A hub whose clock was ahead and is set back gives out the present again, still no time twice.
func TestClockIsSetBack(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	var now atomic.Int64
	start := time.Now()
	now.Store(start.Add(time.Hour).UnixNano())
	c, stop := startCommitter(t, b.JetStream(), func(o *ingest.Options) { o.Now = func() time.Time { return time.Unix(0, now.Load()) } })
	src := c.Open("a", nil, nil)
	wantTaken(t, src, `{"type":"telemetry","fields":{"x":1}}`)
	now.Store(start.UnixNano())
	wantTaken(t, src, `{"type":"telemetry","points":[{"fields":{"x":2}},{"fields":{"x":3}}]}`)
	now.Store(start.Add(-time.Millisecond).UnixNano()) // as clocks do
	wantTaken(t, src, `{"type":"telemetry","fields":{"x":4}}`)
	stop()
	at := start.UnixNano()
	want := []string{
		fmt.Sprintf("telemetry,device=a x=1 %d", start.Add(time.Hour).UnixNano()), fmt.Sprintf("telemetry,device=a x=2 %d", at),
		fmt.Sprintf("telemetry,device=a x=3 %d", at+1), fmt.Sprintf("telemetry,device=a x=4 %d", at+2),
	}
	if got := logged(t, b); !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}
