package main_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// twoNodes are two hubs, each in its own process, that share a nats-server and their signing keys.
func twoNodes(t *testing.T) [2]*hub {
	t.Helper()
	keys, bus := t.TempDir(), natsServer(t)
	var nodes [2]*hub
	for i := range nodes {
		nodes[i] = serve(t, fmt.Sprintf(`
node: n%d
admin: {listen: "127.0.0.1:0"}
influx: {embedded_listen: "127.0.0.1:0"}
auth: {keys_dir: %q}
nats: {urls: [%q]}
bridge: {broker: {listen: ""}, connections: []}
devices: {drain_for: 500ms, flap_limit: 3}
`, i+1, keys, bus))
	}
	return nodes
}

// everywhere waits until both nodes say the same of a device.
func everywhere(t *testing.T, nodes [2]*hub, what, id string, is func(device) bool) {
	t.Helper()
	for _, h := range nodes {
		until(t, what, func() bool {
			d, known := h.device(t, id)
			return known && is(d)
		})
	}
}

// One device and two nodes: presence is right on both throughout, whatever the device does.
func TestDeviceBetweenNodes(t *testing.T) {
	t.Parallel()
	nodes := twoNodes(t)
	token := nodes[0].addDevice(t, "pump-7", "plant-1")
	everywhere(t, nodes, "the record is everywhere", "pump-7", func(device) bool { return true })
	first := nodes[0].connect(t, "pump-7", token, jsonFrames)
	everywhere(t, nodes, "it is at the first node", "pump-7", func(d device) bool { return d.Status == "online" && d.Node == "n1" })
	second := nodes[1].connect(t, "pump-7", token, jsonFrames)
	first.wantClose(4500)
	at := second.ws.LocalAddr().(*net.TCPAddr).String()
	everywhere(t, nodes, "it is at the second node, and what the first still says does not count", "pump-7", func(d device) bool {
		return d.Status == "online" && d.Node == "n2" && d.Address == at && !d.Conflict
	})
	for i, h := range nodes {
		until(t, "both nodes know of both", func() bool {
			l := h.nodes(t)
			return len(l) == 2 && l[i].Self && !l[1-i].Self && l[0].Name == "n1" && l[0].Sessions == 0 && l[1].Name == "n2" && l[1].Sessions == 1
		})
	}

	// It should send, and does not.
	if status := nodes[0].ask(t, "PATCH", "/devices/pump-7", map[string]any{"expect_every": "1s"}, nil); status != http.StatusOK {
		t.Fatalf("PATCH: %d", status)
	}
	everywhere(t, nodes, "it is silent", "pump-7", func(d device) bool { return d.Silent && d.Status == "online" })
	var list struct{ Devices []device }
	if nodes[0].ask(t, "GET", "/devices?silent=true", nil, &list); len(list.Devices) != 1 || list.Devices[0].ID != "pump-7" {
		t.Errorf("silent: %+v", list)
	}
	second.say(map[string]any{"type": "telemetry", "seq": 1, "fields": map[string]any{"rpm": 1200}})
	second.wantAck(1)
	if status := nodes[0].ask(t, "PATCH", "/devices/pump-7", map[string]any{"expect_every": "1h"}, nil); status != http.StatusOK {
		t.Fatalf("PATCH: %d", status)
	}
	everywhere(t, nodes, "it has spoken", "pump-7", func(d device) bool { return !d.Silent })

	// It is revoked at the node that it is not at.
	asked := time.Now()
	if status := nodes[0].ask(t, "DELETE", "/devices/pump-7/tokens", nil, nil); status != http.StatusNoContent {
		t.Fatalf("DELETE tokens: %d", status)
	}
	second.wantClose(4501)
	t.Logf("closed at the other node %s after the revocation was asked for", time.Since(asked).Round(time.Millisecond))
	everywhere(t, nodes, "it is off line", "pump-7", func(d device) bool { return d.Status == "offline" && d.Cause == "revoked" })
}

// Two devices with one identity, one at each node, replace each other until somebody hears of it.
func TestOneIdentityAtTwoNodes(t *testing.T) {
	t.Parallel()
	nodes := twoNodes(t)
	token := nodes[0].addDevice(t, "pump-7", "plant-1")
	everywhere(t, nodes, "the record is everywhere", "pump-7", func(device) bool { return true })
	for i := 0; ; i++ {
		h := nodes[i%2]
		ws, res, err := h.dial(t, token, jsonFrames, nil)
		if err != nil {
			if res == nil || res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
				t.Fatalf("connect %d: %v%s", i, err, refusal(res))
			}
			t.Logf("put off at connect %d, for %s s", i+1, res.Header.Get("Retry-After"))
			break
		}
		if i > 10 {
			t.Fatal("nobody minds")
		}
		defer ws.Close()
		session := (&link{t, ws}).next("welcome").Session
		everywhere(t, nodes, "the newest is known", "pump-7", func(d device) bool { return d.Session == session })
	}
	everywhere(t, nodes, "the conflict is known", "pump-7", func(d device) bool { return d.Conflict && d.Flaps > 3 && d.Status == "online" })
	var audit struct {
		Records []struct{ Action, Target, Actor string }
	}
	until(t, "it is in the audit log", func() bool {
		nodes[0].ask(t, "GET", "/audit", nil, &audit)
		found := 0
		for _, r := range audit.Records {
			if r.Action == "identity_conflict" && r.Target == "pump-7" && r.Actor == "hub" {
				found++
			}
		}
		return found == 1
	})
}

// node is a line of the list of nodes.
type node struct {
	Name, Version string
	Self          bool
	Seen, Started int64
	Sessions      int
}

func (r ready) nodes(t testing.TB) (list []node) {
	t.Helper()
	var answer struct{ Nodes []node }
	if status := r.ask(t, "GET", "/nodes", nil, &answer); status != 200 {
		t.Fatalf("GET /nodes: %d", status)
	}
	return answer.Nodes
}

// TestOneNodeListsItself: a hub alone is a cluster of one.
func TestOneNodeListsItself(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	if l := h.nodes(t); len(l) != 1 || l[0].Name == "" || !l[0].Self || l[0].Sessions != 0 || l[0].Version == "" || l[0].Seen < l[0].Started || l[0].Started == 0 {
		t.Errorf("%+v", l)
	}
	h.connect(t, "pump-7", h.addDevice(t, "pump-7", "plant-1"), jsonFrames)
	until(t, "its session is counted", func() bool { return h.nodes(t)[0].Sessions == 1 })
}
