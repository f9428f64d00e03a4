package ingest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// nasty are strings that have broken somebody's line protocol, or might.
var nasty = []string{
	"plain", "two words", " lead", "trail ", "  ", "a,b", "a=b", ",", "=", ",,", "==", `"`, `""`, `a"b`, "'", "a'b",
	`a\b`, `\`, `\\`, `trail\`, `trail\\`, `a\,b`, `a\ b`, `a\=b`, `a\"b`, `\"`, `\\"`, `a\nb`, `C:\dir\`, `x\ `, `\,`, `\=`,
	"a\nb", "a\r\nb", "\n", "a\tb", "\x00", "a\x00b", "\x7f", "\xff\xfe", "\xc3", "a\xed\xa0\x80b",
	"é", "日本語", "😀", "e\u0301", "\u0085", "a\u2028b", "\u200b", "\ufeffx", "\u202ex", "a\u00a0b",
	"#comment", "# comment", "", "time", "_time", "_field", "_measurement", "_start", "_stop", "device", "NaN", "true", "t", "1i", "-1", "0abc",
	"-", ".", "..", "_", "$", "%0A", "{}", "*", ">", "a/b", "a;b", "--", "a.b-c_d",
	"m v=1\nevil v=9", "evil,device=other v=1 1", `x" evil=1,y="`, `x",evil=1i,y="`, "a v=1 1\n#", "a\\\nevil v=1",
	strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("é", 128), strings.Repeat("x", 257),
	strings.Repeat(`"`, 4096), strings.Repeat("x", 4097),
}

// places are the five of line protocol that hold names or text.
var places = []string{"measurement", "tag key", "tag value", "field key", "string field"}

// lineDevice is who sends; lineStart is the time of the first case, each next one a millisecond later.
const lineDevice = "corpus"

var lineStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()

// content is one point as a device means it.
type content struct {
	measurement, tagKey, tagValue, fieldKey, text string
	time                                          int64
}

func (c content) in(place int, s string) content {
	*[]*string{&c.measurement, &c.tagKey, &c.tagValue, &c.fieldKey, &c.text}[place] = s
	return c
}

func (c content) frame() *wire.Telemetry {
	t := &wire.Telemetry{}
	p := t.AddPoint()
	p.Measurement, p.Time, p.HasTime = []byte(c.measurement), c.time, true
	p.Tags = []wire.Tag{{Key: []byte(c.tagKey), Value: []byte(c.tagValue)}}
	p.Fields = []wire.Field{wire.NewText(c.fieldKey, c.text), wire.NewBool("ok", true)}
	return t
}

// decode reads one line with InfluxData's own decoder and fails unless it is exactly c.
func (c content) decode(line []byte) error {
	d := lineprotocol.NewDecoderWithBytes(line)
	if !d.Next() {
		return fmt.Errorf("no line: %w", d.Err())
	}
	measurement, err := d.Measurement()
	if err != nil || string(measurement) != c.measurement {
		return fmt.Errorf("measurement %q: %w", measurement, err)
	}
	tags := map[string]string{}
	for {
		k, v, err := d.NextTag()
		if err != nil {
			return fmt.Errorf("tags: %w", err)
		}
		if k == nil {
			break
		}
		if _, ok := tags[string(k)]; ok {
			return fmt.Errorf("tag %q twice", k)
		}
		tags[string(k)] = string(v)
	}
	if len(tags) != 2 || tags["device"] != lineDevice || tags[c.tagKey] != c.tagValue {
		return fmt.Errorf("tags %q", tags)
	}
	fields := map[string]any{}
	for {
		k, v, err := d.NextField()
		if err != nil {
			return fmt.Errorf("fields: %w", err)
		}
		if k == nil {
			break
		}
		fields[string(k)] = v.Interface()
	}
	if len(fields) != 2 || fields[c.fieldKey] != c.text || fields["ok"] != true {
		return fmt.Errorf("fields %q", fields)
	}
	at, err := d.Time(lineprotocol.Nanosecond, time.Time{})
	if err != nil || at.UnixNano() != c.time {
		return fmt.Errorf("time %v: %w", at, err)
	}
	if d.Next() {
		return fmt.Errorf("a second line")
	}
	return nil
}

// TestNastyLines puts each string in each place: what the hub takes must be the same point to InfluxData's decoder and
// to a real influxd, and nothing else may appear there.
func TestNastyLines(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, stop := startCommitter(t, b.JetStream(), func(o *ingest.Options) { o.Config.DeviceFields = 1000 })
	src := c.Open(lineDevice, nil, nil)
	usual := content{measurement: "m", tagKey: "k", tagValue: "v", fieldKey: "f", text: "x"}
	var taken []content
	cases := 0
	for _, s := range nasty {
		for place := range places {
			sent := usual.in(place, s)
			sent.time = lineStart + int64(cases)*int64(time.Millisecond)
			cases++
			err := src.Append(sent.frame())
			var rej *wire.Reject
			refused := errors.As(err, &rej)
			if err != nil && (!refused || rej.Path == "" || rej.Message == "") {
				t.Errorf("%s %q: refused without a place: %v", places[place], s, err)
			}
			if err == nil {
				taken = append(taken, sent)
			}
		}
	}
	stop()
	lines := logged(t, b)
	if len(lines) != len(taken) {
		t.Fatalf("%d lines of %d points", len(lines), len(taken))
	}
	for i, sent := range taken {
		if err := sent.decode([]byte(lines[i] + "\n")); err != nil {
			t.Errorf("%q\nis read as something else: %v", lines[i], err)
		}
	}
	stored, foreign := compareInflux(t, lines, taken)
	misread := naiveMisread()
	t.Logf("cases=%d rejected=%d taken=%d stored=%d foreign=%d naive_misread=%d", cases, cases-len(taken), len(taken), stored, foreign, misread)
	if len(nasty) < 40 || len(taken) < 100 || misread < 40 {
		t.Errorf("%d strings, %d points taken, %d misread without escapes: the corpus proves little", len(nasty), len(taken), misread)
	}
}

