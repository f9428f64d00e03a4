package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// simulate runs the command and returns its output and error.
func simulate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	t.Setenv("FAIRLEAD_TOKEN", "")
	cmd := newSimCommand()
	var out, logs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&logs)
	cmd.SetArgs(append([]string{}, args...)) // not nil: cobra would take the arguments of the test
	err := cmd.ExecuteContext(t.Context())
	return out.String() + logs.String(), err
}

func TestSimCommandTellsWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.csv")
	if err := os.WriteFile(bad, []byte("when,value\n1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub := []string{"--url", "https://127.0.0.1:1", "--operator-token", "t"}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "no hub: give --url, or --ready-file of a running hub"},
		{[]string{"--url", "https://127.0.0.1:1"}, "no tokens: give --operator-token"},
		{[]string{"--url", "127.0.0.1:1"}, "hub url"},
		{[]string{"--devices", "0"}, "nothing to simulate"},
		{[]string{"--plugs", "1"}, "no broker for the plugs: give --mqtt"},
		{append(hub, "--codec", "xml"), `--codec "xml": want json or cbor`},
		{append(hub, "--faults", "refuse=5"), `faults: refuse: "5" is not a share; want 0% to 100%`},
		{append(hub, "--model", "submarine"), `model "submarine" is not known; there are thermostat, pump, meter, tracker`},
		{append(hub, "--rate", "0"), "a rate of 0 points a second"},
		{append(hub, "--replay", bad), `bad.csv: header: the first column is "when", want timestamp, time or ts`},
		{append(hub, "--replay", "a.csv", "--replay", "b.csv", "--device", "x"), "--device names one device"},
		{append(hub, "--replay", bad, "--speed", "warp"), `speed "warp": want a factor such as 60, or max`},
		{append(hub, "--ca", filepath.Join(dir, "none.pem")), "ca file: open"},
		{[]string{"--ready-file", bad}, "ready file"},
		{[]string{"--url", "https://127.0.0.1:1", "--tokens", bad}, "tokens: line 1 has 1 words, want a device id and its token"},
	} {
		if _, err := simulate(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v:\n got %v\nwant %s", tt.args, err, tt.want)
		}
	}
}

// A secret that came out empty, as of a command that failed, is a mistake: devices with minted tokens are not what was
// asked for.
func TestSimCommandRefusesAnEmptySecret(t *testing.T) {
	hub := []string{"--url", "https://127.0.0.1:1", "--operator-token", "t", "--duration", "1ms"}
	_, err := simulate(t, append(hub, "--enroll", "")...)
	if exit := (*exitError)(nil); !errors.As(err, &exit) || exit.code != exitUsage || !strings.HasPrefix(err.Error(), "--enroll: the secret is empty") {
		t.Errorf("got %v, want a usage error that names the flag", err)
	}
	if _, err := simulate(t, hub...); err != nil {
		t.Errorf("without the flag: %v", err)
	}
}

// A ready file says it all: the fleet runs, finds no hub at that port, and ends after its time with a summary.
func TestSimCommandTakesReadyFile(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready.json")
	if err := os.WriteFile(ready, []byte(`{"url":"https://127.0.0.1:1","admin_token":"t","mqtt_url":"tcp://127.0.0.1:1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := simulate(t, "--ready-file", ready, "--devices", "2", "--plugs", "1", "--duration", "300ms")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "devices=2 sent=0 acked=0 unacked=0") || !strings.Contains(out, "connection refused") {
		t.Errorf("printed %s", out)
	}
}
