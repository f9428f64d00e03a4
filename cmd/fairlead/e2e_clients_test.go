package main_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const clientsDir = "testdata/clients"

// installed fails the test if a package of npm is missing.
func installed(t *testing.T, module string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(clientsDir, "node_modules", module)); err != nil {
		t.Fatalf("%s is not installed: make check does it (npm ci in cmd/fairlead/%s)", module, clientsDir)
	}
}

// TestForeignDevices runs devices that were written from the protocol's page with nothing of this project. The hub dies
// while they send.
func TestForeignDevices(t *testing.T) {
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		foreignDevice(t, "python", "/usr/bin/python3", "device.py")
	})
	t.Run("node", func(t *testing.T) {
		t.Parallel()
		installed(t, "ws")
		foreignDevice(t, "node", "node", "device.mjs")
	})
}

func foreignDevice(t *testing.T, language, program, script string) {
	const readings = 600
	h := serve(t, loopback)
	begin := time.Now().Add(-time.Hour).UnixMilli()
	token := h.addDevice(t, "foreign", "plant-1")
	cmd := exec.Command(program, script, h.deviceURL(), h.CAFile, token, strconv.Itoa(readings), strconv.FormatInt(begin, 10))
	cmd.Dir = clientsDir
	p := start(t, script, cmd)
	until(t, script+" has some acks", func() bool {
		return p.ended() || strings.Count(p.stdout.String(), "acked") > 5
	})
	h.kill()
	h.start()

	if c := h.send(t, "foreign", "add", map[string]any{"a": 2, "b": 40.5}); c.State != "succeeded" ||
		c.states() != "queued sent delivered running succeeded" || !sameJSON(c.Result, `{"sum":42.5}`) {
		t.Errorf("add ended as %s by %s with %s", c.State, c.states(), c.Result)
	}
	until(t, "all readings are stored", func() bool {
		return p.ended() || strings.HasSuffix(strings.Join(h.rows(t, "SELECT count(n) FROM client"), ""), " "+strconv.Itoa(readings))
	})
	var p2 problem
	if status := h.ask(t, "POST", "/devices/foreign/commands", map[string]any{"name": "stop"}, &p2); status != http.StatusConflict {
		t.Errorf("a dangerous command without confirmation: %d %+v", status, p2)
	}
	if status := h.ask(t, "POST", "/devices/foreign/commands?wait=30s", map[string]any{"name": "stop", "confirm": "foreign"}, nil); status != http.StatusOK {
		t.Errorf("stop: %d", status)
	}
	if code := p.wait(); code != 0 {
		t.Fatalf("%s ended with code %d", script, code)
	}
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	var counts struct {
		Acked, Resent, Reconnects, Commands int
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &counts); err != nil {
		t.Fatalf("summary %q: %v", lines[len(lines)-1], err)
	}
	t.Logf("%s: %+v", script, counts)
	if counts.Acked != readings || counts.Reconnects == 0 || counts.Commands != 2 {
		t.Errorf("%s: %+v", script, counts)
	}
	want := make([]string, readings)
	for n := range want {
		want[n] = fmt.Sprintf("%d %v %v %v %s", (begin+int64(n))*1e6, n, float64(n)/2, n%2 == 0, language)
	}
	h.wantRows(t, "SELECT n, half, even, language FROM client WHERE device = 'foreign'", want...)
	h.stop()
}

// TestBrowserDevice opens a page as a device, from an origin that the configuration lists and from one that it does not.
func TestBrowserDevice(t *testing.T) {
	t.Parallel()
	installed(t, "playwright-core")
	page := http.FileServer(http.Dir(clientsDir))
	listed, other := httptest.NewServer(page), httptest.NewServer(page)
	t.Cleanup(listed.Close)
	t.Cleanup(other.Close)
	h := serve(t, loopback+fmt.Sprintf("auth: {origins: [%q]}\n", listed.URL))
	hash := "#" + url.Values{"hub": {h.deviceURL()}, "token": {h.addDevice(t, "page-1", "web")}}.Encode()
	cmd := exec.Command("node", "browser.mjs", chromium(t), h.keyHash(), listed.URL+"/page.html"+hash, other.URL+"/page.html"+hash)
	cmd.Dir = clientsDir
	code, stdout, _ := run(t, cmd)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 0 || len(lines) != 2 {
		t.Fatalf("exit code %d, said %q", code, stdout)
	}
	for i, want := range []string{
		`{"heard":["welcome","ack"],"code":1000,"protocol":"fairlead.v1.json"}`,
		`{"heard":[],"code":1006,"protocol":""}`,
	} {
		if lines[i] != want {
			t.Errorf("page %d:\n got %s\nwant %s", i, lines[i], want)
		}
	}
	if rows := h.rows(t, "SELECT lux FROM page"); len(rows) > 1 {
		t.Errorf("stored %q", rows)
	}
	until(t, "the page's reading is stored", func() bool {
		rows := h.rows(t, "SELECT lux FROM page WHERE device = 'page-1'")
		return len(rows) == 1 && strings.HasSuffix(rows[0], " 321.5")
	})
	h.stop()
}

// keyHash is the hash of the public key of the hub's certificate, as browsers take it.
func (h *hub) keyHash() string {
	h.t.Helper()
	conn, err := tls.Dial("tcp", h.listen, h.trust(h.t))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no chromium: make check installs it")
	return ""
}
