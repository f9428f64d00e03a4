package bridge_test

import (
	"testing"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/configs"
)

// rights is a bridge that knows the devices d1, d2 and, by the name "hall 7" that it heard of it, hall_7.
func rights(t *testing.T, list ...configs.Connection) *running {
	t.Helper()
	h := newHub(t)
	h.added["d1"], h.added["d2"], h.added["tele"] = true, true, true
	h.labels["hall_7"] = map[string]string{"name": "hall 7", "mqtt": "site"}
	h.labels["d2-0a1b2c3d"] = map[string]string{"name": "d2", "mqtt": "site"} // what somebody with the site's login called d2
	for i := range list {
		list[i].URL = configs.EmbeddedBroker
		if list[i].Name == "" {
			list[i].Name = "site"
		}
	}
	return startAll(t, h, list, func(p *bridge.Parts) {
		p.Embedded = bridge.Endpoint{URL: "tcp://127.0.0.1:1", Author: func(topic string) (string, string) { return "", topic }}
	})
}

var plant = configs.Connection{
	In: []configs.InMap{
		{Topic: "plant/{device}/data/{measurement}"}, {Topic: "fixed/+/temp", Device: "d1"}, {Topic: "a/{tag:hall}/{device}/#"},
	},
	Command: []configs.CmdMap{
		{Devices: []string{"d*", "hall*"}, Topic: "plant/{device}/cmd/{name}", Reply: "plant/{device}/reply/{id}"},
		{Devices: []string{"d1"}, Topic: "one/order", Reply: "shared/reply"},
		{Devices: []string{"d*"}, Topic: "mixed/{device}-{name}/x"},
		{Devices: []string{"d*"}, Topic: "joined/to-{device}/x"},
	},
	Profiles: []string{"tasmota"},
}

func TestRightsOfDevices(t *testing.T) {
	r := rights(t, plant)
	for _, c := range []struct {
		device, topic string
		publish, read bool
	}{
		{"d1", "plant/d1/data/env", true, true},
		{"d1", "plant/d2/data/env", false, false},
		{"d1", "plant/d1/data", false, false}, // no map knows it
		{"d1", "plant/d1/data/env/x", false, false},
		{"d1", "fixed/x/temp", true, true},
		{"d2", "fixed/x/temp", false, false},
		{"d1", "a/hall/d1/x/y", true, true},
		{"d1", "a/d1/d2/x", false, false},
		{"hall_7", "plant/hall 7/data/env", true, true}, // by the name that the fleet knows
		{"hall_7", "plant/hall_7/data/env", false, false},
		{"d1", "plant/d1/cmd/reboot", false, true},
		{"d1", "plant/d2/cmd/reboot", false, false},
		{"hall_7", "plant/hall 7/cmd/reboot", false, true},
		{"d1", "plant/d1/reply/c1", true, true},
		{"d1", "plant/d2/reply/c1", false, false},
		{"d1", "one/order", false, true},
		{"d2", "one/order", false, false},
		{"d1", "shared/reply", true, false}, // the message says whose it is; what others say is not read
		{"d2", "shared/reply", false, false},
		{"d1", "mixed/d1-go/x", false, false}, // a level that does not tell where the name ends
		{"d1", "joined/to-d1/x", false, true},
		{"d1", "joined/to-d2/x", false, false},
		{"d1", "tele/d1/SENSOR", true, true},
		{"d1", "tele/d2/SENSOR", false, false},
		{"d1", "cmnd/d1/POWER", true, true}, // Tasmota publishes there when it connects
		{"d1", "cmnd/d2/POWER", false, false},
		{"d1", "cmnd/d1/x/y", false, false},
		{"d1", "tasmota/discovery/AABBCC/config", true, false}, // announced by nobody yet
		{"d1", "tasmota/discovery/AABBCC", false, false},
		{"d1", "other/d1", false, false},
		{"d1", "$SYS/d1", false, false},
		{"d1", "", false, false},
		{"stranger", "plant/stranger/data/env", false, false},
		{"d2-0a1b2c3d", "plant/d2/data/env", false, false},
		{"d2-0a1b2c3d", "plant/d2/cmd/reboot", false, false},
	} {
		if got := r.MayPublish(c.device, c.topic); got != c.publish {
			t.Errorf("%s may publish to %s: %v, want %v", c.device, c.topic, got, c.publish)
		}
		if got := r.MayRead(c.device, c.topic); got != c.read {
			t.Errorf("%s may read %s: %v, want %v", c.device, c.topic, got, c.read)
		}
		if got := r.MaySubscribe(c.device, c.topic); got != c.read {
			t.Errorf("%s may subscribe to %s: %v, want %v", c.device, c.topic, got, c.read)
		}
	}
}

