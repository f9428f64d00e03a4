// Package influxtest runs a real influxd for the tests of every package that writes to InfluxDB or stands in for it: 1.8, or
// with the build tag influxdb2 one of 2.x.
package influxtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The credentials of a Server with Auth. In a v2 client of 1.8 they are the token "admin:fairlead-test".
const (
	User     = "admin"
	Password = "fairlead-test"
)

const (
	startTries   = 3
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
	pollEvery    = 20 * time.Millisecond
)

// Options change the server from an open one with the database "telemetry".
type Options struct {
	Auth      bool          // require User and Password; 2.x always requires its Token
	Database  string        // made at the start, in 2.x a bucket; "telemetry" if empty
	Retention time.Duration // how long the database keeps points, in shards of an hour; 0: for ever
}

// Server is one influxd with its own directory, on loopback ports that it keeps across Restart.
type Server struct {
	URL      string // without a slash at its end
	Token    string // "user:password", or "" without Auth; in 2.x one that may do all
	Database string
	Dir      string

	tb  testing.TB
	opt Options
	rpc string // a second address, that 1.8 listens on

	mu   sync.Mutex // guards what follows
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	log  *os.File
}

// Start runs influxd until the test ends. It fails the test if influxd is not installed.
func Start(tb testing.TB, opts ...Options) *Server {
	tb.Helper()
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	if o.Database == "" {
		o.Database = "telemetry"
	}
	s := &Server{tb: tb, opt: o, Database: o.Database, Dir: tb.TempDir()}
	tb.Cleanup(s.Kill)
	s.startAnywhere()
	s.provision()
	return s
}

// startAnywhere takes other ports if somebody was faster on the ones that were free.
func (s *Server) startAnywhere() {
	s.tb.Helper()
	var err error
	for range startTries {
		addrs := freeAddrs(s.tb, 2)
		s.URL, s.rpc = "http://"+addrs[0], addrs[1]
		if err = s.run(); err == nil {
			return
		}
		s.Kill()
		if !strings.Contains(s.Log(), "address already in use") {
			break
		}
	}
	s.tb.Fatal(err)
}

// find finds a program in PATH or where "go install" puts it.
func find(name, hint string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	out, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOPATH: %w", err)
	}
	p := filepath.Join(strings.TrimSpace(string(out)), "bin", name)
	if _, err := os.Stat(p); err != nil {
		return "", fmt.Errorf("%s is neither in PATH nor in $(go env GOPATH)/bin: %s", name, hint)
	}
	return p, nil
}

func (s *Server) file(name string) string { return filepath.Join(s.Dir, name) }

// run starts the process and waits until it answers.
func (s *Server) run() error {
	cmd, err := s.command()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.file("influxd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	done := make(chan struct{})
	go func() { // ends with the process, which Stop and Kill wait for
		defer close(done)
		_ = cmd.Wait()
	}()
	s.mu.Lock()
	s.cmd, s.done, s.log = cmd, done, log
	s.mu.Unlock()
	return s.awaitPing(done)
}

func (s *Server) awaitPing(done <-chan struct{}) error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		res, err := http.Get(s.URL + "/ping")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusNoContent {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-done:
			return fmt.Errorf("influxd ended at its start:\n%s", s.Log())
		case <-deadline.C:
			return fmt.Errorf("influxd did not answer in %s:\n%s", startTimeout, s.Log())
		}
	}
}

// PID is the process id, 0 when stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Stop ends influxd as an operator would and waits for it.
func (s *Server) Stop() { s.end(os.Interrupt) }

// Kill ends influxd at once, as a crash would, and waits for it. On a stopped server it does nothing.
func (s *Server) Kill() { s.end(os.Kill) }

func (s *Server) end(sig os.Signal) {
	s.tb.Helper()
	s.mu.Lock()
	cmd, done, log := s.cmd, s.done, s.log
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.tb.Errorf("signal influxd: %v", err)
	}
	select {
	case <-done:
	case <-time.After(stopTimeout):
		s.tb.Errorf("influxd did not end in %s after %s", stopTimeout, sig)
		_ = cmd.Process.Kill()
		<-done
	}
	log.Close()
}

// Restart starts a stopped or killed influxd again, on the same address and data.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	if err := s.run(); err != nil {
		s.tb.Fatal(err)
	}
}

// Log is what influxd has printed.
func (s *Server) Log() string {
	data, err := os.ReadFile(s.file("influxd.log"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Authorize adds the server's credentials to a request.
func (s *Server) Authorize(r *http.Request) {
	if s.Token != "" {
		r.Header.Set("Authorization", "Token "+s.Token)
	}
}

// Series is one series of a query's result.
type Series struct {
	Name    string            `json:"name"`
	Tags    map[string]string `json:"tags"`
	Columns []string          `json:"columns"`
	Values  [][]any           `json:"values"`
}

// Query runs InfluxQL on the server's database, with times in nanoseconds, and returns the series of all statements.
// Numbers are json.Number, so that no digit is lost.
func (s *Server) Query(ctx context.Context, q string) ([]Series, error) {
	form := url.Values{"db": {s.Database}, "q": {q}, "epoch": {"ns"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/query", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.Authorize(req)
	return Do(req)
}

// Do sends a /query request to any InfluxDB and reads its answer.
func Do(req *http.Request) ([]Series, error) {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var body struct {
		Error   string
		Message string // where 2.x says it
		Results []struct {
			Error  string
			Series []Series
		}
	}
	dec := json.NewDecoder(res.Body)
	dec.UseNumber()
	if err := dec.Decode(&body); err != nil {
		return nil, fmt.Errorf("answer %s: %w", res.Status, err)
	}
	if text := cmp.Or(body.Error, body.Message); text != "" {
		return nil, errors.New(text)
	}
	var all []Series
	for _, r := range body.Results {
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
		all = append(all, r.Series...)
	}
	return all, nil
}

// MustQuery is Query that fails the test.
func (s *Server) MustQuery(q string) []Series {
	s.tb.Helper()
	series, err := s.Query(context.Background(), q)
	if err != nil {
		s.tb.Fatalf("query %s: %v", q, err)
	}
	return series
}

// Count is the number of values of one field of a measurement.
func (s *Server) Count(measurement, field string) int64 {
	s.tb.Helper()
	return Total(s.tb, s.MustQuery(fmt.Sprintf("SELECT count(%q) FROM %q", field, measurement)))
}

// Total is the sum of the last column of a query's rows: of a count, the count over all series.
func Total(tb testing.TB, series []Series) int64 {
	tb.Helper()
	var n int64
	for _, row := range series {
		for _, v := range row.Values {
			c, err := v[len(v)-1].(json.Number).Int64()
			if err != nil {
				tb.Fatal(err)
			}
			n += c
		}
	}
	return n
}

// Write sends line protocol with times in nanoseconds and returns the status and body of the answer.
func (s *Server) Write(ctx context.Context, lines string) (int, string, error) {
	target := s.URL + "/write?db=" + url.QueryEscape(s.Database)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(lines))
	if err != nil {
		return 0, "", err
	}
	s.Authorize(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// freeAddrs finds loopback ports that nobody listens on; held together, so that they differ.
func freeAddrs(tb testing.TB, n int) []string {
	tb.Helper()
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs
}
