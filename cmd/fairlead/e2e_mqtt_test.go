package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// mqttDevice is a device that has connected to the embedded broker with a token.
type mqttDevice struct {
	mqtt.Client
	lost chan error
}

func (h *hub) mqttDevice(t *testing.T, id, token string) *mqttDevice {
	t.Helper()
	d := &mqttDevice{lost: make(chan error, 1)}
	d.Client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(h.MQTTURL).SetClientID(id).SetUsername(id).SetPassword(token).
		SetAutoReconnect(false).SetConnectionLostHandler(func(_ mqtt.Client, err error) { d.lost <- err }))
	if did := d.Connect(); !did.WaitTimeout(waitBound) || did.Error() != nil {
		t.Fatalf("%s: %v", id, did.Error())
	}
	t.Cleanup(func() { d.Disconnect(0) })
	return d
}

func (d *mqttDevice) publish(t *testing.T, topic, payload string) {
	t.Helper()
	if did := d.Publish(topic, 1, false, payload); !did.WaitTimeout(waitBound) || did.Error() != nil {
		t.Errorf("publish to %s: %v", topic, did.Error())
	}
}

// TestMQTTDevicesWithTokens: devices are at one node, operators at the other.
func TestMQTTDevicesWithTokens(t *testing.T) {
	t.Parallel()
	a, b := twoHubs(t)
	tokens := map[string]string{}
	for _, id := range []string{"stays", "disabled", "deleted", "revoked"} {
		tokens[id] = a.addDevice(t, id, "north")
	}
	key := a.addOwnKey(t, "signs")
	tokens["signs"] = key.sign(t, func(jwt.MapClaims) {})
	tokens["expires"] = key.sign(t, func(c jwt.MapClaims) { c["exp"] = time.Now().Unix() + 3 })
	until(t, "the records are at the other node", func() bool {
		_, known := b.device(t, "signs")
		return known
	})
	at := map[string]*mqttDevice{}
	for id, token := range tokens {
		name := strings.Replace(id, "expires", "token", 1)
		at[id] = b.mqttDevice(t, name, token)
	}
	stays := at["stays"]

	// Each is itself, and nobody else.
	stays.publish(t, "tele/stays/SENSOR", `{"ENV":{"Temperature":21.5}}`)
	at["signs"].publish(t, "tele/signs/SENSOR", `{"ENV":{"Temperature":22}}`)
	until(t, "they are on line by MQTT", func() bool {
		first, _ := a.device(t, "stays")
		second, _ := a.device(t, "signs")
		return first.Status == "online" && strings.HasPrefix(first.Link, "mqtt:") && second.Status == "online"
	})
	port, login := b.mqtt()
	trace := a.follow("trace", "stays")
	trace.next("what was refused", func() {
		args := []string{"-u", "stays", "-P", tokens["stays"], "-q", "1"}
		if err := mosquittotest.PubTo(t, port, args, "tele/disabled/SENSOR", `{"ENV":{"Temperature":99}}`); err == nil {
			t.Error("it published as another device")
		}
	}, func(e map[string]any) bool {
		return e["fate"] == "not_authorized" && strings.HasPrefix(e["frame"].(string), "tele/disabled/SENSOR ")
	})
	if d, _ := a.device(t, "disabled"); d.Status != "never" {
		t.Errorf("another device's message made it %s", d.Status)
	}
	got := stays.Subscribe("cmnd/#", 1, nil)
	if got.WaitTimeout(waitBound); got.(*mqtt.SubscribeToken).Result()["cmnd/#"] != 0x80 {
		t.Errorf("a filter for every device's commands was answered %v", got.(*mqtt.SubscribeToken).Result())
	}
	// The control is the site's login, which may reach all that has no token; of who has one it makes another device.
	for _, topic := range []string{"tele/plug/SENSOR", "tele/stays/SENSOR"} {
		if err := mosquittotest.PubTo(t, port, append([]string{"-q", "1"}, login...), topic, `{"ENV":{"Temperature":5}}`); err != nil {
			t.Error(err)
		}
	}
	until(t, "what the site said is stored", func() bool { return len(a.rows(t, `SELECT Temperature FROM ENV WHERE Temperature < 10`)) == 2 })
	a.wantRows(t, `SELECT Temperature FROM ENV WHERE device = 'stays' AND Temperature < 10`)

	// Commands reach it alone.
	orders := mosquittotest.SubTo(t, port, []string{"-u", "stays", "-P", tokens["stays"]}, "cmnd/stays/#")
	done := b.sending(t, "stays", "power", map[string]any{"state": "on"})
	if o := <-orders; o.Topic != "cmnd/stays/POWER" || o.Payload != "ON" {
		t.Errorf("order %+v", o)
	}
	stays.publish(t, "stat/stays/RESULT", `{"POWER":"ON"}`)
	if c := <-done; c.State != "succeeded" || c.Evidence != "observed" {
		t.Errorf("command %+v", c)
	}

	// Sessions end by what is done at the other node.
	ends := func(id string) {
		t.Helper()
		select {
		case <-at[id].lost:
		case <-time.After(waitBound):
			t.Fatalf("%s goes on", id)
		}
	}
	ends("expires")
	for id, do := range map[string]func() int{
		"disabled": func() int {
			return a.ask(t, "PATCH", "/devices/disabled", map[string]any{"disabled": true}, nil) + http.StatusNoContent - http.StatusOK
		},
		"deleted": func() int { return a.ask(t, "DELETE", "/devices/deleted", nil, nil) },
		"revoked": func() int { return a.ask(t, "DELETE", "/devices/revoked/tokens", nil, nil) },
		"signs":   func() int { return a.ask(t, "DELETE", "/devices/signs/keys/own", nil, nil) },
	} {
		asked := time.Now()
		if status := do(); status != http.StatusNoContent {
			t.Fatalf("%s: %d", id, status)
		}
		ends(id)
		t.Logf("%s: ended at the other node %s after it was asked for", id, time.Since(asked).Round(time.Millisecond))
		if err := mosquittotest.PubTo(t, port, []string{"-u", id, "-P", tokens[id], "-q", "1"}, "tele/"+id+"/SENSOR", "{}"); err == nil {
			t.Errorf("%s was let in again", id)
		}
	}
	stays.publish(t, "tele/stays/SENSOR", `{"ENV":{"Temperature":23}}`) // the control
	var keys struct {
		Keys []struct {
			KID, Kind string
			Mints     bool
		}
	}
	a.ask(t, "GET", "/keys", nil, &keys)
	a.ask(t, "POST", "/keys", map[string]any{"kind": "device"}, nil)
	for _, k := range keys.Keys {
		if k.Kind == "device" {
			a.ask(t, "DELETE", "/keys/"+k.KID, nil, nil)
		}
	}
	ends("stays")
	a.stop()
	b.stop()
}

// TestMQTTTokensOnly: a line of the configuration shuts the site's login out.
func TestMQTTTokensOnly(t *testing.T) {
	t.Parallel()
	h := serve(t, strings.Replace(loopback, `broker: {listen: "127.0.0.1:0"}`, `broker: {listen: "127.0.0.1:0", tokens_only: true, password: site-secret}`, 1))
	port, login := h.mqtt()
	if login != nil {
		t.Errorf("the ready file tells a login that is none: %v", login)
	}
	token := h.addDevice(t, "plug", "north")
	for name, c := range map[string]struct {
		args []string
		in   bool
	}{"the site's login": {[]string{"-u", "fairlead", "-P", "site-secret"}, false}, "a device": {[]string{"-u", "token", "-P", token}, true}} {
		err := mosquittotest.PubTo(t, port, append(c.args, "-q", "1"), "tele/plug/SENSOR", `{"ENV":{"Temperature":5}}`)
		if (err == nil) != c.in {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.stop()
}
