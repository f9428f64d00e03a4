package main

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func TestJobsCreateSendsWhatWasAsked(t *testing.T) {
	s := &script{status: 201, answer: api.Job{ID: "J1", State: "running", Total: 3, Command: api.JobCommand{Name: "set"}, Counts: map[string]int{"pending": 3}}}
	srv := httptest.NewTLSServer(s)
	defer srv.Close()
	code, out, errs := runCLI(t, srv, "jobs", "create", "set", "n=5", "s=x", "-l", "site=a", "--per-minute", "60", "--growth", "1.5",
		"--abort-percent", "10", "--abort-after", "20", "--concurrency", "7", "--ttl", "1h", "--priority", "9", "--attempts", "3", "--retry-delay", "5s")
	if code != 0 || !strings.Contains(out, "J1  set   running  0 of 3 devices") || !strings.Contains(out, "pending  3") {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	want := "map[abort_if:map[after:20 failed_percent:10] command:map[name:set params:map[n:5 s:x] priority:9 retry:map[attempts:3 delay:5s] ttl:1h] " +
		"concurrency:7 rollout:map[growth:1.5 per_minute:60] selector:site=a]"
	if got := fmt.Sprint(s.sent); got != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
	if s.request.Header.Get("Idempotency-Key") == "" {
		t.Error("a repeated request would make a second job")
	}
	for _, args := range [][]string{{"jobs", "create"}, {"jobs", "create", "set", "novalue"}, {"jobs", "create", "set", "--at", "soon"}, {"jobs", "pause"}} {
		if code, _, _ := runCLI(t, srv, args...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
	if code, _, _ := runCLI(t, srv, "jobs", "pause", "J1"); code != 0 || s.request.URL.Path != "/api/v1/jobs/J1/pause" {
		t.Errorf("pause: %d %s", code, s.request.URL.Path)
	}
}
