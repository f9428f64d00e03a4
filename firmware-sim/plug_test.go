package sim_test

import (
	"encoding/json"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	sim "github.com/fairlead-hub/fairlead/firmware-sim"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

func startBroker(t *testing.T) (url string) {
	t.Helper()
	return mosquittotest.Start(t, mosquittotest.Options{Username: "plug", Password: "secret"}).URL()
}

type message struct {
	topic, payload string
	retained       bool
}

// watch subscribes to everything.
func watch(t *testing.T, url, name string) (mqtt.Client, <-chan message) {
	t.Helper()
	got := make(chan message, 1000)
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID(name).SetUsername("plug").SetPassword("secret").
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			got <- message{m.Topic(), string(m.Payload()), m.Retained()}
		}))
	if token := client.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal("connect", token.Error())
	}
	t.Cleanup(func() { client.Disconnect(100) })
	if token := client.Subscribe("#", 1, nil); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal("subscribe", token.Error())
	}
	return client, got
}

func wantMessage(t *testing.T, got <-chan message, topic string) message {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case m := <-got:
			if m.topic == topic {
				return m
			}
		case <-late:
			t.Fatalf("nothing on %s", topic)
		}
	}
}

func say(t *testing.T, client mqtt.Client, topic, payload string) {
	t.Helper()
	if token := client.Publish(topic, 1, false, payload); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal("publish", token.Error())
	}
}

func TestPlug(t *testing.T) {
	url := startBroker(t)
	client, got := watch(t, url, "first")
	p, err := sim.NewPlug(sim.PlugOptions{Broker: url, Username: "plug", Password: "secret", Index: 2, Period: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, p)
	tp := p.Topic()
	if p.ID() != "2CF432100002" || tp != "tasmota_100002" {
		t.Errorf("id %s, topic %s", p.ID(), tp)
	}

	if m := wantMessage(t, got, "cmnd/"+tp+"/POWER"); m.payload != "" {
		t.Errorf("the firmware's own message at connect is %q", m.payload)
	}
	if m := wantMessage(t, got, "tele/"+tp+"/LWT"); m.payload != "Online" {
		t.Errorf("LWT %q", m.payload)
	}
	var config struct {
		T, FT, MAC string
		Onln, Ofln string
		TP         []string
		RL         []int
		SO         map[string]int
	}
	m := wantMessage(t, got, "tasmota/discovery/2CF432100002/config")
	if err := json.Unmarshal([]byte(m.payload), &config); err != nil || config.T != tp || config.MAC != p.ID() || len(config.TP) != 3 ||
		config.FT != "%prefix%/%topic%/" || config.Onln != "Online" || config.RL[0] != 1 {
		t.Errorf("config %s: %v", m.payload, err)
	}
	wantMessage(t, got, "tasmota/discovery/2CF432100002/sensors")

	wantState(t, got, tp, "ON")
	wantEnergy(t, got, tp, true)
	for _, c := range []struct{ name, value, want string }{
		{"POWER", "OFF", "OFF"}, {"POWER", "", "OFF"}, {"Power1", "toggle", "ON"}, {"POWER", "0", "OFF"},
	} {
		say(t, client, "cmnd/"+tp+"/"+c.name, c.value)
		if m := wantMessage(t, got, "stat/"+tp+"/RESULT"); m.payload != `{"POWER":"`+c.want+`"}` {
			t.Errorf("%s %s: %s", c.name, c.value, m.payload)
		}
		if m := wantMessage(t, got, "stat/"+tp+"/POWER"); m.payload != c.want {
			t.Errorf("%s %s: %s", c.name, c.value, m.payload)
		}
	}
	wantState(t, got, tp, "OFF")
	wantEnergy(t, got, tp, false)
	say(t, client, "cmnd/"+tp+"/Fly", "1")
	if m := wantMessage(t, got, "stat/"+tp+"/RESULT"); m.payload != `{"Command":"Unknown"}` {
		t.Error(m.payload)
	}
	say(t, client, "cmnd/"+tp+"/TelePeriod", "30")
	if m := wantMessage(t, got, "stat/"+tp+"/RESULT"); m.payload != `{"TelePeriod":30}` {
		t.Error(m.payload)
	}
	say(t, client, "cmnd/"+tp+"/Status", "")
	wantMessage(t, got, "stat/"+tp+"/STATUS")

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if m := wantMessage(t, got, "tele/"+tp+"/LWT"); m.payload != "Offline" {
		t.Errorf("LWT %q", m.payload)
	}
	// Who comes later finds the description and the state of the link.
	_, later := watch(t, url, "second")
	if m := wantMessage(t, later, "tasmota/discovery/2CF432100002/config"); !m.retained {
		t.Error("the description is not retained")
	}
}

func wantState(t *testing.T, got <-chan message, topic, power string) {
	t.Helper()
	var state struct {
		Time, POWER string
		UptimeSec   *int
		Wifi        struct{ RSSI int }
	}
	m := wantMessage(t, got, "tele/"+topic+"/STATE")
	if err := json.Unmarshal([]byte(m.payload), &state); err != nil || state.POWER != power || state.UptimeSec == nil || state.Wifi.RSSI < 1 {
		t.Errorf("STATE %s: %v", m.payload, err)
	}
	if _, err := time.Parse("2006-01-02T15:04:05", state.Time); err != nil {
		t.Error(err)
	}
}

func wantEnergy(t *testing.T, got <-chan message, topic string, load bool) {
	t.Helper()
	var sensor struct {
		ENERGY struct{ Power, Voltage, Current, Total float64 }
	}
	m := wantMessage(t, got, "tele/"+topic+"/SENSOR")
	e := &sensor.ENERGY
	if err := json.Unmarshal([]byte(m.payload), &sensor); err != nil || (e.Power > 0) != load || e.Voltage < 200 || e.Total <= 0 {
		t.Errorf("SENSOR %s: %v", m.payload, err)
	}
}

// A broker that refuses the password is tried again until the end.
func TestPlugWithoutBroker(t *testing.T) {
	url := startBroker(t)
	p, err := sim.NewPlug(sim.PlugOptions{Broker: url, Username: "plug", Password: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t, p)(); err != nil {
		t.Error(err)
	}
	for _, o := range []sim.PlugOptions{{}, {Broker: url, Index: -1}, {Broker: url, Period: time.Millisecond}} {
		if _, err := sim.NewPlug(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
