package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// script is a hub that answers as it is told; the real one is tried in the end-to-end tests.
type script struct {
	status  int
	answer  any
	sent    map[string]any
	request *http.Request
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer good" {
		problem.New(http.StatusUnauthorized, "unauthenticated", "no").Write(w)
		return
	}
	if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/v1/devices/") {
		// What the device announced, from which send takes the types.
		_ = json.NewEncoder(w).Encode(api.Device{ID: "pump-7", Commands: []api.CommandSpec{{
			Name: "set", Params: json.RawMessage(`{"properties":{"n":{"type":"integer"},"s":{"type":"string"},"b":{"type":["boolean","null"]},"l":{"type":"array"}}}`),
		}}})
		return
	}
	s.request = r
	_ = json.NewDecoder(r.Body).Decode(&s.sent)
	w.WriteHeader(s.status)
	_ = json.NewEncoder(w).Encode(s.answer)
}

// runCLI runs the program against srv and returns its exit code and what it wrote.
func runCLI(t *testing.T, srv *httptest.Server, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("FAIRLEAD_URL", srv.URL)
	t.Setenv("FAIRLEAD_CA", ca)
	t.Setenv("FAIRLEAD_TOKEN", "good")
	root := newRootCommand()
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case err != nil:
		code = 1
	}
	if err != nil {
		errs.WriteString(err.Error())
	}
	return code, out.String(), errs.String()
}

func TestExitCodesOfSend(t *testing.T) {
	s := &script{}
	srv := httptest.NewTLSServer(s)
	defer srv.Close()
	for name, c := range map[string]struct {
		status int
		answer any
		args   []string
		want   int
	}{
		"succeeded":      {200, api.Command{State: "succeeded"}, nil, 0},
		"failed":         {200, api.Command{State: "failed"}, nil, 1},
		"rejected":       {200, api.Command{State: "rejected"}, nil, 1},
		"cancelled":      {200, api.Command{State: "cancelled"}, nil, 1},
		"expired":        {200, api.Command{State: "expired"}, nil, 3},
		"timed out":      {200, api.Command{State: "timed_out"}, nil, 3},
		"still queued":   {202, api.Command{State: "queued"}, nil, 3},
		"not waited for": {202, api.Command{State: "queued"}, []string{"--wait", "0"}, 0},
		"as json":        {200, api.Command{State: "failed"}, []string{"-o", "json"}, 1},
		"off line":       {409, problem.New(409, "device_offline", "no"), nil, 4},
		"not allowed":    {403, problem.New(403, "role_too_low", "no"), nil, 5},
		"bad request":    {400, problem.New(400, "invalid_duration", "no"), nil, 2},
		"queue full":     {429, problem.New(429, "queue_full", "no"), nil, 1},
		"not a problem":  {500, "oops", nil, 1},
		"bad token":      {200, nil, []string{"--token", "bad"}, 5},
		"unreachable":    {200, nil, []string{"--url", "https://127.0.0.1:1"}, 6},
		"no parameter":   {200, nil, []string{"novalue"}, 2},
		"wrong type":     {200, nil, []string{"n=x"}, 2},
		"unknown flag":   {200, nil, []string{"--nonsense"}, 2},
		"bad output":     {200, nil, []string{"-o", "xml"}, 2},
		"bad url":        {200, nil, []string{"--url", "hub"}, 2},
	} {
		s.status, s.answer = c.status, c.answer
		code, out, errs := runCLI(t, srv, append([]string{"send", "pump-7", "set"}, c.args...)...)
		if code != c.want {
			t.Errorf("%s: exit code %d, want %d: %s%s", name, code, c.want, out, errs)
		}
		if code != 0 && errs == "" {
			t.Errorf("%s: says nothing", name)
		}
	}
	if code, _, _ := runCLI(t, srv, "send", "pump-7"); code != exitUsage {
		t.Errorf("too few words: exit code %d", code)
	}
}

