package devices_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// answer is what a post was answered.
type answer struct {
	status int
	header http.Header
	body   struct {
		Code, Detail, Path, Hint string
		Time                     int64
	}
}

func (h *hub) post(token, media, body string, change ...func(*http.Request)) answer {
	h.t.Helper()
	a, err := h.tryPost(context.Background(), token, media, strings.NewReader(body), change...)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func (h *hub) tryPost(ctx context.Context, token, media string, body io.Reader, change ...func(*http.Request)) (a answer, err error) {
	url := strings.Replace(h.url, "ws://", "http://", 1) + "/telemetry" // where an uplink stands alone, any path is its
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", media)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, fn := range change {
		fn(req)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	raw, err := io.ReadAll(resp.Body)
	if len(raw) > 0 {
		err = json.Unmarshal(raw, &a.body)
	}
	return a, err
}

func TestPostStores(t *testing.T) {
	h := startHub(t)
	token := h.device("pump-7")
	frame, _ := wire.Append(nil, wire.CBOR, &wire.Telemetry{Points: []wire.Point{{Fields: []wire.Field{wire.NewNumber("t", 1)}}}})
	pack, _ := hex.DecodeString("81a20064" + hex.EncodeToString([]byte("temp")) + "0217")
	want := 0
	for _, c := range []struct {
		media, body string
		points      int
	}{
		{"application/json", `{"fields":{"temp":21.5}}`, 1},
		{"application/json; charset=utf-8", `{"type":"telemetry","seq":700,"points":[{"fields":{"a":1}},{"fields":{"a":2}}]}`, 2},
		{"application/json", `{"seq":0,"fields":{"a":1}}`, 1},
		{"application/json", `{"type":"telemetry","fields":{"a":1},"seq":"x"}`, 1},
		{"application/cbor", "\xa2\x63seq\x00\x66fields\xa1\x61a\x01", 1},
		{"application/json", `{"blocks":[{"start":1,"step_us":1,"fields":{"x":[1,2,3]}}]}`, 3},
		{"application/cbor", string(frame), 1},
		{"application/senml+json", `[{"bn":"pump-7/env/","n":"temp","v":1},{"n":"hum","v":2}]`, 1},
		{"application/senml+cbor", string(pack), 1},
		{"text/plain; charset=utf-8", "env temp=1\nenv temp=2\n", 2},
	} {
		if a := h.post(token, c.media, c.body); a.status != 204 {
			t.Fatalf("%s: %+v", c.body, a)
		}
		if want += c.points; h.log.points != want {
			t.Fatalf("%s: %d points, want %d", c.body, h.log.points, want)
		}
	}
	if n := h.metric("fairlead_devices_posts_total", "outcome", "stored"); n != 10 {
		t.Errorf("%v posts stored", n)
	}
	if h.log.closed != 10 || h.registry.Len() != 0 {
		t.Errorf("%d ways closed, %d sessions", h.log.closed, h.registry.Len())
	}
	// It was seen, and never on line.
	st := h.presence.State("pump-7")
	if st.Status != devices.Never || time.Since(st.LastSeen) > time.Minute || !st.Since.IsZero() {
		t.Errorf("presence %+v", st)
	}
}

func TestPostSaysWhatIsWrong(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.PointsPerFrame = 3 })
	token := h.device("pump-7")
	h.device("off")
	if _, err := h.records.Update(t.Context(), "off", 0, func(r *devices.Record) (bool, error) { r.Disabled = true; return true, nil }); err != nil {
		t.Fatal(err)
	}
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	query := func(q string) func(*http.Request) { return func(r *http.Request) { r.URL.RawQuery = q } }
	const frame = `{"fields":{"a":1}}`
	big := `{"fields":{"a":"` + strings.Repeat("x", 70_000) + `"}}`
	for name, c := range map[string]struct {
		token, media, body string
		change             func(*http.Request)
		status             int
		code, path         string
	}{
		"no token":       {"", "application/json", frame, nil, 401, "token_missing", ""},
		"nonsense":       {"nonsense", "application/json", frame, nil, 401, "token_malformed", ""},
		"unknown device": {h.token("nobody"), "application/json", frame, nil, 403, "device_unknown", ""},
		"disabled":       {h.token("off"), "application/json", frame, nil, 403, "device_disabled", ""},
		"query":          {token, "application/json", frame, query("token=" + token), 400, "token_in_query", ""},
		"origin":         {token, "application/json", frame, header("Origin", "https://evil.example"), 403, "origin_not_allowed", ""},
		"method":         {token, "application/json", frame, func(r *http.Request) { r.Method = http.MethodPut }, 405, "method_not_allowed", ""},
		"media":          {token, "application/x-www-form-urlencoded", frame, nil, 415, "media_type_not_known", ""},
		"compressed":     {token, "application/json", frame, header("Content-Encoding", "gzip"), 415, "media_type_not_known", ""},
		"precision":      {token, "text/plain", "m a=1 1", query("precision=h"), 400, "invalid_time", "precision"},
		"too big":        {token, "application/json", big, nil, 413, "body_too_big", ""},
		"too big, unsaid": {token, "application/json", big, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(big)), -1
		}, 413, "body_too_big", ""},
		"not JSON":        {token, "application/json", `{"fields"`, nil, 400, "invalid_json", ""},
		"empty":           {token, "application/json", ``, nil, 400, "invalid_json", ""},
		"seq as point":    {token, "application/json", `{"points":[{"seq":0}]}`, nil, 400, "invalid_field", "points[0].fields"},
		"field":           {token, "application/json", `{"points":[{"fields":{"a":1}},{"fields":{"a":{}}}]}`, nil, 400, "invalid_field", "points[1].fields.a"},
		"other frame":     {token, "application/json", `{"type":"hello","model":"x"}`, nil, 400, "invalid_frame", "type"},
		"unknown type":    {token, "application/json", `{"type":"hallo"}`, nil, 400, "invalid_frame", "type"},
		"too many points": {token, "text/plain", "m a=1\nm a=2\nm a=3\nm a=4", nil, 400, "too_many_points", "lines[3]"},
		"line":            {token, "text/plain", "m a=1\nm a=", nil, 400, "invalid_frame", "lines[1]"},
		"record":          {token, "application/senml+json", `[{"n":"a","v":1},{"n":"é","v":1}]`, nil, 400, "invalid_field", "[1].n"},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			change := func(*http.Request) {}
			if c.change != nil {
				change = c.change
			}
			a := h.post(c.token, c.media, c.body, change)
			if a.status != c.status || a.body.Code != c.code || a.body.Path != c.path || a.header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%+v\nwant %d %s %q", a, c.status, c.code, c.path)
			}
			if got := time.UnixMilli(a.body.Time); time.Since(got).Abs() > time.Minute {
				t.Errorf("hub time %v", got)
			}
			if c.status == 401 && a.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
	h.t = t
	if h.log.points != 0 {
		t.Errorf("%d points stored", h.log.points)
	}
	h.log.set(func(l *telemetryLog) {
		l.reject = &wire.Reject{Code: wire.TypeConflict, Message: "fields.a: is text", Path: "fields.a"}
	})
	if a := h.post(token, "application/json", frame); a.status != 400 || a.body.Code != "type_conflict" || a.body.Path != "fields.a" {
		t.Errorf("refused by the log: %+v", a)
	}
}