// compareInflux writes the lines to a real influxd and counts what it holds that nobody sent.
func compareInflux(t *testing.T, lines []string, sent []content) (stored, foreign int) {
	t.Helper()
	db := influxtest.Start(t)
	if status, body, err := db.Write(t.Context(), strings.Join(lines, "\n")); err != nil || status != 204 {
		t.Fatalf("influxd: %d %s %v", status, body, err)
	}
	want := make(map[int64]content, len(sent))
	for _, c := range sent {
		want[c.time] = c
	}
	for _, s := range db.MustQuery("SELECT * FROM /.*/ GROUP BY *") {
		for _, row := range s.Values {
			at, _ := row[0].(json.Number).Int64()
			c, ok := want[at]
			if !ok || s.Name != c.measurement || !sameTags(s.Tags, c) || !sameFields(s.Columns, row, c) {
				t.Errorf("influxd holds %s %q %q %v; sent was %+v", s.Name, s.Tags, s.Columns, row, c)
				foreign++
				continue
			}
			stored++
			delete(want, at)
		}
	}
	for _, c := range want {
		t.Errorf("influxd does not hold %+v", c)
	}
	return stored, foreign
}

// naiveMisread is the control: how many of the cases are read as something else when the line is put together as it
// comes.
func naiveMisread() (n int) {
	usual := content{measurement: "m", tagKey: "k", tagValue: "v", fieldKey: "f", text: "x", time: lineStart}
	for _, s := range nasty {
		for place := range places {
			c := usual.in(place, s)
			line := fmt.Sprintf("%s,device=%s,%s=%s %s=\"%s\",ok=true %d\n", c.measurement, lineDevice, c.tagKey, c.tagValue, c.fieldKey, c.text, c.time)
			if c.decode([]byte(line)) != nil {
				n++
			}
		}
	}
	return n
}

// sameTags compares with what influxd shows: a query groups by every tag of the measurement, those without value empty.
func sameTags(tags map[string]string, c content) bool {
	for k, v := range tags {
		if v != "" && !(k == "device" && v == lineDevice) && !(k == c.tagKey && v == c.tagValue) {
			return false
		}
	}
	return tags["device"] == lineDevice && tags[c.tagKey] == c.tagValue
}

func sameFields(columns []string, row []any, c content) bool {
	n := 0
	for i, name := range columns[1:] {
		v := row[i+1]
		switch {
		case v == nil:
			continue
		case name == c.fieldKey && v == c.text, name == "ok" && v == true:
			n++
		default:
			return false
		}
	}
	return n == 2
}

// lineOptions are of a committer that never runs.
func lineOptions() ingest.Options {
	return ingest.Options{
		Config: configs.Default().Ingest, PointsPerFrame: 10, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}
}

// FuzzLine holds the rendered line of any point against InfluxData's decoder.
func FuzzLine(f *testing.F) {
	for _, s := range nasty {
		f.Add(s, "k", "v", "f", s, 1.5, lineStart)
		f.Add("m", s, s, s, "x", 0.0, int64(0))
	}
	f.Add("m", "k", "v", "f", "x", math.MaxFloat64, int64(math.MaxInt64))
	f.Add("m", "k", "v", "f", "x", math.SmallestNonzeroFloat64, int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, measurement, tagKey, tagValue, fieldKey, text string, number float64, at int64) {
		c, err := ingest.New(lineOptions())
		if err != nil {
			t.Fatal(err)
		}
		sent := content{measurement, tagKey, tagValue, fieldKey, text, at}
		frame := sent.frame()
		if line, err := ingest.RenderLine(c.Open(lineDevice, nil, nil), frame); err == nil {
			if err := sent.decode(line); err != nil {
				t.Fatalf("%q\nis read as something else: %v", line, err)
			}
		}
		if math.IsNaN(number) || math.IsInf(number, 0) {
			return // does not come out of a frame
		}
		p := &frame.Points[0]
		p.Measurement, p.Tags, p.Fields = []byte("m"), nil, []wire.Field{wire.NewNumber("n", number)}
		line, err := ingest.RenderLine(c.Open(lineDevice, nil, nil), frame)
		if err != nil {
			return // the time
		}
		want := "m,device=" + lineDevice + " n=" + strconv.FormatFloat(number, 'g', -1, 64)
		d := lineprotocol.NewDecoderWithBytes(line)
		if !d.Next() {
			t.Fatalf("%q: %v", line, d.Err())
		}
		if _, v, err := d.NextField(); err != nil || v.FloatV() != number {
			t.Fatalf("%q: %v %v, want %s", line, v, err, want)
		}
	})
}
