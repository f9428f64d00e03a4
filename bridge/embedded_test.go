package bridge_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/bridge/broker"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// The hub as a newcomer starts it: its own broker, the default connection, and a plug made of mosquitto's clients.
func TestEmbeddedBrokerWithDefaults(t *testing.T) {
	site := configs.Default().Bridge
	site.Broker.Listen, site.Broker.Password = "127.0.0.1:0", "generated"
	b, err := broker.New(site.Broker, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	login := []string{"-u", site.Broker.Username, "-P", "generated"}

	h := newHub(t)
	r := start(t, h, site.Connections[0], func(p *bridge.Parts) {
		e := b.Hub()
		p.Embedded = bridge.Endpoint{URL: e.URL, Username: e.Username, Password: e.Password}
	})
	r.wantState(bridge.StateConnected)
	pub := func(topic, payload string, more ...string) {
		t.Helper()
		if err := mosquittotest.PubTo(t, port, append(more, login...), topic, payload); err != nil {
			t.Fatal(err)
		}
	}
	pub("tasmota/discovery/D8F15BB3DB2D/config", discovery("lights/%prefix%/%topic%/"), "-q", "1", "-r")
	h.until("the device", func() bool { return h.hellos["tasmota_B3DB2D"].Firmware == "10.0.0" })
	if n := len(seen(h, h.hellos)["tasmota_B3DB2D"].Commands); n < 4 {
		t.Errorf("%d commands are announced", n)
	}
	// Its FullTopic is not the default, so the bridge has to subscribe to what discovery said.
	r.wantStatus("subscribed", func(bridge.Status) bool {
		pub("lights/tele/tasmota_B3DB2D/SENSOR", `{"ENERGY":{"Power":12}}`, "-q", "1")
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.points["tasmota_B3DB2D"]) > 0
	})
	orders := mosquittotest.SubTo(t, port, login, "lights/cmnd/#")
	if _, err := r.Links().Deliver(context.Background(), "tasmota_B3DB2D", wire.Command{ID: "c1", Name: "power2", Params: json.RawMessage(`{"state":"off"}`)}); err != nil {
		t.Fatal(err)
	}
	if o := <-orders; o.Topic != "lights/cmnd/tasmota_B3DB2D/POWER2" || o.Payload != "OFF" || o.Retained || o.QoS != 1 {
		t.Errorf("order is %+v", o)
	}
	pub("lights/stat/tasmota_B3DB2D/RESULT", `{"POWER2":"AUS"}`)
	h.until("the answer", func() bool { return len(h.answers) == 1 })
	if a := h.answered(0); a.evidence != "observed" || !a.OK || a.ID != "c1" {
		t.Errorf("answer is %+v", a)
	}
	// What the plug's publisher was told is stored is stored, and not before.
	h.hold()
	acked := make(chan error, 1)
	go func() {
		acked <- mosquittotest.PubTo(t, port, append([]string{"-q", "1"}, login...), "lights/tele/tasmota_B3DB2D/SENSOR", `{"ENERGY":{"Power":13}}`)
	}()
	h.until("the held point", func() bool {
		ps := h.points["tasmota_B3DB2D"]
		return field(ps[len(ps)-1], "Power") == "13"
	})
	select {
	case err := <-acked:
		t.Errorf("acknowledged before it was stored (%v)", err)
	case <-time.After(300 * time.Millisecond): // nothing must happen; there is no event for nothing
	}
	h.release()
	if err := <-acked; err != nil {
		t.Error(err)
	}
}

// A hub starts: the broker is there, and devices that were waiting for it publish, before the bridge has connected. What they are
// told is stored is.
func TestWhatComesBeforeTheBridgeIsStored(t *testing.T) {
	b, err := broker.New(configs.Broker{Listen: "127.0.0.1:0", Username: "site", Password: "pw"}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	subscribed := b.AwaitHub()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() {
		published <- mosquittotest.PubTo(t, port, []string{"-u", "site", "-P", "pw", "-q", "1"}, "plant/d1/env", `{"temp":21}`)
	}()
	select {
	case <-published:
		t.Fatal("acknowledged while no bridge is there")
	case <-time.After(300 * time.Millisecond): // nothing must happen; there is no event for nothing
	}
	h := newHub(t)
	start(t, h, configs.Connection{URL: configs.EmbeddedBroker, In: []configs.InMap{{Topic: "plant/{device}/{measurement}", QoS: 1}}}, func(p *bridge.Parts) {
		e := b.Hub()
		p.Embedded = bridge.Endpoint{URL: e.URL, Username: e.Username, Password: e.Password, Subscribed: subscribed}
	})
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	if got := h.stored("d1"); len(got) != 1 {
		t.Errorf("%d points are stored, want the one that was acknowledged", len(got))
	}
}

func discovery(fullTopic string) string {
	return `{"ip":"192.0.2.7","dn":"Hall","fn":["Hall","Stairs",null],"hn":"hall","mac":"D8F15BB3DB2D","md":"Sonoff T1 2CH",` +
		`"ofln":"Offline","onln":"Online","state":["AUS","AN","TOGGLE","HOLD"],"sw":"10.0.0","t":"tasmota_B3DB2D","ft":"` + fullTopic + `",` +
		`"tp":["cmnd","stat","tele"],"rl":[1,1,0,0],"so":{"4":0},"lt_st":0,"ver":1}`
}
