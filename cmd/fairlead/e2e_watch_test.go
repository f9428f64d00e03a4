package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// follower is a command that prints events as JSON until it is stopped.
type follower struct {
	*process
	lines chan map[string]any
}

// follow starts one against h.
func (h *hub) follow(args ...string) *follower {
	h.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(binary, append(args, "-o", "json")...)
	cmd.Env = append(os.Environ(), "FAIRLEAD_READY_FILE="+h.file("ready.json"))
	f := &follower{lines: make(chan map[string]any, 4096)}
	go func() { // ends with the command, whose pipe it reads
		defer close(f.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			var v map[string]any
			if json.Unmarshal(s.Bytes(), &v) == nil {
				f.lines <- v
			}
		}
	}()
	f.process = start(h.t, "fairlead "+strings.Join(args, " "), cmd, w)
	w.Close()
	return f
}

// next waits for an event that fits; while it waits, again is repeated.
func (f *follower) next(what string, again func(), fits func(map[string]any) bool) map[string]any {
	f.t.Helper()
	deadline := time.After(waitBound)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case v, more := <-f.lines:
			if !more {
				f.t.Fatalf("%s ended before %s", f.name, what)
			}
			if fits(v) {
				return v
			}
		case <-tick.C:
			again()
		case <-deadline:
			f.t.Fatalf("%s: no %s", f.name, what)
		}
	}
}

// twoHubs are two nodes on one NATS.
func twoHubs(t *testing.T) (a, b *hub) {
	t.Helper()
	url := natsServer(t)
	keys := t.TempDir()
	node := func(name string) *hub {
		return serve(t, strings.Replace(loopback, "node: e2e", "node: "+name, 1)+fmt.Sprintf("nats: {urls: [%q]}\nauth: {keys_dir: %q}\n", url, keys))
	}
	return node("a"), node("b")
}

// TestWatchingReachesTheNodeWithTheSocket: an operator is at one hub, the device at the other.
func TestWatchingReachesTheNodeWithTheSocket(t *testing.T) {
	t.Parallel()
	a, b := twoHubs(t)
	token := a.addDevice(t, "pump-7", "plant-1")
	until(t, "the other node knows the device", func() bool { return b.ask(t, "GET", "/devices/pump-7", nil, nil) == 200 })
	d := b.connect(t, "pump-7", token, jsonFrames)
	seq := uint64(0)
	send := func() {
		seq++
		d.text(fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"temp":%d}}`, seq, seq))
		d.wantAck(seq)
	}
	tail := a.follow("tail", "pump-7", "--events", "telemetry")
	tail.next("telemetry", send, func(e map[string]any) bool { return e["event"] == "telemetry" && e["device"] == "pump-7" })
	// Two at one hub and one at the other, all at once.
	for _, h := range []*hub{a, a, b} {
		trace := h.follow("trace", "pump-7")
		f := trace.next("stored frame", send, func(e map[string]any) bool { return e["fate"] == "stored" })
		if f["event"] != "trace" || f["direction"] != "in" || f["type"] != "telemetry" || f["bytes"].(float64) < 40 || !strings.Contains(f["frame"].(string), `"temp"`) {
			t.Errorf("%v", f)
		}
		trace.next("ack", send, func(e map[string]any) bool {
			return e["type"] == "ack" && e["direction"] == "out" && e["fate"] == "sent"
		})
	}
	// Who only asks sees what came since it began to.
	var asked struct {
		Frames []struct{ Direction, Fate, Type string }
	}
	until(t, "frames for who asks", func() bool {
		send()
		return a.ask(t, "GET", "/devices/pump-7/trace?limit=5", nil, &asked) == 200 && len(asked.Frames) == 5
	})
	if got := a.ask(t, "GET", "/devices/nobody/trace", nil, nil); got != 404 {
		t.Errorf("frames of nobody: %d", got)
	}
	// A command goes and its answer comes.
	trace := a.follow("trace", "pump-7")
	trace.next("any frame", send, func(map[string]any) bool { return true })
	a.ask(t, "POST", "/devices/pump-7/commands", map[string]any{"name": "set_interval", "params": map[string]any{"seconds": 5}}, nil)
	trace.next("command", func() {}, func(e map[string]any) bool {
		return e["type"] == "command" && e["direction"] == "out" && strings.Contains(e["frame"].(string), "set_interval")
	})
	// A frame that cannot be stored shows with the code that the device is told.
	seq++
	d.text(fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"temp":"warm"}}`, seq))
	trace.next("rejected frame", func() {}, func(e map[string]any) bool { return e["fate"] == "type_conflict" })
}

// TestWatchingNobodyIsSaid: silence about a device that is not there looks like a device that says nothing.
func TestWatchingNobodyIsSaid(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	h.addDevice(t, "pump-7", "plant-1")
	for _, args := range [][]string{{"tail", "pump-7", "nobody"}, {"trace", "nobody"}, {"devices", "show", "nobody"}, {"send", "nobody", "x"}} {
		code, out, said := h.fairlead("", args...)
		if code != 1 || out != "" || !strings.Contains(said, `no such device: `) || !strings.Contains(said, `"nobody"`) || !strings.Contains(said, "fairlead devices list") {
			t.Errorf("%v: %d %q %q", args, code, out, said)
		}
		if strings.Contains(said, "GET ") || strings.Contains(said, "/api/") {
			t.Errorf("%v speaks of calls: %q", args, said)
		}
	}
}
