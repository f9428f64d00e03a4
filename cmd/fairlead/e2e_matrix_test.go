package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// TestWholePath runs the same test with every part of the hub embedded or replaced by the real one: a device's telemetry
// is in InfluxDB value by value, an operator's command comes back answered, an MQTT plug is read and switched.
func TestWholePath(t *testing.T) {
	for _, influx := range []bool{false, true} {
		for _, broker := range []bool{false, true} {
			for _, nats := range []bool{false, true} {
				parts := outside{influx: influx, broker: broker, nats: nats}
				t.Run(parts.String(), func(t *testing.T) {
					t.Parallel()
					h := serve(t, parts.start(t))
					wholePath(t, h)
					h.stop()
				})
			}
		}
	}
}

// outside says which parts are not the embedded ones.
type outside struct{ influx, broker, nats bool }

// String names the combination.
func (o outside) String() string {
	name := func(real bool, outside, embedded string) string {
		if real {
			return outside
		}
		return embedded
	}
	return name(o.influx, "influxd", "embedded_store") + "/" + name(o.broker, "mosquitto", "embedded_broker") + "/" +
		name(o.nats, "nats_server", "embedded_bus")
}

// start starts the outside parts and returns the configuration of the hub that uses them.
func (o outside) start(t *testing.T) string {
	influx, broker, conn, nats := `embedded_listen: "127.0.0.1:0"`, "127.0.0.1:0", "name: embedded, url: embedded", ""
	if o.influx {
		db := influxtest.Start(t, influxtest.Options{Auth: true})
		influx = fmt.Sprintf("url: %q, token: %q, bucket: measured", db.URL, db.Token)
	}
	if o.broker {
		b := mosquittotest.Start(t, mosquittotest.Options{Username: "hub", Password: "not-the-default"})
		broker, conn = "", fmt.Sprintf("name: site, url: %q, username: hub, password: not-the-default", b.URL())
	}
	if o.nats {
		nats = fmt.Sprintf("urls: [%q]", natsServer(t))
	}
	return fmt.Sprintf(`
node: e2e
admin: {listen: "127.0.0.1:0"}
influx: {%s}
nats: {%s}
bridge:
  broker: {listen: %q}
  connections:
    - {%s, profiles: [tasmota]}
devices: {drain_for: 500ms}
ingest: {tags: [site]}
`, influx, nats, broker, conn)
}

// natsServer runs a nats-server with JetStream that syncs before it answers, and returns its URL.
func natsServer(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	conf := fmt.Sprintf("listen: \"127.0.0.1:-1\"\nports_file_dir: %q\njetstream {store_dir: %q, sync_interval: always}\n", dir, filepath.Join(dir, "store"))
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "nats-server", exec.Command(goTool(t, "nats-server"), "-c", file))
	var ports struct{ NATS []string }
	until(t, "nats-server tells its port", func() bool {
		if p.ended() {
			t.Fatalf("nats-server ended at its start with code %d", p.wait())
		}
		raw, err := os.ReadFile(filepath.Join(dir, "nats-server_"+strconv.Itoa(p.cmd.Process.Pid)+".ports"))
		return err == nil && json.Unmarshal(raw, &ports) == nil && len(ports.NATS) > 0
	})
	return ports.NATS[0]
}

func wholePath(t *testing.T, h *hub) {
	for protocol, id := range map[string]string{jsonFrames: "pump-7", cborFrames: "pump-8"} {
		d := h.connect(t, id, h.addDevice(t, id, "plant-1"), protocol)
		telemetryIsStored(t, h, d, id)
		commandComesBack(t, h, d, id)
	}
	plugIsReadAndSwitched(t, h)
}

// telemetryIsStored sends the three kinds of values in both forms of the frame, and one frame that must not be stored.
func telemetryIsStored(t *testing.T, h *hub, d *link, id string) {
	t.Helper()
	at := time.Now().Add(-time.Minute).UnixMilli()
	point := func(ms int64, temp any, door bool, note string) map[string]any {
		return map[string]any{
			"measurement": "env", "time": ms, "tags": map[string]any{"room": "b2"},
			"fields": map[string]any{"temp": temp, "door": door, "note": note},
		}
	}
	d.say(map[string]any{"type": "telemetry", "seq": 1, "points": []any{point(at, 21.5, true, "a b,c=\"d\""), point(at+1, 22, false, "ü")}})
	d.say(map[string]any{"type": "telemetry", "seq": 2, "points": []any{point(at+2, -0.125, true, "x")}})
	d.say(map[string]any{"type": "telemetry", "seq": 3, "points": []any{point(at+3, 1.0, true, "good"), map[string]any{
		"measurement": "env", "time": at + 4, "fields": map[string]any{"time": 1},
	}}})
	if r := d.next("reject"); r.Seq != 3 || r.Code != "invalid_field" {
		t.Errorf("reject: %+v", r)
	}
	d.say(map[string]any{"type": "telemetry", "seq": 4, "fields": map[string]any{"rpm": 1200}})
	d.wantAck(4)
	ns := func(ms int64) string { return strconv.FormatInt(ms*1e6, 10) }
	h.wantRows(t, "SELECT temp, door, note, room, site FROM env WHERE device = '"+id+"'",
		ns(at)+` 21.5 true a b,c="d" b2 plant-1`, ns(at+1)+" 22 false ü b2 plant-1", ns(at+2)+" -0.125 true x b2 plant-1")
	h.wantRows(t, "SELECT last(rpm) FROM telemetry WHERE device = '"+id+"' AND site = 'plant-1' GROUP BY site", lastTime(t, h, id)+" 1200")
	if n := len(h.rows(t, "SELECT temp FROM env WHERE device = 'nobody'")); n != 0 {
		t.Errorf("%d rows of a device that there is not", n)
	}
}

