package influx_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/ingest/influx"
)

// core3 answers as InfluxDB 3 Core does by its source (github.com/influxdata/influxdb, commit 06200ef96ba8 and, where marked,
// e8951468 of an earlier version). No server was run: it cannot be built here.
//   - influxdb3_server/src/http.rs: ping, write_lp_inner, V2WriteApiError, IntoResponse for Error. Errors have no media type.
//   - influxdb3_types/src/http.rs: WriteParams; /api/v2/write never accepts a part of a body, /api/v3/write_lp does.
//   - influxdb3_write/src/write_buffer/{mod,validator}.rs: the good lines are stored before the others are named, from 1.
//   - core/iox_v1_query_api/src: /query; an error of a statement is in a 200.
type core3 struct {
	query func(q string) (status int, body string)

	mu      sync.Mutex
	columns map[string]string // type by table and column; guarded by mu
	stored  []string          // guarded by mu
	asked   []http.Request    // of /query; guarded by mu
	calls   map[string]int    // by path; guarded by mu
}

// plain answers without a media type, which Go would add.
func plain(w http.ResponseWriter, status int, body string) {
	w.Header()["Content-Type"] = nil
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func (c *core3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls, c.columns = make(map[string]int), make(map[string]string)
	}
	c.calls[r.URL.Path]++
	switch r.Method + " " + r.URL.Path {
	case "GET /ping":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Influxdb-Build", "Core")
		w.Header().Set("X-Influxdb-Version", "3.9.0")
		fmt.Fprint(w, `{"product_name":"InfluxDB 3 Core","version":"3.9.0","revision":"06200ef","process_id":"0"}`)
	case "POST /api/v3/write_lp":
		if p := r.URL.Query().Get("precision"); p != "nanosecond" {
			plain(w, 400, "serde error: unknown variant `"+p+"`")
			return
		}
		c.write(w, c.read(r), r.URL.Query().Get("accept_partial") != "false")
	case "POST /api/v2/write":
		c.write(w, c.read(r), false)
	case "GET /query":
		c.asked = append(c.asked, *r)
		status, body := c.query(r.FormValue("q"))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	default:
		plain(w, 404, "Not found")
	}
}

func (c *core3) read(r *http.Request) string {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return ""
		}
		body = z
	}
	text, _ := io.ReadAll(body)
	return string(text)
}

type lineError struct {
	Line   string `json:"original_line"`
	Number int    `json:"line_number"`
	Why    string `json:"error_message"`
}

func (c *core3) write(w http.ResponseWriter, body string, partial bool) {
	var good []string
	var bad []lineError
	columns := maps.Clone(c.columns)
	for i, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
		if why := conflict(columns, line); why != "" {
			bad = append(bad, lineError{line, i + 1, why})
			continue
		}
		good = append(good, line)
	}
	if len(bad) > 0 && !partial {
		fault, _ := json.Marshal(map[string]string{"code": "invalid", "message": "write buffer error: line protocol parse failed: " + bad[0].Why})
		plain(w, 400, string(fault))
		return
	}
	c.columns, c.stored = columns, append(c.stored, good...)
	if len(bad) > 0 {
		data, _ := json.Marshal(bad)
		plain(w, 400, `{"error":"partial write of line protocol occurred","data":`+string(data)+`}`)
		return
	}
	w.WriteHeader(204)
}

// conflict settles the types of a line's columns, or says which is another already.
func conflict(columns map[string]string, line string) string {
	parts := strings.Split(line, " ")
	if len(parts) != 3 {
		return "Could not parse entire line"
	}
	table, _, _ := strings.Cut(parts[0], ",")
	for f := range strings.SplitSeq(parts[1], ",") {
		name, value, _ := strings.Cut(f, "=")
		kind := "field::float"
		switch {
		case strings.HasPrefix(value, `"`):
			kind = "field::string"
		case strings.HasSuffix(value, "i"):
			kind = "field::integer"
		case value == "true":
			kind = "field::boolean"
		}
		if is := columns[table+"."+name]; is != "" && is != kind {
			return fmt.Sprintf("invalid column type for column '%s', expected iox::column_type::%s, got iox::column_type::%s", name, is, kind)
		}
		columns[table+"."+name] = kind
	}
	return ""
}

