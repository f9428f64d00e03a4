//go:build influxdb2

package influx_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/ingest/influx"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// may makes a token of one organization that may do to one bucket what actions say.
func may(s *influxtest.Server, bucket string, actions ...string) (token string) {
	var found struct{ Buckets []struct{ ID string } }
	s.MustCall(http.MethodGet, "/api/v2/buckets?name="+bucket, nil, &found)
	var all []any
	for _, a := range actions {
		all = append(all, map[string]any{"action": a, "resource": map[string]any{"type": "buckets", "id": found.Buckets[0].ID, "orgID": s.OrgID()}})
	}
	var made struct{ Token string }
	s.MustCall(http.MethodPost, "/api/v2/authorizations", map[string]any{"orgID": s.OrgID(), "permissions": all}, &made)
	return made.Token
}

func in(bucket string) func(*configs.Influx) { return func(c *configs.Influx) { c.Bucket = bucket } }

// What the tokens of a real InfluxDB 2.x allow is found out, and what they do not allow is said.
func TestInfluxDB2Tokens(t *testing.T) {
	db := influxtest.Start(t)
	org := func(name string) func(*configs.Influx) { return func(c *configs.Influx) { c.Org = name } }
	for _, c := range []struct {
		name                    string
		store                   *influx.Store
		ok                      bool
		make, write, query, why string // what each error has in it, "" if there is none; why is in the hint of the last one
	}{
		{"all", open(t, db.URL, db.Token), true, "", "", "", ""},
		{"a bucket that is made", open(t, db.URL, db.Token, in("made")), true, "", "", "", ""},
		{"a bucket with a slash", open(t, db.URL, db.Token, in("weeks/autogen")), true, "", "", "", ""},
		{"the organization by its id", open(t, db.URL, db.Token, in("by-id"), org(db.OrgID())), true, "", "", "", ""},
		{"read and write", open(t, db.URL, may(db, db.Database, "read", "write")), true, "", "", "", ""},
		{"write", open(t, db.URL, may(db, db.Database, "write")), true, "", "", "database not found", "may read"},
		{"read", open(t, db.URL, may(db, db.Database, "read")), false, "", "403", "", "leave to read and write"},
		{"another bucket", open(t, db.URL, may(db, "unused", "read", "write"), in("absent")), false, "404", "404", "", "absent"},
		{"a wrong token", open(t, db.URL, "wrong"), false, "401", "401", "", "wrong"},
		{"no token", open(t, db.URL, ""), false, "401", "401", "", "missing"},
		{"a wrong organization", open(t, db.URL, db.Token, org("absent")), false, `"absent" not found`, "404", "", "influx.org"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.store.Check(t.Context(), 0)
			if got.Reach != nil || got.Found.Flavor != configs.FlavorInflux2 || !strings.HasPrefix(got.Found.Version, "2.") {
				t.Fatalf("found %+v, %v", got.Found, got.Reach)
			}
			if got.OK() != c.ok {
				t.Errorf("%+v", got)
			}
			var last error
			for _, part := range []struct {
				name string
				err  error
				want string
			}{{"make", got.Make, c.make}, {"write", got.Write, c.write}, {"query", got.Query, c.query}} {
				if (part.err == nil) != (part.want == "") || part.err != nil && !strings.Contains(part.err.Error(), part.want) {
					t.Errorf("%s: %v, want %q in it", part.name, part.err, part.want)
				}
				if part.err != nil {
					last = part.err
				}
			}
			if hint := c.store.Hint(last); !strings.Contains(hint, c.why) {
				t.Errorf("hint %q, want %q in it", hint, c.why)
			}
		})
	}
}

// A bucket of a real InfluxDB 2.x gets the retention that was asked for, and one that is there keeps its own.
func TestInfluxDB2Retention(t *testing.T) {
	const day = 24 * time.Hour
	db := influxtest.Start(t)
	for _, c := range []struct {
		bucket    string
		retention time.Duration
		note      string
		kept      int64
	}{
		{"a", day, "", 86400},
		{"a", day, "", 86400},
		{"a", 0, "", 86400},
		{"a", 2 * day, "keeps points for 24h0m0s", 86400},
		{"b", 0, "", 0},
		{"b", day, "keeps points for 0s", 0},
	} {
		found, err := open(t, db.URL, db.Token, in(c.bucket)).Prepare(t.Context(), c.retention)
		if err != nil || !strings.Contains(found.Note, c.note) || (found.Note == "") != (c.note == "") {
			t.Errorf("%s for %s: %q, %v", c.bucket, c.retention, found.Note, err)
		}
		var got struct {
			Buckets []struct {
				RetentionRules []struct{ EverySeconds int64 }
			}
		}
		db.MustCall(http.MethodGet, "/api/v2/buckets?name="+c.bucket, nil, &got)
		if len(got.Buckets) != 1 || got.Buckets[0].RetentionRules[0].EverySeconds != c.kept {
			t.Errorf("%s for %s: %+v", c.bucket, c.retention, got)
		}
	}
}

