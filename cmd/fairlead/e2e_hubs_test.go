package main_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// nodes starts hubs that share a NATS server, an InfluxDB and their keys, one after the other.
func nodes(t *testing.T, nats string, names ...string) (all []*hub) {
	t.Helper()
	db := influxtest.Start(t, influxtest.Options{})
	keys := t.TempDir()
	for _, name := range names {
		all = append(all, serve(t, fmt.Sprintf(`
node: %s
admin: {listen: "127.0.0.1:0"}
nats: {urls: [%q]}
influx: {url: %q, token: %q}
auth: {keys_dir: %q}
bridge: {broker: {listen: ""}}
devices: {drain_for: 500ms}
ingest: {tags: [site]}
`, name, nats, db.URL, db.Token, keys)))
	}
	return all
}

// addEverywhere makes a device at the first hub, and waits until the others know it.
func addEverywhere(t *testing.T, id string, all ...*hub) (token string) {
	t.Helper()
	token = all[0].addDevice(t, id, "plant-1")
	for _, h := range all[1:] {
		until(t, id+" known everywhere", func() bool {
			_, known := h.device(t, id)
			return known
		})
	}
	return token
}

func (h *hub) wantStatus(id, status, cause string) {
	h.t.Helper()
	until(h.t, fmt.Sprintf("%s %s by %s at %s", id, status, cause, h), func() bool {
		d, _ := h.device(h.t, id)
		return d.Status == status && d.Cause == cause
	})
}

func (l *link) obey(c frame) {
	l.t.Helper()
	l.say(map[string]any{"type": "accept", "id": c.ID})
	l.say(map[string]any{"type": "result", "id": c.ID, "ok": true, "result": map[string]any{}})
	if a := l.next("ack"); a.ID != c.ID {
		l.t.Errorf("ack of the answer: %+v", a)
	}
}

// wantDone compares how a command ended, and that it did so once.
func wantDone(t *testing.T, c command, states string) {
	t.Helper()
	if c.State != "succeeded" || c.states() != states {
		t.Errorf("command ended as %s by %s, want %s", c.State, c.states(), states)
	}
}

func TestHubsOnOneBusAreOne(t *testing.T) {
	t.Parallel()
	both := nodes(t, natsServer(t), "a", "b")
	a, b := both[0], both[1]

	// What is made at one hub is good at the other: the device, its token, the operator's token.
	token := addEverywhere(t, "pump-1", a, b)
	d := b.connect(t, "pump-1", token, jsonFrames)
	a.wantStatus("pump-1", "online", "connected")
	operator := b.ready
	operator.AdminToken = a.AdminToken
	if _, known := operator.device(t, "pump-1"); !known {
		t.Error("the operator of one hub is nobody at the other")
	}

	// The device is at one hub, the writer to InfluxDB at the other.
	at := time.Now().Add(-time.Minute).UnixMilli()
	d.text(fmt.Sprintf(`{"type":"telemetry","seq":1,"points":[{"measurement":"env","time":%d,"fields":{"n":1}}]}`, at))
	d.wantAck(1)
	a.wantRows(t, "SELECT n, site FROM env WHERE device = 'pump-1'", fmt.Sprintf("%d 1 plant-1", at*1e6))

	// The operator is at one hub, the device at the other.
	done := a.sending(t, "pump-1", "set_interval", map[string]any{"seconds": 10})
	d.obey(d.next("command"))
	wantDone(t, <-done, "queued sent delivered succeeded")

	// The same device again, at the other hub: the newest wins.
	second := a.connect(t, "pump-1", token, jsonFrames)
	d.wantClose(4500)
	done = b.sending(t, "pump-1", "set_interval", map[string]any{"seconds": 20})
	second.obey(second.next("command"))
	wantDone(t, <-done, "queued sent delivered succeeded")

	// Disabled at one hub, closed at the other.
	b.wantStatus("pump-1", "online", "connected")
	if status := b.ask(t, "PATCH", "/devices/pump-1", map[string]any{"disabled": true}, nil); status != http.StatusOK {
		t.Errorf("disable: %d", status)
	}
	second.wantClose(4501)
	b.wantStatus("pump-1", "offline", "revoked")
	a.stop()
	b.stop()
}

func TestKilledHubLeavesItsWorkToTheOther(t *testing.T) {
	t.Parallel()
	both := nodes(t, natsServer(t), "a", "b")
	a, b := both[0], both[1] // a was first: it writes to InfluxDB
	moves, stays := addEverywhere(t, "moves", a, b), addEverywhere(t, "stays", a, b)
	d := a.connect(t, "moves", moves, jsonFrames)
	a.connect(t, "stays", stays, jsonFrames)
	b.wantStatus("moves", "online", "connected")
	b.wantStatus("stays", "online", "connected")

	// The hub dies with a command in the device's hands, and one more behind it.
	first := b.sending(t, "moves", "set_interval", map[string]any{"seconds": 10})
	c := d.next("command")
	d.say(map[string]any{"type": "telemetry", "seq": 1, "fields": map[string]any{"n": 1}})
	d.wantAck(1)
	a.kill()
	second := b.sending(t, "moves", "set_interval", map[string]any{"seconds": 20})

	// The device comes back at the other hub. What it has not accepted comes again by the same id, and first.
	d = b.connect(t, "moves", moves, jsonFrames)
	again := d.next("command")
	if again.ID != c.ID || again.Attempt <= c.Attempt {
		t.Errorf("after the hub died: %+v, before %+v", again, c)
	}
	behind := d.next("command") // may come before the first is answered, and next would pass it over
	d.obey(again)
	d.obey(behind)
	wantDone(t, <-first, "queued sent delivered succeeded")
	wantDone(t, <-second, "queued sent delivered succeeded")
	b.wantStatus("moves", "online", "connected")

	// What the dead hub acknowledged is written by the other, and who does not come back is off line.
	d.say(map[string]any{"type": "telemetry", "seq": 1, "fields": map[string]any{"n": 2}})
	d.wantAck(1)
	until(t, "both points of moves", func() bool { return len(b.rows(t, "SELECT n FROM telemetry WHERE device = 'moves'")) == 2 })
	b.wantStatus("stays", "offline", "node_lost")
	b.stop()
}