func TestWildcardsReachNoOtherDevice(t *testing.T) {
	r := rights(t, plant)
	for _, c := range []struct {
		device, filter string
		want           bool
	}{
		{"d1", "plant/d1/#", true},
		{"d1", "plant/d1/cmd/+", true},
		{"d1", "+/d1/data/+", false}, // a/d1/data/x is the device data's
		{"d1", "+/d1/cmd/+", false},
		{"d1", "plant/+/cmd/+", false},
		{"d1", "plant/d2/#", false},
		{"d1", "plant/#", false},
		{"d1", "#", false},
		{"d1", "+/#", false},
		{"d1", "plant/d1/+/#", true},
		{"hall_7", "plant/hall 7/#", true},
		{"hall_7", "plant/+/#", false},
		{"d1", "fixed/#", true},
		{"d2", "fixed/#", false},
		{"d1", "shared/#", false},
		{"d1", "mixed/+/x", false},
		{"d1", "joined/to-d1/#", true},
		{"d1", "joined/+/x", false},
		{"d1", "a/+/d1/#", true},
		{"d1", "a/d1/#", false}, // d1 is the hall there
		{"d1", "cmnd/d1/#", true},
		{"d1", "cmnd/d1/+", true},
		{"d1", "cmnd/+/POWER", false},
		{"d1", "cmnd/d2/#", false},
		{"d1", "tele/#", false},
		{"tele", "tele/#", false}, // the name of a level is not that of a device
		{"d1", "tasmota/discovery/#", false},
		{"d1", "other/#", false},
		{"d1", "plant/d1#", false},
		{"d1", "$share/g/plant/d1/#", false},
		{"stranger", "plant/stranger/#", false},
	} {
		if got := r.MaySubscribe(c.device, c.filter); got != c.want {
			t.Errorf("%s may subscribe to %s: %v, want %v", c.device, c.filter, got, c.want)
		}
	}
}

// What one connection gives to another device is nobody's, and connections to other brokers give nothing.
func TestRightsOfSeveralConnections(t *testing.T) {
	r := rights(t, configs.Connection{Name: "site", In: []configs.InMap{{Topic: "plant/{device}/#"}}},
		configs.Connection{Name: "other", In: []configs.InMap{{Topic: "plant/+/{device}"}, {Topic: "b/{device}/x"}}})
	for topic, want := range map[string]bool{"plant/d1/x/y": true, "plant/d1/d1": true, "plant/d1/d2": false, "plant/d2/d1": false, "b/d1/x": true} {
		if got := r.MayPublish("d1", topic); got != want {
			t.Errorf("d1 may publish to %s: %v", topic, got)
		}
	}
	h := newHub(t)
	h.added["d1"] = true
	outside := start(t, h, configs.Connection{URL: "tcp://127.0.0.1:1", In: []configs.InMap{{Topic: "plant/{device}/#"}}})
	if outside.MayPublish("d1", "plant/d1/x") {
		t.Error("a connection to another broker gave a topic of the embedded one")
	}
}
