package devices_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// TestPythonDevice connects a device that shares no code with the hub: Debian's python3-websockets, speaking from the
// protocol's page.
func TestPythonDevice(t *testing.T) {
	h := startHub(t)
	token := h.device("python-1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "testdata/device.py", h.url, token)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; apt-get install python3-websockets", err)
	}
	lines := bufio.NewScanner(out)
	want := func(line string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != line {
			t.Fatalf("got %q, want %q", lines.Text(), line)
		}
	}
	want("ready")
	if _, err := h.registry.Deliver(ctx, "python-1", wire.Command{ID: "c1", Name: "set_interval", Params: json.RawMessage(`{"s":1}`), Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	want("acked 100 answered ['c1']")
	if rec, _ := h.records.Record("python-1"); rec.Model != "python" {
		t.Fatalf("record %+v", rec)
	}
	if got := h.commands.all(); len(got) != 1 || string(got[0].Result) != `{"echo": {"s": 1}}` {
		t.Fatalf("answers %+v", got)
	}
	if _, err := h.records.Update(ctx, "python-1", 0, func(r *devices.Record) (bool, error) { r.Disabled = true; return true, nil }); err != nil {
		t.Fatal(err)
	}
	want("bye 4501")
	want("closed 4501")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}
