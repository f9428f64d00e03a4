package main_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestDemoStepsAside runs the demo while others have its ports, and does what it tells the newcomer to do.
func TestDemoStepsAside(t *testing.T) {
	t.Parallel()
	ports := map[string]string{"hub": "127.0.0.1:8443", "embedded InfluxDB": "127.0.0.1:8086", "MQTT broker": "127.0.0.1:1883", "admin": "127.0.0.1:8490"}
	for _, addr := range ports {
		ln, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue // somebody else has taken it for us
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
	}
	tmp := t.TempDir()
	ready := filepath.Join(tmp, "ready.json")
	cmd := exec.Command(binary, "demo", "--ready-file", ready)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	p := start(t, "fairlead demo", cmd)
	r := awaitReady(t, p, ready)

	until(t, "the demo tells what to try", func() bool { return strings.Contains(p.stdout.String(), "query pump-") })
	said := p.stdout.String()
	for name, addr := range ports {
		if !regexp.MustCompile(`(?m)^port \d+ is taken; the ` + name + ` is on 127\.0\.0\.1:\d+ instead of ` + addr + `$`).MatchString(said) {
			t.Errorf("the demo does not say where its %s is", name)
		}
	}
	if !strings.HasPrefix(r.DataDir, tmp) || !strings.Contains(said, r.DataDir+" (kept)") {
		t.Errorf("the demo does not name its data directory %s", r.DataDir)
	}
	until(t, "devices and plugs are stored", func() bool {
		return len(r.rows(t, "SHOW TAG VALUES FROM pump WITH KEY = device")) > 0 && len(r.rows(t, "SHOW TAG VALUES FROM ENERGY WITH KEY = device")) == 3
	})
	until(t, "28 devices are on line", func() bool {
		var list struct{ Devices []device }
		r.ask(t, "GET", "/devices?status=online", nil, &list)
		return len(list.Devices) == 28
	})
	t.Logf("memory with 25 devices and 3 plugs: %s", resident(t, p))
	signIn(t, r, said)

	_, commands, _ := strings.Cut(said, "Try, in another terminal:")
	script := strings.TrimSpace(commands)
	if strings.Count(script, "\n") != 3 {
		t.Fatalf("commands to try:\n%s", script)
	}
	code, out, _ := run(t, exec.Command("sh", "-ec", script))
	if code != 0 || !strings.Contains(out, "pump-2 ") || !strings.Contains(out, "succeeded") || !strings.Contains(out, "pump.flow") {
		t.Errorf("the commands to try ended with code %d:\n%s", code, out)
	}

	p.signal(os.Interrupt) // ctrl-c
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d after an interrupt", code)
	}
	if _, err := os.Stat(filepath.Join(r.DataDir, "ready.json")); err != nil {
		t.Errorf("the data directory is not kept: %v", err)
	}
}

// signIn opens the console by the printed link.
func signIn(t *testing.T, r ready, said string) {
	t.Helper()
	link := regexp.MustCompile(regexp.QuoteMeta(r.URL) + `/console/\S+`).FindString(said)
	page, _, _ := strings.Cut(link, "#")
	ctx, cancel := context.WithTimeout(t.Context(), waitBound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", page, nil)
	if err != nil {
		t.Fatalf("sign-in link %q: %v", link, err)
	}
	res, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: r.trust(t), DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		t.Errorf("console at %s: %s %s", page, res.Status, res.Header.Get("Content-Type"))
	}
}

// resident is how much memory a process has, where the system tells it.
func resident(t *testing.T, p *process) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(regexp.MustCompile(`(?m)^VmRSS:\s*(.*)$`).FindString(string(status)))
}