// 204 is not said before the points are stored.
func TestPostWaitsForTheLog(t *testing.T) {
	h := startHub(t)
	token := h.device("pump-7")
	h.log.set(func(l *telemetryLog) { l.held = true })
	got := make(chan answer, 1)
	go func() {
		a, _ := h.tryPost(context.Background(), token, "application/json", strings.NewReader(`{"fields":{"a":1}}`))
		got <- a
	}()
	eventually(t, "the points are in the log", func() bool { return h.log.count() == 1 })
	select {
	case a := <-got:
		t.Fatalf("answered %+v before anything was stored", a)
	default:
	}
	h.log.release()
	if a := <-got; a.status != 204 {
		t.Fatalf("%+v", a)
	}
}

// A log that takes nothing blocks posts; those over the limits are put off at once, and the hub still ends.
func TestPostsAreBounded(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.MaxPosts = 5 })
	a, b := h.device("a"), h.device("b")
	h.log.set(func(l *telemetryLog) { l.full = true })
	const body = `{"fields":{"a":1}}`
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	results := make(chan answer, 5)
	send := func(token string) {
		got, _ := h.tryPost(ctx, token, "application/json", strings.NewReader(body))
		results <- got
	}
	opened := func(n int) func() bool {
		return func() bool { h.log.mu.Lock(); defer h.log.mu.Unlock(); return len(h.log.opened) == n }
	}
	for range 4 {
		go send(a)
	}
	eventually(t, "four posts wait for the log", opened(4))
	if got := h.post(a, "application/json", body); got.status != 429 || got.body.Code != "too_many_posts" || got.header.Get("Retry-After") == "" {
		t.Fatalf("the fifth of a device: %+v", got)
	}
	go send(b)
	eventually(t, "five posts wait for the log", opened(5))
	if got := h.post(b, "application/json", body); got.status != 503 || got.body.Code != "too_many_posts" || got.header.Get("Retry-After") == "" {
		t.Fatalf("the sixth of all: %+v", got)
	}
	h.log.release()
	for range 5 {
		if got := <-results; got.status != 204 {
			t.Errorf("%+v", got)
		}
	}
	if got := h.post(b, "application/json", body); got.status != 204 {
		t.Errorf("after the log has healed: %+v", got)
	}
}