// lastTime is the time that the hub gave to the point that had none.
func lastTime(t *testing.T, h *hub, id string) string {
	t.Helper()
	var rows []string
	until(t, "rpm of "+id, func() bool {
		rows = h.rows(t, "SELECT rpm FROM telemetry WHERE device = '"+id+"'")
		return len(rows) > 0
	})
	at, _, _ := strings.Cut(rows[0], " ")
	ns, err := strconv.ParseInt(at, 10, 64)
	if err != nil || time.Since(time.Unix(0, ns)).Abs() > time.Minute {
		t.Errorf("time of a point without time: %s (%v)", at, err)
	}
	return at
}

// commandComesBack asks the device for something, as an operator does.
func commandComesBack(t *testing.T, h *hub, d *link, id string) {
	t.Helper()
	done := h.sending(t, id, "set_interval", map[string]any{"seconds": 10})
	c := d.next("command")
	if c.Name != "set_interval" || c.Attempt != 1 || fmt.Sprint(c.Params["seconds"]) != "10" {
		t.Errorf("command %+v", c)
	}
	d.say(map[string]any{"type": "accept", "id": c.ID})
	d.say(map[string]any{"type": "result", "id": c.ID, "ok": true, "result": map[string]any{"seconds": 10, "was": "ü"}})
	if a := d.next("ack"); a.ID != c.ID {
		t.Errorf("ack of the answer: %+v", a)
	}
	got := <-done
	if got.State != "succeeded" || got.states() != "queued sent delivered succeeded" || !sameJSON(got.Result, `{"seconds":10,"was":"ü"}`) {
		t.Errorf("command ended as %s by %s with %s", got.State, got.states(), got.Result)
	}
	var p problem
	body := map[string]any{"name": "set_interval", "params": map[string]any{"seconds": "ten"}}
	if status := h.ask(t, "POST", "/devices/"+id+"/commands", body, &p); status != 422 || p.Code != "invalid_params" {
		t.Errorf("parameters that do not fit: %d %+v", status, p)
	}
}

func sameJSON(a json.RawMessage, b string) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

// plugIsReadAndSwitched is a Tasmota plug made of mosquitto's clients.
func plugIsReadAndSwitched(t *testing.T, h *hub) {
	t.Helper()
	until(t, "the bridge is connected", func() bool {
		var b struct{ Connections []struct{ State string } }
		h.ask(t, "GET", "/bridge", nil, &b)
		return len(b.Connections) == 1 && b.Connections[0].State == "connected"
	})
	port, login := h.mqtt()
	pub := func(topic, payload string, more ...string) {
		t.Helper()
		if err := mosquittotest.PubTo(t, port, append(more, login...), topic, payload); err != nil {
			t.Fatal(err)
		}
	}
	orders := mosquittotest.SubTo(t, port, login, "cmnd/plug-1/+")
	pub("tele/plug-1/LWT", "Online", "-q", "1", "-r")
	at := time.Now().UTC().Add(-time.Minute).Truncate(time.Second)
	pub("tele/plug-1/SENSOR", fmt.Sprintf(`{"Time":%q,"ENERGY":{"Power":12.5,"Total":3.25,"Voltage":231}}`, at.Format("2006-01-02T15:04:05")), "-q", "1")
	h.wantRows(t, `SELECT Power, Total, Voltage FROM ENERGY WHERE device = 'plug-1'`, fmt.Sprintf("%d 12.5 3.25 231", at.UnixNano()))
	if d, known := h.device(t, "plug-1"); !known || d.Status != "online" || !strings.HasPrefix(d.Link, "mqtt:") {
		t.Errorf("the plug is shown as %+v", d)
	}

	done := h.sending(t, "plug-1", "power", map[string]any{"state": "on"})
	select {
	case o := <-orders:
		if o.Topic != "cmnd/plug-1/POWER" || o.Payload != "ON" || o.Retained {
			t.Errorf("order %+v", o)
		}
	case <-time.After(waitBound):
		t.Fatal("no order came to the plug")
	}
	pub("stat/plug-1/RESULT", `{"POWER":"ON"}`, "-q", "1")
	got := <-done
	if got.State != "succeeded" || got.Evidence != "observed" || !sameJSON(got.Result, `{"POWER":"ON"}`) {
		t.Errorf("command of the plug: %+v", got)
	}
	if !strings.HasPrefix(got.states(), "queued sent") {
		t.Errorf("states of the plug's command: %s", got.states())
	}
}
