package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest/influx"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// readRows shows all rows of a text, and the faults among them.
func readRows(t *testing.T, text, format string, o rowOptions) (got []string) {
	t.Helper()
	if o.deviceKey == "" {
		o.deviceKey = "device"
	}
	source, err := openRows(strings.NewReader(text), "-", format, o)
	if err != nil {
		return []string{err.Error()}
	}
	for {
		r, err := source.next()
		var fault *rowFault
		switch {
		case errors.Is(err, io.EOF):
			return got
		case errors.As(err, &fault):
			got = append(got, fault.Error())
		case err != nil:
			return append(got, err.Error())
		default:
			got = append(got, fmt.Sprintf("%d %s %s", r.line, r.device, r.point))
		}
	}
}

func TestRows(t *testing.T) {
	for name, c := range map[string]struct {
		text, format string
		opt          rowOptions
		want         []string
	}{
		"a byte order mark": {
			"\ufeff\"time\",device,n\n1763832000,a,1\n", "csv",
			rowOptions{measurement: "m"},
			[]string{`2 a {"measurement":"m","time":1763832000000,"fields":{"n":1}}`},
		},
		"a byte order mark before line protocol": {
			"\ufeffm,device=a n=1 1763832000000000000\n", "line",
			rowOptions{},
			[]string{`1 a {"measurement":"m","time":1763832000000,"fields":{"n":1}}`},
		},
		"a quote of an inch": {
			"time,device,n\n1763832000,a,5\" pipe\n1763832000,a,\"6\" pipe\"\n1763832000,a,7\n", "csv",
			rowOptions{measurement: "m"},
			[]string{
				`line 2: a quote within a cell, at byte 15; write the cell in quotes, and the quote twice`,
				`line 3: a quote within a cell, at byte 16; write the cell in quotes, and the quote twice`,
				`4 a {"measurement":"m","time":1763832000000,"fields":{"n":7}}`,
			},
		},
		"a quote without an end": {
			"time,device,n\n1763832000,a,\"5 pipe\n1763832000,a,7\n", "csv",
			rowOptions{measurement: "m"},
			[]string{`read CSV: the quoted cell that begins in line 2 does not end where one may`},
		},
		"large whole numbers in CSV": {
			"time,device,n\n1763832000,a,9007199254740993\n1763832000,a,+7\n1763832000,a,007\n", "csv",
			rowOptions{measurement: "m"},
			[]string{
				`2 a {"measurement":"m","time":1763832000000,"fields":{"n":9007199254740993}}`,
				`3 a {"measurement":"m","time":1763832000000,"fields":{"n":7}}`,
				`4 a {"measurement":"m","time":1763832000000,"fields":{"n":7}}`,
			},
		},
		"lines": {
			"# c\n\nenv,device=a,site=x,room=b t=1.5,n=2i 1763832000000000000\nenv t=1 1\nenv,device=a t=1\nenv,device=a t=\nenv,device=b.c t=1 1", "line",
			rowOptions{drop: []string{"site"}},
			[]string{
				`3 a {"measurement":"env","time":1763832000000,"tags":{"room":"b"},"fields":{"t":1.5,"n":2}}`,
				"line 4: names no device: device is missing; give --device",
				"line 5: has no time, and a point that is sent again would be stored twice",
				"line 6: expected field value, found end of input at column 16",
				`line 7: device id "b.c": character 2 is not allowed; use A-Z a-z 0-9 _ : -, starting with a letter or digit`,
			},
		},
		"lines of one device": {
			"env,device=a t=1 1763832000123", "line",
			rowOptions{device: "b", precision: time.Millisecond},
			[]string{`1 b {"measurement":"env","time":1763832000123,"fields":{"t":1}}`},
		},
		"csv": {
			"\ufeffTime,id,site,t,ok,note\n2026-01-31T12:00:00.5Z,a,x,1e1,TRUE,\"a, b\"\n1769860801,b,,2,false,\n1769860801123456,b,,,,\n", "csv",
			rowOptions{deviceKey: "id", tags: []string{"site"}, measurement: "m"},
			[]string{
				`2 a {"measurement":"m","time":1769860800500,"tags":{"site":"x"},"fields":{"t":10,"ok":true,"note":"a, b"}}`,
				`3 b {"measurement":"m","time":1769860801000,"fields":{"t":2,"ok":false}}`,
				"line 4: has no value",
			},
		},
		"csv of a bad name": {"time,temp (C)\n1,2\n", "csv", rowOptions{}, []string{`column "temp (C)": name may hold A-Z a-z 0-9 _ . - only; rename it, or leave it out with --drop`}},
		"frames of devices": {
			`{"type":"hello","model":"x"}` + "\n" + `{"type":"telemetry","fields":{"t":1}}` + "\nm,device=a t=1 1000000", "line",
			rowOptions{},
			[]string{
				"line 1: is not line protocol",
				"line 2: frame: telemetry is sent as the subprotocol says, not as a frame",
				`3 a {"measurement":"m","time":1,"fields":{"t":1}}`,
			},
		},
		"csv without a time":  {"a,b\n1,2\n", "csv", rowOptions{}, []string{"the header has no column for the time; name it with --time-column"}},
		"csv without a field": {"time,b\n1,2\n", "csv", rowOptions{drop: []string{"b"}}, []string{"the header has no column for a field"}},
		"other format":        {"", "xml", rowOptions{}, []string{"--format xml: want line or csv"}},
	} {
		got := readRows(t, c.text, c.format, c.opt)
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s:\ngot  %s\nwant %s", name, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}

// moody is a hub that answers posts, and calls for tokens, each by a script, one answer after the other, and then stores all.
type moody struct {
	mu            sync.Mutex
	script, mints []http.HandlerFunc
	minted        int
	bodies        []string
}

// answered gives the next answer of a script, if there is one.
func answered(script *[]http.HandlerFunc, w http.ResponseWriter, r *http.Request) bool {
	if len(*script) == 0 {
		return false
	}
	next := (*script)[0]
	*script = (*script)[1:]
	if next != nil {
		next(w, r)
	}
	return next != nil
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/tokens") {
		if answered(&m.mints, w, r) {
			return
		}
		m.minted++
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token":"t%d"}`, m.minted)
		return
	}
	body, _ := io.ReadAll(r.Body)
	if answered(&m.script, w, r) {
		return
	}
	m.bodies = append(m.bodies, r.Header.Get("Authorization")+" "+string(body))
	w.WriteHeader(http.StatusNoContent)
}

func answers(status int, code, path string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "0")
		problem.New(status, code, path+": why").WithPath(path).Write(w)
	}
}