func openCore(t *testing.T, c http.Handler, change ...func(*configs.Influx)) *influx.Store {
	t.Helper()
	s := open(t, scripted(t, map[string]http.HandlerFunc{"/": c.ServeHTTP}), "apiv3_t", change...)
	if _, err := s.Detect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

const mixed = "m,device=a v=1 1\nm,device=b v=\"x\" 2\nm,device=a v=3 3\nm,device=c v=2i 4\n"

// The good lines of a body are stored by the first write, and the store says of each other one why not.
func TestCoreNamesRefusedLines(t *testing.T) {
	for name, zip := range map[string]bool{"plain": false, "gzip": true} {
		t.Run(name, func(t *testing.T) {
			c := &core3{}
			s := openCore(t, c, func(i *configs.Influx) { i.Gzip = zip })
			err := s.Write(t.Context(), []byte(mixed))
			var e *ingest.StoreError
			if !errors.As(err, &e) || e.Verdict != ingest.Refused || e.Status != 400 || len(e.Lines) != 2 {
				t.Fatalf("%v: %+v", err, e)
			}
			if !strings.Contains(e.Lines[1], "invalid column type for column 'v'") || !strings.HasSuffix(e.Lines[3], "got iox::column_type::field::integer") {
				t.Errorf("reasons %v", e.Lines)
			}
			if want := "400: partial write of line protocol occurred: 2 of 4 lines, the first of them line 2: invalid column type"; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			if len(c.stored) != 2 || c.calls["/api/v2/write"] != 0 {
				t.Errorf("stored %q, calls %v", c.stored, c.calls)
			}
			if err := s.Write(t.Context(), []byte("m,device=a v=4 5\n")); err != nil {
				t.Error(err)
			}
		})
	}
}

// Before anybody found out what the store is, lines go by /api/v2/write, whose refusal does not say which line it means: the
// store is known by its words.
func TestCoreIsKnownByItsWords(t *testing.T) {
	c := &core3{}
	s := open(t, scripted(t, map[string]http.HandlerFunc{"/": c.ServeHTTP}), "apiv3_t")
	var e *ingest.StoreError
	if err := s.Write(t.Context(), []byte(mixed)); !errors.As(err, &e) || e.Verdict != ingest.Refused || len(e.Lines) != 2 {
		t.Fatalf("%+v", e)
	}
	if len(c.stored) != 2 || c.calls["/api/v2/write"] != 1 || c.calls["/api/v3/write_lp"] != 1 {
		t.Errorf("stored %q, calls %v", c.stored, c.calls)
	}
	// Its own troubles come with the same status and the same code, and say nothing of the lines.
	asked := false
	broken := open(t, scripted(t, map[string]http.HandlerFunc{
		"/api/v2/write": func(w http.ResponseWriter, _ *http.Request) {
			plain(w, 400, `{"code":"invalid","message":"write buffer error: error from wal: object store error: no space left"}`)
		},
		"/api/v3/write_lp": func(http.ResponseWriter, *http.Request) { asked = true },
	}), "apiv3_t")
	if err := broken.Write(t.Context(), []byte(mixed)); !errors.As(err, &e) || e.Verdict != ingest.Unavailable || asked {
		t.Errorf("a store without space: %v, %+v, asked again: %v", err, e, asked)
	}
}

func TestCoreFaults(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   ingest.Verdict
		lines  int // named
		hint   string
	}{
		"too large":           {413, "max request size (10485760 bytes) exceeded", ingest.TooLarge, 0, ""},
		"too large, before":   {500, "max request size (10485760 bytes) exceeded", ingest.TooLarge, 0, ""}, // e8951468
		"full buffer":         {429, "wal buffer is full; writes are temporarily rejected, retry shortly", ingest.Unavailable, 0, ""},
		"no object store":     {500, "write buffer error: error from wal: object store error: Generic LocalFileSystem error", ingest.Unavailable, 0, ""},
		"unknown":             {400, "serde error: something new", ingest.Unavailable, 0, ""},
		"no token":            {401, `{"error": "the request was not authenticated"}`, ingest.Misconfigured, 0, "influx.token"},
		"no token, before":    {401, "", ingest.Misconfigured, 0, "influx.token"}, // e8951468
		"not allowed":         {403, "", ingest.Misconfigured, 0, "influx.token"},
		"token with a space":  {400, `{"error": "Authorization header was malformed, the request was not in the form of 'Authorization: <auth-scheme> <token>', supported auth-schemes are Bearer, Token and Basic"}`, ingest.Misconfigured, 0, "space"},
		"name":                {400, `{"error":"invalid character in database or rp name: must be ASCII, containing only letters, numbers, underscores, or hyphens"}`, ingest.Misconfigured, 0, "influx.bucket"},
		"name, before":        {400, `{"error":"invalid character in database name: must be ASCII, containing only letters, numbers, underscores, or hyphens","data":null}`, ingest.Misconfigured, 0, "influx.bucket"}, // e8951468
		"long name, before":   {500, "error validating namespace name: namespace name x length must be between 1 and 64 characters", ingest.Misconfigured, 0, "influx.bucket"},                                         // e8951468
		"databases":           {422, `{"error":"Adding a new database would exceed limit of 5 databases"}`, ingest.Misconfigured, 0, "as many databases"},
		"deleted database":    {400, `{"error":"cannot write to soft-deleted database 'telemetry' - it is marked for deletion"}`, ingest.Misconfigured, 0, "influx.bucket"},
		"a proxy in the way":  {404, "Not found", ingest.Misconfigured, 0, "proxy"},
		"tables":              {422, `{"error":"partial write of line protocol occurred","data":[{"original_line":"m","line_number":1,"error_message":"Update to schema would exceed number of tables limit: attempted to create table but already have 2000 table(s) (limit: 2000)"}]}`, ingest.Refused, 1, ""},
		"columns":             {422, `{"error":"partial write of line protocol occurred","data":[{"original_line":"m","line_number":2,"error_message":"Schema update for table 'm' would exceed the column limit: proposed schema update would have 501 columns, but the limit is 500"}]}`, ingest.Refused, 1, ""},
		"tables, as a whole":  {422, `{"error":"Update to schema would exceed number of tables limit of 2000 tables","data":null}`, ingest.Refused, 0, ""},                                             // e8951468
		"no part of it":       {400, `{"error":"parsing failed for write_lp endpoint","data":{"original_line":"m","line_number":1,"error_message":"No fields were provided"}}`, ingest.Refused, 0, ""}, // e8951468
		"a line not sent":     {400, `{"error":"partial write of line protocol occurred","data":[{"original_line":"m","line_number":5,"error_message":"x"}]}`, ingest.Refused, 0, ""},                  // not believed
		"a line numbered 0":   {400, `{"error":"partial write of line protocol occurred","data":[{"original_line":"m","line_number":0,"error_message":"x"}]}`, ingest.Refused, 0, ""},                  // not believed
		"an answer cut short": {400, `{"error":"partial write of line protocol occurred","data":[{"original_line":"m","line_num`, ingest.Refused, 0, ""},
		"not UTF-8":           {400, "body content is not valid utf8: invalid utf-8 sequence of 1 bytes from index 3", ingest.Refused, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ping := &core3{}
			s := open(t, scripted(t, map[string]http.HandlerFunc{
				"/ping":            ping.ServeHTTP,
				"/api/v3/write_lp": func(w http.ResponseWriter, _ *http.Request) { plain(w, c.status, c.body) },
			}), "apiv3_t")
			got := s.Check(t.Context(), 0)
			if c.want == ingest.Misconfigured && (got.OK() || !strings.Contains(s.Hint(got.Write), c.hint)) {
				t.Errorf("hint %q, want %q in it", s.Hint(got.Write), c.hint)
			}
			var e *ingest.StoreError
			if err := s.Write(t.Context(), []byte(mixed)); !errors.As(err, &e) || e.Verdict != c.want || e.Status != c.status || len(e.Lines) != c.lines {
				t.Errorf("%v: %+v", err, e)
			}
		})
	}
}

