package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	influx "github.com/influxdata/influxdb-client-go/v2"
	influxhttp "github.com/influxdata/influxdb-client-go/v2/api/http"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/ingest/embedded"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

func TestClientLibrary(t *testing.T) {
	h := start(t, options(t.TempDir()))
	c := influx.NewClientWithOptions(h.url, token, influx.DefaultOptions().SetUseGZip(true).SetPrecision(time.Millisecond))
	defer c.Close()
	ctx := t.Context()
	if ok, err := c.Ping(ctx); !ok {
		t.Errorf("ping: %v", err)
	}
	if health, err := c.Health(ctx); err != nil || health.Status != "pass" {
		t.Errorf("health: %+v %v", health, err)
	}
	w := c.WriteAPIBlocking("fairlead", bucket)
	if err := w.WriteRecord(ctx, "m,d=a v=1,i=2i 1700000000000", "m,d=a v=2 1700000000001"); err != nil {
		t.Error(err)
	}
	h.wantCount("SELECT count(v) FROM m", 2)
	wantStatus(t, w.WriteRecord(ctx, "m,d=a v=\"text\" 1700000000002\nm,d=a v=3 1700000000003"), 400)
	h.wantCount("SELECT count(v) FROM m", 3)
	wantStatus(t, c.WriteAPIBlocking("fairlead", "nowhere").WriteRecord(ctx, "m v=1"), 404)
	stranger := influx.NewClient(h.url, "another-token")
	defer stranger.Close()
	wantStatus(t, stranger.WriteAPIBlocking("fairlead", bucket).WriteRecord(ctx, "m v=1"), 401)
	h.wantCount("SELECT count(v) FROM m", 3)
}

func wantStatus(t *testing.T, err error, status int) {
	t.Helper()
	var e *influxhttp.Error
	if !errors.As(err, &e) || e.StatusCode != status {
		t.Errorf("got %v, want status %d", err, status)
	}
}

func TestExportIntoInfluxd(t *testing.T) {
	h := start(t, options(t.TempDir()))
	var lines strings.Builder
	for i := range 3000 { // three blocks of a field, and three shard groups
		fmt.Fprintf(&lines, "m,d=a f=%d.5,i=%di,b=%t,s=\"a \\\"b\\\" \\\\ %d\" %d\n", i, i, i%2 == 0, i, int64(i)*int64(10*time.Minute))
		if i%3 == 0 {
			fmt.Fprintf(&lines, "m,d=b f=%d 1700000000000000%03d\n", i, i%1000)
		}
	}
	lines.WriteString(`o\ dd\,name,t\ ag=va\ l\,ue,k\=ey=größe f\ ie\,ld=1e300,x=-0.1 5` + "\n")
	h.wantWritten(lines.String())

	var dump bytes.Buffer
	n, err := h.store.Export(t.Context(), &dump, embedded.Range{})
	if err != nil {
		t.Fatal(err)
	}
	if got := int64(bytes.Count(dump.Bytes(), []byte("\n"))); got != n || n != 3000+1000+1 {
		t.Errorf("exported %d, %d lines, want 4001", n, got)
	}
	real := influxtest.Start(t, influxtest.Options{Database: bucket})
	if status, body, err := real.Write(t.Context(), dump.String()); err != nil || status != 204 {
		t.Fatalf("import: %d %s %v", status, body, err)
	}
	for _, q := range []string{
		"SELECT count(*) FROM /.*/", "SELECT * FROM /.*/ GROUP BY *", "SHOW SERIES", "SHOW FIELD KEYS",
	} {
		if got, want := fmt.Sprint(real.MustQuery(q)), fmt.Sprint(h.query(q)); got != want {
			t.Errorf("%s: influxd %.300s\nours %.300s", q, got, want)
		}
	}
	wantPartOf(t, h)
}

