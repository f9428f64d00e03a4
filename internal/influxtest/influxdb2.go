//go:build influxdb2

package influxtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
)

// V2 reports whether the server is one of 2.x.
const V2 = true

// Org is the organization of a Server, as a hub's default is.
const Org = "fairlead"

// setupToken is what the operator's token is set to.
const setupToken = "fairlead-test-operator" //nolint:gosec // of servers that end with their test

// Path finds influxd.
func Path() (string, error) { return find("influxd2", "make influxdb2 builds it, 2.8.0") }

func (s *Server) command() (*exec.Cmd, error) {
	path, err := Path()
	if err != nil {
		return nil, err
	}
	return exec.Command(path, "--reporting-disabled", "--log-level", "warn", "--http-bind-address", strings.TrimPrefix(s.URL, "http://"),
		"--bolt-path", s.file("influxd.bolt"), "--sqlite-path", s.file("influxd.sqlite"), "--engine-path", s.file("engine")), nil
}

// provision makes the user, the organization and the bucket.
func (s *Server) provision() {
	s.tb.Helper()
	s.MustCall(http.MethodPost, "/api/v2/setup", map[string]any{
		"username": User, "password": Password, "org": Org, "bucket": "unused", "token": setupToken,
	}, nil)
	s.Token = setupToken
	rule := map[string]any{"type": "expire", "everySeconds": int64(s.opt.Retention.Seconds())}
	if s.opt.Retention > 0 {
		rule["shardGroupDurationSeconds"] = 3600
	}
	s.MustCall(http.MethodPost, "/api/v2/buckets", map[string]any{"orgID": s.OrgID(), "name": s.Database, "retentionRules": []any{rule}}, nil)
}

// OrgID is the id of Org.
func (s *Server) OrgID() string {
	s.tb.Helper()
	var found struct{ Orgs []struct{ ID string } }
	s.MustCall(http.MethodGet, "/api/v2/orgs?org="+Org, nil, &found)
	return found.Orgs[0].ID
}

// MustCall asks the management API as the operator, and fails the test if that does not work; body and into may be nil.
func (s *Server) MustCall(method, path string, body, into any) {
	s.tb.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		s.tb.Fatal(err)
	}
	req, err := http.NewRequest(method, s.URL+path, bytes.NewReader(raw))
	if err != nil {
		s.tb.Fatal(err)
	}
	s.Authorize(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("answer %s: %s", res.Status, text)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		s.tb.Fatalf("%s %s: %v", method, path, err)
	}
}
