package main_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// loopback is a configuration that takes no fixed port. Log lines of level debug tell most when a test fails.
const loopback = `
listen: 127.0.0.1:0
node: e2e
admin: {listen: "127.0.0.1:0"}
influx: {embedded_listen: "127.0.0.1:0"}
bridge:
  broker: {listen: "127.0.0.1:0"}
  connections:
    - {name: embedded, url: embedded, profiles: [tasmota]}
devices: {drain_for: 500ms}
ingest: {tags: [site]}
`

// ready is the ready file, as its readers know it.
type ready struct {
	URL          string `json:"url"`
	CAFile       string `json:"ca_file"`
	AdminToken   string `json:"admin_token"`
	InfluxURL    string `json:"influx_url"`
	InfluxToken  string `json:"influx_token"`
	InfluxOrg    string `json:"influx_org"`
	InfluxBucket string `json:"influx_bucket"`
	MQTTURL      string `json:"mqtt_url"`
	MQTTUsername string `json:"mqtt_username"`
	MQTTPassword string `json:"mqtt_password"`
	AdminURL     string `json:"admin_url"`
	DataDir      string `json:"data_dir"`
	PID          int    `json:"pid"`
	Version      string `json:"version"`
}

// hub is a running `fairlead serve` and its data directory.
type hub struct {
	*process
	ready

	t      testing.TB
	dir    string // holds configuration, data and ready file
	listen string // kept over restarts
}

// serve starts a hub and waits until it is ready.
func serve(t testing.TB, config string) *hub {
	t.Helper()
	h := &hub{t: t, dir: t.TempDir(), listen: "127.0.0.1:0"}
	h.configure(config)
	h.start()
	return h
}

func (h *hub) file(name string) string { return filepath.Join(h.dir, name) }

// configure sets the configuration that the next start reads.
func (h *hub) configure(config string) {
	h.t.Helper()
	if err := os.WriteFile(h.file("fairlead.yaml"), []byte(config), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// command is the start of the hub with more arguments.
func (h *hub) command(more ...string) *exec.Cmd {
	return exec.Command(binary, append([]string{
		"serve", "--config", h.file("fairlead.yaml"), "--data", h.file("data"), "--listen", h.listen, "--ready-file", h.file("ready.json"),
	}, more...)...)
}

// start starts the hub, for the first time or again on the same address and data.
func (h *hub) start() {
	h.t.Helper()
	if err := os.RemoveAll(h.file("ready.json")); err != nil {
		h.t.Fatal(err)
	}
	h.process = start(h.t, "fairlead serve", h.command())
	h.ready = awaitReady(h.t, h.process, h.file("ready.json"))
	_, h.listen, _ = strings.Cut(h.URL, "://")
}

// awaitReady waits for the ready file of a hub.
func awaitReady(t testing.TB, p *process, file string) (r ready) {
	t.Helper()
	for deadline := time.Now().Add(startBound); ; time.Sleep(pollEvery) {
		raw, err := os.ReadFile(file)
		if err == nil {
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatalf("ready file: %v\n%s", err, raw)
			}
			return r
		}
		if p.ended() {
			t.Fatalf("%s ended at its start with code %d", p.name, p.wait())
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready after %s", p.name, startBound)
		}
	}
}

// stop ends the hub as an operator does; it must end well.
func (h *hub) stop() {
	h.t.Helper()
	h.signal(syscall.SIGTERM)
	if code := h.wait(); code != 0 {
		h.t.Errorf("exit code %d after SIGTERM", code)
	}
}

// kill ends the hub as a crash does.
func (h *hub) kill() {
	h.t.Helper()
	h.signal(syscall.SIGKILL)
	h.wait()
}

// deviceURL is where devices connect.
func (h *hub) deviceURL() string {
	return strings.Replace(h.URL, "http", "ws", 1) + "/v1/device"
}

// mqttPort is the port of the broker that the hub bridges, and how to log in there.
func (h *hub) mqtt() (port string, login []string) {
	h.t.Helper()
	u, err := url.Parse(h.MQTTURL)
	if err != nil || u.Port() == "" {
		h.t.Fatalf("mqtt_url %q: %v", h.MQTTURL, err)
	}
	if h.MQTTUsername != "" {
		login = []string{"-u", h.MQTTUsername, "-P", h.MQTTPassword}
	}
	return u.Port(), login
}

// String names the hub in messages.
func (h *hub) String() string { return fmt.Sprintf("hub %d at %s", h.PID, h.URL) }
