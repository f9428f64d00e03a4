package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

func TestStateSet(t *testing.T) {
	s := &script{status: 200, answer: api.TwinState{
		Desired: json.RawMessage(`{"led":{"red":3},"mode":"eco"}`), DesiredVersion: 5,
		Reported: json.RawMessage(`{"led":{"red":1,"green":2},"mode":"eco"}`), ReportedVersion: 9, Difference: json.RawMessage(`{"led":{"red":3}}`),
	}}
	srv := httptest.NewTLSServer(s)
	defer srv.Close()
	code, out, errs := runCLI(t, srv, "state", "set", "pump-7", "mode=eco", "led.red=3", "led.green=null", "text=a b", "n=21.50", "--version", "4")
	if code != 0 {
		t.Fatal(errs)
	}
	const want = `{"led":{"green":null,"red":3},"mode":"eco","n":21.5,"text":"a b"}`
	if got, _ := json.Marshal(s.sent); string(got) != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	if r := s.request; r.Method != http.MethodPatch || r.URL.Path != "/api/v1/devices/pump-7/state/desired" || r.Header.Get("If-Match") != `"4"` {
		t.Errorf("asked %s %s, If-Match %q", r.Method, r.URL, r.Header.Get("If-Match"))
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, words := range [][]string{
		{"KEY", "DESIRED", "v5", "REPORTED", "v9", "DIFFERS"}, {"led.green", "-", "2", "-"}, {"led.red", "3", "1", "*"}, {"mode", `"eco"`, `"eco"`, "-"},
	} {
		if i >= len(lines) || strings.Join(strings.Fields(lines[i]), " ") != strings.Join(words, " ") {
			t.Errorf("line %d of\n%s\nwant %v", i, out, words)
		}
	}
	if _, _, errs := runCLI(t, srv, "state", "set", "pump-7", "a=1"); errs != "" || len(s.request.Header["If-Match"]) != 0 {
		t.Errorf("without --version: %q, If-Match %q", errs, s.request.Header["If-Match"])
	}
}

func TestStateSetUsage(t *testing.T) {
	s := &script{status: 200, answer: api.TwinState{}}
	srv := httptest.NewTLSServer(s)
	defer srv.Close()
	for _, args := range [][]string{
		{},
		{"pump-7"},
		{"pump-7", "novalue"},
		{"pump-7", "=1"},
		{"pump-7", "a..b=1"},
		{"pump-7", "a=1", "a.b=2"},
		{"pump-7", "--patch", "[1]"},
		{"pump-7", "--patch", "null"},
	} {
		if code, _, _ := runCLI(t, srv, append([]string{"state", "set"}, args...)...); code != exitUsage || s.request != nil {
			t.Errorf("%q: exit code %d, want %d", args, code, exitUsage)
		}
	}
	if code, _, errs := runCLI(t, srv, "state", "set", "pump-7", "--patch", `{"a":{"b":1}}`, "a.c=2"); code != 0 {
		t.Error(errs)
	}
	if got, _ := json.Marshal(s.sent); string(got) != `{"a":{"b":1,"c":2}}` {
		t.Errorf("sent %s", got)
	}
	s.status, s.answer = 412, problem.New(412, "version_mismatch", "the state has another version")
	if code, _, errs := runCLI(t, srv, "state", "set", "pump-7", "a=1", "--version", "3"); code != exitFailed || !strings.Contains(errs, "version_mismatch") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
