//go:build !influxdb2

package influxtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// V2 reports whether the server is one of 2.x.
const V2 = false

// Path finds influxd.
func Path() (string, error) { return find("influxd", "make check installs it, 1.8.10") }

// command writes the configuration and returns how the server is started.
func (s *Server) command() (*exec.Cmd, error) {
	path, err := Path()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`reporting-disabled = true
bind-address = %q
[meta]
  dir = %q
[data]
  dir = %q
  wal-dir = %q
  query-log-enabled = false
[http]
  bind-address = %q
  log-enabled = false
  auth-enabled = %t
[monitor]
  store-enabled = false
`, s.rpc, s.file("meta"), s.file("data"), s.file("wal"), strings.TrimPrefix(s.URL, "http://"), s.opt.Auth)
	if err := os.WriteFile(s.file("influxd.conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return exec.Command(path, "run", "-config", s.file("influxd.conf")), nil
}

// provision makes the user and the database.
func (s *Server) provision() {
	s.tb.Helper()
	if s.opt.Auth {
		s.Token = User + ":" + Password
		s.MustQuery(fmt.Sprintf("CREATE USER %s WITH PASSWORD '%s' WITH ALL PRIVILEGES", User, Password))
	}
	q := fmt.Sprintf("CREATE DATABASE %q", s.Database)
	if s.opt.Retention > 0 {
		q += fmt.Sprintf(" WITH DURATION %ds SHARD DURATION 1h", int64(s.opt.Retention.Seconds()))
	}
	s.MustQuery(q)
}