func TestSendTypesValues(t *testing.T) {
	s := &script{status: 200, answer: api.Command{State: "succeeded", Evidence: "observed", Events: []api.CommandEvent{{Time: 1, State: "succeeded", Evidence: "observed"}}}}
	srv := httptest.NewTLSServer(s)
	defer srv.Close()
	code, out, errs := runCLI(t, srv, "send", "pump-7", "set", "n=5", "s=5", "b=true", "l=[1]", "free=1.5", "word=a=b", "--ttl", "0", "--yes")
	if code != 0 {
		t.Fatal(errs)
	}
	want := map[string]any{"n": 5.0, "s": "5", "b": true, "l": []any{1.0}, "free": 1.5, "word": "a=b"}
	got, _ := json.Marshal(s.sent["params"])
	expected, _ := json.Marshal(want)
	if !bytes.Equal(got, expected) {
		t.Errorf("params %s, want %s", got, expected)
	}
	if s.sent["ttl"] != "0" || s.sent["confirm"] != "pump-7" || s.request.URL.Query().Get("wait") != "30s" || s.request.Header.Get("Idempotency-Key") == "" {
		t.Errorf("sent %v, %s", s.sent, s.request.URL)
	}
	if !strings.Contains(out, "succeeded (observed)") {
		t.Errorf("printed %s", out)
	}
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	for _, name := range []string{"FAIRLEAD_URL", "FAIRLEAD_TOKEN", "FAIRLEAD_CA"} {
		t.Setenv(name, "")
	}
	settle := func(f clientFlags) clientConfig {
		t.Helper()
		s, err := f.settings()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := settle(clientFlags{}); s.URL != defaultHubURL || s.Token != "" {
		t.Errorf("nothing said: %+v", s)
	}
	if err := os.Mkdir(filepath.Join(dir, "fairlead"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "fairlead", "config.yaml")
	if err := os.WriteFile(file, []byte("url: https://file\ntoken: file\nca: file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(dir, "ready.json")
	if err := os.WriteFile(ready, []byte(`{"url":"https://ready","admin_token":"ready"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FAIRLEAD_TOKEN", "env")
	if s := settle(clientFlags{}); s != (clientConfig{"https://file", "env", "file"}) {
		t.Errorf("file and environment: %+v", s)
	}
	if s := settle(clientFlags{ready: ready, url: "https://flag"}); s != (clientConfig{"https://flag", "ready", "file"}) {
		t.Errorf("flag, ready file, file: %+v", s)
	}
	if err := os.WriteFile(file, []byte("tocken: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&clientFlags{}).settings(); err == nil || !strings.Contains(err.Error(), "tocken") {
		t.Errorf("a misspelt key: %v", err)
	}
}

func TestSparkline(t *testing.T) {
	from := time.UnixMilli(0)
	w := window{from: from, to: from.Add(8 * time.Second), width: 8}
	s := api.Series{Times: []int64{0, 1000, 2000, 4000, 7000, 7500}, Values: []any{0.0, 3.5, 7.0, "text", 6.0, 8.0}}
	if line, low, high := sparkline(s, w); line != "▁▄█    █" || low != 0 || high != 7 {
		t.Errorf("%q from %v to %v", line, low, high)
	}
	flat := api.Series{Times: []int64{0, 7999}, Values: []any{5.0, 5.0}}
	if line, _, _ := sparkline(flat, w); line != "▁      ▁" {
		t.Errorf("%q", line)
	}
}

func TestTextOfDevicesCannotDriveTheTerminal(t *testing.T) {
	if got := plain("a\x1b[31mred\x07\tb\nc\u009b"); got != "a[31mred b c" {
		t.Errorf("%q", got)
	}
}

// The link breaks; tail says so and goes on where it can.
func TestTailConnectsAgain(t *testing.T) {
	const point = `{"measurement":"env","time":1,"fields":{"temp":1.5}}`
	times := 0
	upgrader := websocket.Upgrader{Subprotocols: []string{api.LiveProtocol}}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		times++
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
		for _, frame := range []string{`{"event":"subscribed","events":["telemetry"]}`, `{"event":"telemetry","device":"pump-7","points":[` + point + `,` + point + `]}`} {
			if conn.WriteMessage(websocket.TextMessage, []byte(frame)) != nil {
				return
			}
		}
	}))
	defer srv.Close()
	code, out, errs := runCLI(t, srv, "tail", "-n", "3", "pump-7") // the last in the middle of an event
	if code != 0 || strings.Count(out, "pump-7 env temp=1.5") != 3 || !strings.Contains(errs, "link lost") || times != 2 {
		t.Errorf("exit %d after %d links\n%s%s", code, times, out, errs)
	}
}

// A misspelt command is a usage error: it must not look as if it had been done.
func TestUnknownCommands(t *testing.T) {
	srv := httptest.NewTLSServer(&script{})
	defer srv.Close()
	for _, args := range [][]string{
		{"devises"},
		{"devices", "disabel", "pump-7"},
		{"devices", "keys", "list", "pump-7"},
		{"operators", "delete", "ann"},
		{"bridge", "skan"},
		{"influx", "nothing"},
		{"config", "chek"},
		{"devices", "-o", "json", "disabel", "pump-7"},
	} {
		if code, stdout, stderr := runCLI(t, srv, args...); code != exitUsage || stdout != "" || !strings.Contains(stderr, "no command") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
	for _, args := range [][]string{{}, {"devices"}, {"devices", "keys"}, {"help", "devices"}} {
		if code, stdout, stderr := runCLI(t, srv, args...); code != 0 || !strings.Contains(stdout, "Available Commands") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// Every command calls a wrong flag, a word too many and an empty word a usage error, and asks the hub nothing.
func TestUsageErrors(t *testing.T) {
	s := &script{}
	srv := httptest.NewTLSServer(s)
	defer srv.Close()
	for _, args := range [][]string{
		{"--nope"},
		{"serve", "extra"},
		{"serve", "--nope"},
		{"sim", "--nope"},
		{"sim", "extra"},
		{"demo", "extra"},
		{"demo", "--nope"},
		{"config", "--nope"},
		{"config", "print", "extra"},
		{"config", "check", "extra"},
		{"bench", "--nope"},
		{"bench", "link", "extra"},
		{"devices", "show", ""},
		{"devices", "delete", " "},
		{"devices", "label", "", "a=b"},
		{"commands", "show", ""},
		{"jobs", "show", ""},
		{"keys", "remove", ""},
		{"operators", "remove", ""},
		{"enrollments", "delete", ""},
		{"state", "get", ""},
		{"tail", ""},
		{"trace", ""},
		{"query", "pump-7", ""},
		{"enrollments", "approve", ""},
		{"deadletters", "replay", ""},
		{"deadletters", "replay", "--device", ""},
		{"types", "forget", "env", ""},
	} {
		code, stdout, stderr := runCLI(t, srv, args...)
		if code != exitUsage || stdout != "" || stderr == "" || strings.Contains(stderr, "unknown command") || s.request != nil {
			t.Errorf("%q: exit code %d, %q, %q, asked the hub: %v", args, code, stdout, stderr, s.request != nil)
		}
	}
}

// A demo without its fleet would look like a hub that devices cannot reach.
func TestDemoWithFewerThanNoDevices(t *testing.T) {
	srv := httptest.NewTLSServer(&script{})
	defer srv.Close()
	dir := filepath.Join(t.TempDir(), "data")
	code, stdout, stderr := runCLI(t, srv, "demo", "--devices", "-3", "--data", dir)
	if code != exitUsage || stdout != "" || !strings.Contains(stderr, "--devices -3") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}