// A real InfluxDB 2.x answers history as the embedded store does, which is 1.8's engine.
func TestInfluxDB2HistoryIsTheSame(t *testing.T) {
	db := influxtest.Start(t)
	two, one := open(t, db.URL, db.Token), open(t, openEmbedded(t).URL(), "secret")
	now := time.Now().Truncate(time.Second)
	var lines strings.Builder
	for i := range 12_000 {
		fmt.Fprintf(&lines, "env,device=pump-7,site=a temp=%d.5,n=%di,on=%t,state=\"s %d\" %d\n", i%40, i, i%3 == 0, i%5, now.Add(-time.Duration(i)*time.Second).UnixNano())
	}
	for i := range 20 {
		fmt.Fprintf(&lines, "od\\ d\\,\"name,device=gr\u00f6\u00dfe\\ \\\"1'2 f\\=\\ \\\"x=%d,u=7i %d\n", i, now.Add(-time.Duration(i)*time.Minute).UnixNano())
	}
	fmt.Fprintf(&lines, "env,device=other temp=1 %d\n", now.UnixNano())
	var requests []influx.HistoryRequest
	from, to := now.Add(-4*time.Hour), now.Add(time.Second)
	for _, device := range []string{"pump-7", `größe "1'2`, "absent"} {
		requests = append(requests,
			influx.HistoryRequest{Device: device, From: from, To: to},
			influx.HistoryRequest{Device: device, From: now.Add(-time.Hour), To: to},
			influx.HistoryRequest{Device: device, From: from, To: to, Measurement: "env", Fields: []string{"n", "state"}})
		for _, fn := range []string{"mean", "min", "max", "sum", "count", "first", "last", "median", "spread", "stddev"} {
			requests = append(requests, influx.HistoryRequest{Device: device, From: from, To: to, Every: 10 * time.Minute, Fn: fn})
		}
	}
	for _, s := range []*influx.Store{one, two} {
		if c := s.Check(t.Context(), 0); !c.OK() || c.Query != nil {
			t.Fatalf("%+v", c)
		}
		if err := s.Write(t.Context(), []byte(lines.String())); err != nil {
			t.Fatal(err)
		}
	}
	values := 0
	for _, r := range requests {
		answers := make([]string, 2)
		for i, s := range []*influx.Store{one, two} {
			h, err := s.History(t.Context(), r)
			if err != nil {
				t.Fatalf("%+v: %v", r, err)
			}
			for _, one := range h.Series {
				values += len(one.Values)
			}
			raw, err := json.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			answers[i] = string(raw)
		}
		if answers[0] != answers[1] {
			t.Errorf("%+v:\nembedded %.600s\n2.x      %.600s", r, answers[0], answers[1])
		}
	}
	if values < 30_000 {
		t.Errorf("only %d values were compared", values)
	}
	first, err := one.FieldTypes(t.Context())
	second, err2 := two.FieldTypes(t.Context())
	if err != nil || err2 != nil || len(first) < 7 || !slices.Equal(first, second) {
		t.Errorf("types %v, %v\n%v, %v", first, err, second, err2)
	}
}

// A real InfluxDB 2.x keeps a field's type for each shard, as 1.8 does, and does not tell when a shard ends.
func TestInfluxDB2HoldsTypesByShard(t *testing.T) {
	const week = 7 * 24 * time.Hour
	db := influxtest.Start(t)
	s := open(t, db.URL, db.Token)
	if _, err := s.Detect(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	write := func(value string, at time.Time) error {
		return s.Write(t.Context(), fmt.Appendf(nil, "m,device=d temp=%s,other=true %d\n", value, at.UnixNano()))
	}
	if err := write("21.5", now); err != nil {
		t.Fatal(err)
	}
	var refused *ingest.StoreError
	if err := write("22i", now); !errors.As(err, &refused) || refused.Verdict != ingest.Refused || !strings.Contains(err.Error(), "field type conflict") {
		t.Errorf("another type in the same shard: %v", err)
	}
	if err := write("22i", now.Add(week)); err != nil {
		t.Errorf("another type in the next shard: %v", err)
	}
	h, err := s.Held(t.Context(), "m", "temp")
	slices.Sort(h.Types)
	if err != nil || !slices.Equal(h.Types, []string{"float", "integer"}) || !h.Until.IsZero() || h.ForGood || h.Untyped {
		t.Errorf("%+v, %v", h, err)
	}
	db.MustQuery("DROP MEASUREMENT m") // what the hub tells an operator to do about it
	if h, err = s.Held(t.Context(), "m", "temp"); err != nil || len(h.Types) != 0 {
		t.Errorf("after the measurement was dropped: %+v, %v", h, err)
	}
}