func TestCoreIsFound(t *testing.T) {
	inBody := func(w http.ResponseWriter, _ *http.Request) {
		plain(w, 200, `{"version":"3.0.3","revision":"384c457ef5"}`)
	}
	locked := func(w http.ResponseWriter, _ *http.Request) {
		plain(w, 401, `{"error": "the request was not authenticated"}`)
	}
	for name, c := range map[string]struct {
		answers map[string]http.HandlerFunc
		flavor  string
		version string // "": not found
		hint    string
	}{
		"by its header":    {map[string]http.HandlerFunc{"/ping": (&core3{}).ServeHTTP, "/": locked}, "auto", "3.9.0", ""}, // also with --disable-authz ping
		"3.0, by its body": {map[string]http.HandlerFunc{"/ping": inBody}, "auto", "3.0.3", ""},                            // until 3.1 no header told
		"without a token":  {map[string]http.HandlerFunc{"/": locked}, "auto", "", "influx.token"},
		"named, locked":    {map[string]http.HandlerFunc{"/": locked}, configs.FlavorInflux3, "", "influx.token"},
		"something else":   {map[string]http.HandlerFunc{"/ping": func(w http.ResponseWriter, _ *http.Request) { plain(w, 200, `{"version":"17.1"}`) }}, "auto", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, scripted(t, c.answers), "", func(i *configs.Influx) { i.Flavor = c.flavor })
			found, err := s.Detect(t.Context())
			if (err == nil) != (c.version != "") || err == nil && (found.Flavor != configs.FlavorInflux3 || found.Version != c.version) {
				t.Errorf("%+v, %v", found, err)
			}
			if err != nil && !strings.Contains(s.Hint(err), c.hint) {
				t.Errorf("hint %q", s.Hint(err))
			}
		})
	}
}