// An import gets over a hub that is busy, a token that ends and rows that are refused.
func TestImportAgainstAMoodyHub(t *testing.T) {
	hub := &moody{script: []http.HandlerFunc{
		answers(503, "log_takes_nothing", ""), answers(401, "token_expired", ""), answers(429, "too_many_posts", ""),
		answers(400, "invalid_field", "points[1].fields.t"), answers(413, "body_too_big", ""), // three rows left: one, and two
	}}
	server := httptest.NewTLSServer(hub)
	defer server.Close()
	text := "m t=1 1000000\nm t=2 2000000\nm t=3 3000000\nm t=4 4000000\n"
	file := t.TempDir() + "/a.lp"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, said := runCLI(t, server, "import", "--device", "a", file)
	if code != exitFailed || !strings.Contains(out, "3 rows stored, 1 refused, done up to line 4") || !strings.Contains(said, "line 2: fields.t: why (invalid_field)") {
		t.Fatalf("exit %d, %q\n%s", code, out, said)
	}
	want := `Bearer t2 {"points":[{"measurement":"m","time":1,"fields":{"t":1}}]}` + "\n" +
		`Bearer t2 {"points":[{"measurement":"m","time":3,"fields":{"t":3}},{"measurement":"m","time":4,"fields":{"t":4}}]}`
	if got := strings.Join(hub.bodies, "\n"); got != want || hub.minted != 2 {
		t.Errorf("stored\n%s\nwant\n%s\n%d tokens", got, want, hub.minted)
	}
}

// importFile imports rows of device a, one a millisecond.
func importFile(t *testing.T, hub http.Handler, rows int, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	server := httptest.NewTLSServer(hub)
	defer server.Close()
	file := t.TempDir() + "/a.lp"
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, "m t=%d %d000000\n", i+1, i+1)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return runCLI(t, server, append([]string{"import", "--device", "a"}, append(args, file)...)...)
}

