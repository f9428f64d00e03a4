package influx_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest/influx"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// Each real store is known for what it is, gets its bucket, takes a point and gives it back.
func TestRealStores(t *testing.T) {
	for name, start := range map[string]func(*testing.T) (url, token string){
		"influxd 1.8":           func(t *testing.T) (string, string) { return startInflux(t, false).URL, "" },
		"influxd 1.8 with auth": func(t *testing.T) (string, string) { s := startInflux(t, true); return s.URL, s.Token },
		"embedded":              func(t *testing.T) (string, string) { return openEmbedded(t).URL(), "secret" },
	} {
		t.Run(name, func(t *testing.T) {
			url, token := start(t)
			s := open(t, url+"/", token)
			c := s.Check(t.Context(), 0)
			if !c.OK() || c.Make != nil || c.Query != nil {
				t.Fatalf("%+v", c)
			}
			if c.Found.Flavor != configs.FlavorInflux1 || c.Found.Build != "OSS" || c.Found.History() != "InfluxQL" {
				t.Errorf("found %+v", c.Found)
			}
			h, err := history(t, s, "fairlead-check")
			if err != nil || len(h.Series) != 1 || string(h.Series[0].Values[0]) != "true" {
				t.Errorf("history %+v, %v", h, err)
			}
			if again := s.Check(t.Context(), 0); !again.OK() || again.Query != nil {
				t.Errorf("again: %+v", again)
			}
			if h, _ := history(t, s, "fairlead-check"); len(h.Series) != 1 || len(h.Series[0].Values) > 2 {
				t.Errorf("checks leave %+v", h)
			}
		})
	}
}