// wantPartOf exports a range over HTTP, and what cannot be exported.
func wantPartOf(t *testing.T, h *hub) {
	t.Helper()
	get := func(params string) (int, string) {
		req, err := http.NewRequest(http.MethodGet, h.url+"/export"+params, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Token "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	if status, body := get("?from=1970-01-01T00:10:00Z&to=1970-01-01T00:30:00Z"); status != 200 || strings.Count(body, "\n") != 2 {
		t.Errorf("a range of two: %d %s", status, body)
	}
	if status, body := get("?from=yesterday"); status != 400 {
		t.Errorf("bad time: %d %s", status, body)
	}
	if status, body := get("?bucket=nowhere"); status != 404 {
		t.Errorf("unknown bucket: %d %s", status, body)
	}
}

func TestExportOfAStoppedStore(t *testing.T) {
	o := options(t.TempDir())
	h := start(t, o)
	h.wantWritten("m v=1 1\nm v=2 2")
	h.stop()
	if _, err := h.store.Export(t.Context(), io.Discard, embedded.Range{}); !errors.Is(err, embedded.ErrNotOpen) {
		t.Errorf("export of a closed store: %v", err)
	}
	o.Listen, o.Token = "", ""
	s, err := embedded.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	var dump strings.Builder
	if _, err := s.Export(t.Context(), &dump, embedded.Range{}); err != nil {
		t.Error(err)
	}
	if dump.String() != "m v=1 1\nm v=2 2\n" {
		t.Errorf("exported %q", dump.String())
	}
	// Times that nanoseconds cannot tell.
	dump.Reset()
	far := embedded.Range{From: time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if n, err := s.Export(t.Context(), &dump, far); err != nil || n != 2 {
		t.Errorf("from 1500 to 3000: %d lines, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestRetentionFollowsTheOptions(t *testing.T) {
	o := options(t.TempDir())
	old := fmt.Sprintf("m v=1 %d", time.Now().Add(-72*time.Hour).UnixNano())
	policy := func(h *hub) string { return fmt.Sprint(h.query("SHOW RETENTION POLICIES")[0].Values) }

	h := start(t, o)
	h.wantWritten(old)
	if got := policy(h); got != "[[autogen 0s 168h0m0s 1 true]]" {
		t.Errorf("kept for ever: %s", got)
	}
	h.stop()

	o.Retention, o.CheckInterval = 24*time.Hour, 10*time.Millisecond
	h = start(t, o)
	if got := policy(h); got != "[[autogen 24h0m0s 1h0m0s 1 true]]" {
		t.Errorf("kept a day: %s", got)
	}
	if status, body := h.write(old); status != 400 || !strings.Contains(body, "points beyond retention policy dropped=1") {
		t.Errorf("a point beyond retention: %d %s", status, body)
	}
	h.stop()

	o.Retention = 0
	h = start(t, o)
	if got := policy(h); got != "[[autogen 0s 168h0m0s 1 true]]" {
		t.Errorf("kept for ever again: %s", got)
	}
}

func TestRetentionDropsShards(t *testing.T) {
	o := options(t.TempDir())
	o.Retention = 48 * time.Hour
	h := start(t, o)
	now := time.Now()
	h.wantWritten(fmt.Sprintf("m v=1 %d\nm v=2 %d", now.Add(-47*time.Hour).UnixNano(), now.UnixNano()))
	h.stop()
	o.Retention, o.CheckInterval = time.Hour, 10*time.Millisecond
	h = start(t, o)
	await(t, "the old shard is gone", func() bool { return shards(t, h) == 1 })
	h.wantCount("SELECT count(v) FROM m", 1)
}

func TestSizeLimitDropsTheOldest(t *testing.T) {
	o := options(t.TempDir())
	o.MaxBytes, o.SizeInterval = 40_000, 10*time.Millisecond
	reg := prometheus.NewRegistry()
	o.Metrics = reg
	h := start(t, o)
	day := 24 * time.Hour
	for ago := 20; ago >= 0; ago-- { // a shard group a day, each a few kB of WAL
		var lines strings.Builder
		at := time.Now().Add(-time.Duration(ago) * day)
		for i := range 200 {
			fmt.Fprintf(&lines, "m,d=a v=%d.%d %d\n", i*7919, i*104729, at.UnixNano()-int64(i))
		}
		h.wantWritten(lines.String())
	}
	await(t, "it is within the limit", func() bool { return metric(t, reg, "fairlead_embedded_disk_bytes") <= 40_000 })
	dropped := metric(t, reg, "fairlead_embedded_shard_groups_dropped_for_size_total")
	t.Logf("dropped %v shard groups, %d left", dropped, shards(t, h))
	if left := shards(t, h); dropped == 0 || left == 0 || left > 20 {
		t.Errorf("dropped %v, left %d", dropped, left)
	}
	h.wantCount(fmt.Sprintf("SELECT count(v) FROM m WHERE time > %d", time.Now().Add(-day/2).UnixNano()), 200)
	h.wantCount(fmt.Sprintf("SELECT count(v) FROM m WHERE time < %d", time.Now().Add(-19*day).UnixNano()), 0)
}

func shards(t *testing.T, h *hub) (n int) {
	t.Helper()
	for _, s := range h.query("SHOW SHARDS") {
		n += len(s.Values)
	}
	return n
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// await polls, since the services have no way to say that they have passed.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestMetricsCountPoints(t *testing.T) {
	o := options(t.TempDir())
	reg := prometheus.NewRegistry()
	o.Metrics = reg
	h := start(t, o)
	h.wantWritten("m v=1 1\nm v=2 2")
	h.write("m v=\"x\" 1\nm v=3 3")
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "fairlead_embedded_points_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	if want := map[string]float64{"stored": 3, "dropped": 1, "failed": 0}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBadOptions(t *testing.T) {
	good := options("somewhere")
	for name, tc := range map[string]struct {
		change func(*embedded.Options)
		want   string
	}{
		"no token":        {func(o *embedded.Options) { o.Token = "" }, "token is empty"},
		"no dir":          {func(o *embedded.Options) { o.Dir = "" }, "dir is empty"},
		"no bucket":       {func(o *embedded.Options) { o.Bucket = "" }, "bucket"},
		"dots":            {func(o *embedded.Options) { o.Bucket = ".." }, "not a usable name"},
		"all interfaces":  {func(o *embedded.Options) { o.Listen = ":8086" }, "not loopback"},
		"another host":    {func(o *embedded.Options) { o.Listen = "192.0.2.1:8086" }, "not loopback"},
		"no port":         {func(o *embedded.Options) { o.Listen = "127.0.0.1" }, "missing port"},
		"short retention": {func(o *embedded.Options) { o.Retention = time.Minute }, "below 1h"},
		"negative size":   {func(o *embedded.Options) { o.MaxBytes = -1 }, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			tc.change(&o)
			if _, err := embedded.New(o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	plain := good
	plain.Listen, plain.AllowPlaintext = "0.0.0.0:0", true
	if _, err := embedded.New(plain); err != nil {
		t.Errorf("plaintext allowed: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	first := start(t, options(t.TempDir()))
	u, err := url.Parse(first.url)
	if err != nil {
		t.Fatal(err)
	}
	o := options(t.TempDir())
	o.Listen = u.Host
	s, err := embedded.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("open on a port in use: %v", err)
	}
}