func broken(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func page(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", status) }
}

// What says nothing about the rows is repeated, be it a post or a call for a token, however often a token ends meanwhile.
func TestImportRepeatsWhatIsNotAboutTheRows(t *testing.T) {
	const row = `{"measurement":"m","time":1,"fields":{"t":1}}`
	busy, expired := answers(503, "draining", ""), answers(401, "token_expired", "")
	for name, c := range map[string]struct {
		hub    *moody
		minted int
	}{
		"a slow body":                  {&moody{script: []http.HandlerFunc{answers(400, "body_incomplete", "")}}, 1},
		"something before the hub":     {&moody{script: []http.HandlerFunc{page(400), page(200)}}, 1},
		"a connection that breaks":     {&moody{script: []http.HandlerFunc{broken}}, 1},
		"two tokens that end":          {&moody{script: []http.HandlerFunc{busy, expired, busy, expired}}, 3},
		"no token while a hub is away": {&moody{script: []http.HandlerFunc{busy, expired}, mints: []http.HandlerFunc{nil, busy, broken}}, 2},
	} {
		code, out, said := importFile(t, c.hub, 1)
		if code != 0 || !strings.Contains(out, "1 row stored, 0 refused, done up to line 1") {
			t.Errorf("%s: exit %d, %q\n%s", name, code, out, said)
		}
		if want := fmt.Sprintf(`Bearer t%d {"points":[%s]}`, c.minted, row); len(c.hub.bodies) != 1 || c.hub.bodies[0] != want {
			t.Errorf("%s: stored %q, want %q", name, c.hub.bodies, want)
		}
	}
}

// Rows that come too slowly together are sent apart; none of them is refused.
func TestImportSendsSlowRowsApart(t *testing.T) {
	slow := answers(408, "body_incomplete", "")
	hub := &moody{script: []http.HandlerFunc{slow, slow, slow}} // four, two, one
	code, out, said := importFile(t, hub, 4)
	if code != 0 || !strings.Contains(out, "4 rows stored, 0 refused") || len(hub.bodies) != 3 {
		t.Errorf("exit %d, %q, %q\n%s", code, out, hub.bodies, said)
	}
}

// What will not pass ends an import at once, and no row is counted as refused for it.
func TestImportEndsAtWhatWillNotPass(t *testing.T) {
	for name, c := range map[string]struct {
		hub  *moody
		want string
	}{
		"a new token is refused": {&moody{script: []http.HandlerFunc{answers(401, "token_not_verified", ""), answers(401, "token_not_verified", "")}}, "token_not_verified"},
		"the device is disabled": {&moody{script: []http.HandlerFunc{answers(403, "device_disabled", "")}}, "device_disabled"},
		"a 400 of another kind":  {&moody{script: []http.HandlerFunc{answers(400, "token_in_query", "")}}, "token_in_query"},
		"no device":              {&moody{mints: []http.HandlerFunc{answers(404, "not_found", "")}}, "--create"},
		"nobody there":           {&moody{mints: []http.HandlerFunc{broken}}, "hub 127.0.0.1"},
	} {
		code, out, said := importFile(t, c.hub, 1)
		if code == 0 || !strings.Contains(out, "0 rows stored, 0 refused, done up to line 0") || !strings.Contains(said, c.want) || !strings.Contains(said, "--skip 0") {
			t.Errorf("%s: exit %d, %q\n%s", name, code, out, said)
		}
		if len(c.hub.bodies) > 0 {
			t.Errorf("%s: stored %q", name, c.hub.bodies)
		}
	}
}

// A hub that stays away ends the import, which says where to go on.
func TestImportSaysWhereToGoOn(t *testing.T) {
	away := make([]http.HandlerFunc, 100)
	for i := range away {
		away[i] = answers(503, "draining", "")
	}
	server := httptest.NewTLSServer(&moody{script: away})
	defer server.Close()
	file := t.TempDir() + "/a.lp"
	if err := os.WriteFile(file, []byte("m t=1 1000000\nm t=2 2000000\nm t=3 3000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, said := runCLI(t, server, "import", "--device", "a", "--skip", "1", "--retry-for", "1ms", file)
	if code != exitFailed || !strings.Contains(out, "0 rows stored, 0 refused, done up to line 1") || !strings.Contains(said, "--skip 1 ... "+file) {
		t.Fatalf("exit %d, %q\n%s", code, out, said)
	}
}

func TestHistoryWithoutInfluxQL(t *testing.T) {
	cfg := configs.Default().Influx
	cfg.URL, cfg.Flavor = "http://127.0.0.1:1", configs.FlavorVictoriaMetrics
	s := influx.New(cfg)
	defer s.Close()
	_, err := history{s}.Telemetry(t.Context(), api.HistoryQuery{Device: "pump-7"})
	var refused *api.Invalid
	if !errors.As(err, &refused) || refused.Status != http.StatusNotImplemented || refused.Hint == "" {
		t.Errorf("got %v", err)
	}
}
