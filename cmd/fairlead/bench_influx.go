package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// influxd is a real InfluxDB 1.8 beside the hub.
type influxd struct {
	url string
	cmd *exec.Cmd
	log *lastWords
}

// influxDatabase is the bucket that the hub writes to.
const influxDatabase = "telemetry"

// goTool finds a program in PATH, or where "go install" puts it.
func goTool(name, install string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	for _, dir := range []string{os.Getenv("GOBIN"), filepath.Join(os.Getenv("GOPATH"), "bin"), filepath.Join(home, "go", "bin"), "/usr/sbin"} {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); err == nil && filepath.IsAbs(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is neither in PATH nor in GOPATH/bin; %s", name, install)
}

// startInflux runs influxd in dir until stop.
func startInflux(ctx context.Context, dir string) (*influxd, error) {
	path, err := goTool("influxd", "go install github.com/influxdata/influxdb/cmd/influxd@v1.8.10")
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(2)
	if err != nil {
		return nil, fmt.Errorf("start influxd: %w", err)
	}
	conf := fmt.Sprintf("reporting-disabled = true\nbind-address = %q\n[meta]\ndir = %q\n[data]\ndir = %q\nwal-dir = %q\n"+
		"max-series-per-database = 0\nquery-log-enabled = false\n[http]\nbind-address = %q\nlog-enabled = false\n[monitor]\nstore-enabled = false\n",
		addrs[0], filepath.Join(dir, "meta"), filepath.Join(dir, "data"), filepath.Join(dir, "wal"), addrs[1])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start influxd: %w", err)
	}
	file := filepath.Join(dir, "influxd.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("start influxd: %w", err)
	}
	d := &influxd{url: "http://" + addrs[1], cmd: exec.Command(path, "run", "-config", file), log: &lastWords{}}
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	dieWithParent(d.cmd)
	return d, d.start(ctx)
}

// freeAddrs finds loopback ports that nobody listens on; held together, so that they differ.
func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addrs[i] = ln.Addr().String()
		defer ln.Close()
	}
	return addrs, nil
}

func (d *influxd) start(ctx context.Context) error {
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start influxd: %w", err)
	}
	for until := time.Now().Add(startTimeout); time.Now().Before(until) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(d.url + "/ping")
		if err != nil {
			continue
		}
		resp.Body.Close()
		_, err = d.query(ctx, "CREATE DATABASE "+influxDatabase)
		return err
	}
	return errors.Join(fmt.Errorf("influxd does not answer: %s", d.log), d.stop())
}

func (d *influxd) stop() error {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait() // says that it was killed
	return nil
}

// query runs InfluxQL and returns the last value of the first row.
func (d *influxd) query(ctx context.Context, q string) (int64, error) {
	form := url.Values{"db": {influxDatabase}, "q": {q}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/query", strings.NewReader(form.Encode()))
	if err != nil {
		return 0, fmt.Errorf("query influxd: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("query influxd: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Error   string
		Results []struct {
			Error  string
			Series []struct{ Values [][]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("query influxd: %w", err)
	}
	if len(answer.Results) == 0 || answer.Error != "" || answer.Results[0].Error != "" {
		return 0, fmt.Errorf("query influxd: %+v", answer)
	}
	if s := answer.Results[0].Series; len(s) > 0 && len(s[0].Values) > 0 {
		row := s[0].Values[0]
		n, _ := row[len(row)-1].(float64) // a count
		return int64(n), nil
	}
	return 0, nil
}

// count is how many points of the benchmark it holds.
func (d *influxd) count(ctx context.Context) (int64, error) {
	return d.query(ctx, "SELECT count(temp) FROM bench")
}

// written is how many points it has taken since it started. To ask costs it nothing, unlike a count.
func (d *influxd) written(ctx context.Context) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/debug/vars", nil)
	if err != nil {
		return 0, fmt.Errorf("ask influxd: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask influxd: %w", err)
	}
	defer resp.Body.Close()
	var vars map[string]json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&vars); err != nil {
		return 0, fmt.Errorf("ask influxd: %w", err)
	}
	for name, raw := range vars {
		if !strings.HasPrefix(name, "httpd:") {
			continue
		}
		var httpd struct {
			Values struct {
				PointsWrittenOK int64 `json:"pointsWrittenOK"`
			}
		}
		if err := json.Unmarshal(raw, &httpd); err != nil {
			return 0, fmt.Errorf("ask influxd: %w", err)
		}
		return httpd.Values.PointsWrittenOK, nil
	}
	return 0, errors.New("influxd does not say how much it has written")
}

// storedTime bounds how long InfluxDB may take for what was acknowledged.
const storedTime = 5 * time.Minute

// await waits until it has taken so many points since it started, and returns when it had.
func (d *influxd) await(ctx context.Context, want int64) (time.Time, error) {
	for until := time.Now().Add(storedTime); ; time.Sleep(5 * time.Millisecond) {
		n, err := d.written(ctx)
		if err != nil || n >= want {
			return time.Now(), err
		}
		if time.Now().After(until) {
			return until, fmt.Errorf("influxd took %d of %d points in %s", n, want, storedTime)
		}
	}
}