// A body that comes slowly, or not to its end, is told as that: the device sends it again. One that is malformed is not.
func TestPostThatDoesNotComeWhole(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	token := h.device("pump-7")
	server := httptest.NewServer(devices.Hasty(h.handler.(*devices.Handler), 50*time.Millisecond))
	defer server.Close()
	post := func(headers, body string, cut bool) (int, string) {
		t.Helper()
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+token+"\r\nContent-Type: text/plain\r\n"+headers+"\r\n\r\n"+body); err != nil {
			t.Fatal(err)
		}
		if cut {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var doc struct{ Code string }
		if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, doc.Code
	}
	for name, c := range map[string]struct {
		headers, body string
		cut           bool
		status        int
	}{
		"slow":           {"Content-Length: 100", "m a=1\n", false, 408},
		"slow, in parts": {"Transfer-Encoding: chunked", "6\r\nm a=1\n\r\n", false, 408},
		"cut short":      {"Content-Length: 100", "m a=1\n", true, 408},
		"malformed":      {"Transfer-Encoding: chunked", "no length\r\n", true, 400},
	} {
		if status, code := post(c.headers, c.body, c.cut); status != c.status || code != "body_incomplete" {
			t.Errorf("%s: %d %s, want %d", name, status, code, c.status)
		}
	}
	if n := h.log.count(); n != 0 {
		t.Errorf("%d points taken of bodies that did not come whole", n)
	}
}

// Who goes away while the log is slow holds no place for longer than the log does.
func TestPostOfAClientThatLeaves(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.MaxPosts = 1 })
	token := h.device("pump-7")
	h.log.set(func(l *telemetryLog) { l.held = true })
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	go func() {
		_, err := h.tryPost(ctx, token, "text/plain", bytes.NewReader([]byte("m a=1")))
		gone <- err
	}()
	eventually(t, "the points are in the log", func() bool { return h.log.count() == 1 })
	cancel()
	<-gone
	h.log.set(func(l *telemetryLog) { l.held = false })
	eventually(t, "the place is free", func() bool { return h.post(token, "text/plain", "m a=2").status == 204 })
}

// While the log takes nothing a post is answered all the same, and takes its place until the log has heard of it.
func TestPostToAFullLog(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.MaxPosts = 1 })
	token := h.device("pump-7")
	server := httptest.NewServer(devices.Impatient(h.handler.(*devices.Handler), 10*time.Millisecond))
	defer server.Close()
	h.url = server.URL
	h.log.set(func(l *telemetryLog) { l.full = true })
	if a := h.post(token, "text/plain", "m a=1"); a.status != 503 || a.body.Code != "log_takes_nothing" || a.header.Get("Retry-After") == "" {
		t.Fatalf("%+v", a)
	}
	if a := h.post(token, "text/plain", "m a=1"); a.status != 503 || a.body.Code != "too_many_posts" {
		t.Fatalf("while the first one waits: %+v", a)
	}
	h.log.release()
	eventually(t, "the place is free", func() bool { return h.post(token, "text/plain", "m a=1").status == 204 })
}

// A hub that stops refuses posts, and does not end before those under way have.
func TestPostsAndShutdown(t *testing.T) {
	h := startHub(t)
	token := h.device("pump-7")
	h.log.set(func(l *telemetryLog) { l.fail = errors.New("closed") })
	if a := h.post(token, "text/plain", "m a=1"); a.status != 503 || a.body.Code != "draining" {
		t.Fatalf("%+v", a)
	}
	h.log.set(func(l *telemetryLog) { l.fail = nil })
	server := httptest.NewServer(devices.NewUplink(h.handler.(*devices.Handler)))
	defer server.Close()
	h.url = server.URL
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if a := h.post(token, "text/plain", "m a=1"); a.status != 503 || a.body.Code != "draining" {
		t.Fatalf("%+v", a)
	}
}