func TestCoreBucketNames(t *testing.T) {
	for bucket, fault := range map[string]string{
		"telemetry": "", "7-up_x": "", "fleet/week": "", strings.Repeat("a", 64): "",
		"_fleet": "start", "fleet week": "A-Z", "flotte-é": "A-Z", "a/b/c": "one slash", "a/": "one slash", strings.Repeat("a", 65): "64",
	} {
		s := open(t, scripted(t, map[string]http.HandlerFunc{"/": (&core3{}).ServeHTTP}), "", func(i *configs.Influx) { i.Bucket = bucket })
		_, err := s.Prepare(t.Context(), 0)
		if (err == nil) != (fault == "") || err != nil && (!strings.Contains(err.Error(), fault) || !strings.Contains(s.Hint(err), "influx.bucket")) {
			t.Errorf("%q: %v", bucket, err)
		}
	}
}

// A database is made with the retention that was asked for, if the token may make one and it is not there
// [influxdb3_server/src/http.rs, create_database; 409 by influxdb3_catalog's AlreadyExists].
func TestCoreRetention(t *testing.T) {
	for name, c := range map[string]struct {
		keep   time.Duration
		status int
		asked  string
		note   string
	}{
		"made":        {48 * time.Hour, 200, `{"db":"telemetry","retention_period":"172800s"}`, ""},
		"there":       {48 * time.Hour, 409, `{"db":"telemetry","retention_period":"172800s"}`, "is there already"},
		"not allowed": {48 * time.Hour, 403, `{"db":"telemetry","retention_period":"172800s"}`, "keep points for ever"},
		"not asked":   {0, 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := ""
			s := open(t, scripted(t, map[string]http.HandlerFunc{
				"/": (&core3{}).ServeHTTP,
				"POST /api/v3/configure/database": func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					asked = string(body)
					plain(w, c.status, "")
				},
			}), "apiv3_t")
			found, err := s.Prepare(t.Context(), c.keep)
			if err != nil || asked != c.asked || !strings.Contains(found.Note, c.note) || (found.Note == "") != (c.note == "") {
				t.Errorf("asked %s: %q, %v", asked, found.Note, err)
			}
		})
	}
}