func TestVictoriaMetrics(t *testing.T) {
	s := open(t, openVictoria(t), "")
	c := s.Check(t.Context(), 0)
	if c.Found.Flavor != configs.FlavorVictoriaMetrics || !strings.HasPrefix(c.Found.Name(), "VictoriaMetrics") {
		t.Fatalf("found %+v", c.Found)
	}
	if !c.OK() || !errors.Is(c.Query, influx.ErrNoHistory) || !strings.Contains(c.Found.History(), "none") || c.Found.Note == "" {
		t.Errorf("%+v", c)
	}
	if err := s.Write(t.Context(), []byte("env,device=pump-7 temp=21.5\n")); err != nil {
		t.Error(err)
	}
	if _, err := history(t, s, "pump-7"); !errors.Is(err, influx.ErrNoHistory) {
		t.Errorf("history: %v", err)
	}
	if types, err := s.FieldTypes(t.Context()); err != nil || len(types) != 0 {
		t.Errorf("types %v, %v", types, err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	locked := startInflux(t, true)
	// A user who may write to one database and make none.
	locked.MustQuery("CREATE USER writer WITH PASSWORD 'w'")
	locked.MustQuery(`GRANT ALL ON "other" TO writer`)
	bucket := func(b string) func(*configs.Influx) { return func(c *configs.Influx) { c.Bucket = b } }
	for name, c := range map[string]struct {
		store *influx.Store
		where func(influx.Checked) error
		hint  string
	}{
		"nothing there":  {open(t, "http://127.0.0.1:1", ""), func(c influx.Checked) error { return c.Reach }, "influx.url"},
		"no token":       {open(t, locked.URL, ""), func(c influx.Checked) error { return c.Write }, "user:password"},
		"wrong password": {open(t, locked.URL, "admin:wrong"), func(c influx.Checked) error { return c.Write }, "user:password"},
		"other database": {open(t, locked.URL, "writer:w", bucket("telemetry")), func(c influx.Checked) error { return c.Write }, "telemetry"},
	} {
		got := c.store.Check(t.Context(), 0)
		err := c.where(got)
		if got.OK() || err == nil || !strings.Contains(c.store.Hint(err), c.hint) {
			t.Errorf("%s: %+v\nhint %q, want %q in it", name, got, c.store.Hint(err), c.hint)
		}
	}
	writer := open(t, locked.URL, "writer:w", bucket("other"))
	if got := writer.Check(t.Context(), 0); !got.OK() || got.Make != nil || got.Query != nil || got.Found.Note != "" {
		t.Errorf("a user who may not make databases, and need not: %+v", got)
	}
	elsewhere := open(t, locked.URL, "writer:w", bucket("nowhere"))
	if found, err := elsewhere.Prepare(t.Context(), 0); err != nil || !strings.Contains(found.Note, "could not be made") {
		t.Errorf("a user who may not make databases: %+v, %v", found, err)
	}
	gone := open(t, influxtest.Start(t).URL, "", bucket("absent"))
	if _, err := gone.Detect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := gone.Write(t.Context(), []byte("m,device=a a=1\n")); err == nil || !strings.Contains(gone.Hint(err), "CREATE DATABASE") {
		t.Errorf("absent database: %v, hint %q", err, gone.Hint(err))
	}
}

// What cannot be run here is known by its headers.
func TestDetect(t *testing.T) {
	ping := func(h http.HandlerFunc) map[string]http.HandlerFunc { return map[string]http.HandlerFunc{"/ping": h} }
	for name, c := range map[string]struct {
		answers map[string]http.HandlerFunc
		flavor  string
		want    string
		version string
	}{
		"2.7":           {ping(versioned(204, "v2.7.11", "OSS")), "auto", configs.FlavorInflux2, "2.7.11"},
		"2 cloud":       {ping(versioned(204, "", "Cloud")), "auto", configs.FlavorInflux2, ""},
		"2, self-built": {map[string]http.HandlerFunc{"/ping": versioned(204, "unknown", "OSS"), "/api/v2/setup": versioned(200, "", "")}, "auto", configs.FlavorInflux2, "unknown"},
		"3 Core":        {ping(versioned(200, "3.2.1", "Core")), "auto", configs.FlavorInflux3, "3.2.1"},
		"1.11":          {ping(versioned(204, "1.11.8", "OSS")), "auto", configs.FlavorInflux1, "1.11.8"},
		"named":         {ping(versioned(204, "", "")), configs.FlavorInflux3, configs.FlavorInflux3, ""},
		"1.7":           {ping(versioned(204, "1.7.11", "OSS")), "auto", "", ""},
		"not allowed":   {ping(versioned(401, "", "")), "auto", "", ""},
		"something":     {ping(versioned(204, "", "")), "auto", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, scripted(t, c.answers), "", func(i *configs.Influx) { i.Flavor = c.flavor })
			found, err := s.Detect(t.Context())
			if (err == nil) != (c.want != "") || err == nil && (found.Flavor != c.want || found.Version != c.version) {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}

// An InfluxDB 2 whose token may not make buckets is used as it is.
func TestBucketThatMayNotBeMade(t *testing.T) {
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"code":"forbidden","message":"insufficient permissions"}`))
	}
	s := open(t, scripted(t, map[string]http.HandlerFunc{"/ping": versioned(204, "v2.7.11", "OSS"), "/api/v2/": refuse}), "t")
	found, err := s.Prepare(t.Context(), 0)
	if err != nil || !strings.Contains(found.Note, "insufficient") {
		t.Errorf("%+v, %v", found, err)
	}
}

// An InfluxDB 2 gets its bucket, with the retention that was asked for, once.
func TestBucketIsMade(t *testing.T) {
	var made []string
	reply := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
	}
	url := scripted(t, map[string]http.HandlerFunc{
		"/ping":        versioned(204, "v2.7.11", "OSS"),
		"/api/v2/orgs": reply(`{"orgs":[{"id":"00f1","name":"fairlead"}]}`),
		"GET /api/v2/buckets": func(w http.ResponseWriter, _ *http.Request) {
			if len(made) > 0 {
				_, _ = w.Write([]byte(`{"buckets":[{"name":"telemetry","retentionRules":[{"type":"expire","everySeconds":86400}]}]}`))
				return
			}
			_, _ = w.Write([]byte(`{"buckets":[]}`))
		},
		"POST /api/v2/buckets": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			made = append(made, r.Header.Get("Authorization")+" "+string(body))
			w.WriteHeader(http.StatusCreated)
		},
	})
	s := open(t, url, "t0ken")
	for range 2 {
		if found, err := s.Prepare(t.Context(), 24*time.Hour); err != nil || found.Note != "" {
			t.Fatalf("%+v, %v", found, err)
		}
	}
	want := `Token t0ken {"orgID":"00f1","name":"telemetry","retentionRules":[{"type":"expire","everySeconds":86400}]}`
	if len(made) != 1 || made[0] != want {
		t.Errorf("made %q", made)
	}
}

// A database of InfluxDB 1.8 gets the policy that the bucket names, and what is there stays as it is.
func TestDatabaseIsMade(t *testing.T) {
	db := startInflux(t, false)
	const day = 24 * time.Hour
	for _, c := range []struct {
		bucket    string
		retention time.Duration
		note      string
		policies  string
	}{
		{"a", 0, "", "[[autogen 0s 168h0m0s 1 true]]"},
		{"a", day, "keeps points for 0s", "[[autogen 0s 168h0m0s 1 true]]"},
		{"a", 0, "", "[[autogen 0s 168h0m0s 1 true]]"},
		{"a/short", day, "", "[[autogen 0s 168h0m0s 1 true] [short 24h0m0s 1h0m0s 1 false]]"},
		{"a/short", day, "", "[[autogen 0s 168h0m0s 1 true] [short 24h0m0s 1h0m0s 1 false]]"},
		{"b", day, "", "[[autogen 24h0m0s 1h0m0s 1 true]]"},
		{"b", 2 * day, "keeps points for 24h0m0s", "[[autogen 24h0m0s 1h0m0s 1 true]]"},
		{"c/weeks", 14 * day, "", "[[weeks 336h0m0s 24h0m0s 1 true]]"},
	} {
		s := open(t, db.URL, "", func(i *configs.Influx) { i.Bucket = c.bucket })
		found, err := s.Prepare(t.Context(), c.retention)
		if err != nil || !strings.Contains(found.Note, c.note) || (found.Note == "") != (c.note == "") {
			t.Errorf("%s for %s: %q, %v", c.bucket, c.retention, found.Note, err)
		}
		if err := s.Write(t.Context(), []byte("m v=1\n")); err != nil {
			t.Errorf("%s: %v", c.bucket, err)
		}
		name, _, _ := strings.Cut(c.bucket, "/")
		if got := fmt.Sprint(db.MustQuery("SHOW RETENTION POLICIES ON " + name)[0].Values); got != c.policies {
			t.Errorf("%s for %s: policies %s, want %s", c.bucket, c.retention, got, c.policies)
		}
	}
}
