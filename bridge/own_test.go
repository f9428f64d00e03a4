package bridge_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/bridge/broker"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// own is the embedded broker with a bridge, where "t.<device>.x" is a device's token.
type own struct {
	*running
	*hub
	port string
}

var plantOf = configs.Connection{
	Name: "site", URL: configs.EmbeddedBroker, Profiles: []string{"tasmota"},
	In: []configs.InMap{{Topic: "plant/{device}/data/{measurement}", QoS: 1}},
	Command: []configs.CmdMap{
		{Devices: []string{"d*"}, Topic: "plant/{device}/cmd", Reply: "shared/reply", QoS: 1},
	},
}

func startOwn(t *testing.T, author func(string) (string, string), devices ...string) *own {
	t.Helper()
	b, err := broker.New(configs.Broker{Listen: "127.0.0.1:0", Username: "site", Password: "pw"}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	o := &own{hub: newHub(t)}
	for _, d := range devices {
		o.added[d] = true
	}
	e := b.Hub()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	r := start(t, o.hub, plantOf, func(p *bridge.Parts) {
		p.Embedded = bridge.Endpoint{URL: e.URL, Username: e.Username, Password: e.Password, Author: author}
	})
	o.running = r
	var topics broker.Topics = r
	if device, _ := author("$device/d/x"); device == "" {
		topics = everything{}
	}
	b.LetIn(broker.Devices{
		Admit: func(_ context.Context, token string, _ netip.Addr) (broker.Identity, error) {
			return broker.Identity{Device: strings.Split(token, ".")[1], Until: time.Now().Add(time.Hour), Still: func() error { return nil }}, nil
		},
		Topics: topics, Subscribed: r.Subscribed, Denied: r.Denied, Ended: r.Ended,
	})
	go func() { served <- b.Run(ctx) }()
	if _, o.port, err = net.SplitHostPort(b.Addr().String()); err != nil {
		t.Fatal(err)
	}
	r.wantState(bridge.StateConnected)
	return o
}

// everything is everybody's.
type everything struct{}

func (everything) MayPublish(string, string) bool   { return true }
func (everything) MaySubscribe(string, string) bool { return true }
func (everything) MayRead(string, string) bool      { return true }

// pub publishes at QoS 1 as a device, or as the site if that is empty.
func (o *own) pub(t *testing.T, device, topic, payload string) error {
	t.Helper()
	return mosquittotest.PubTo(t, o.port, append([]string{"-q", "1"}, loginAs(device)...), topic, payload)
}

func (o *own) mustPub(t *testing.T, device, topic, payload string) {
	t.Helper()
	if err := o.pub(t, device, topic, payload); err != nil {
		t.Fatal(err)
	}
}

func loginAs(device string) []string {
	if device == "" {
		return []string{"-u", "site", "-P", "pw"}
	}
	return []string{"-u", device, "-P", "t." + device + ".x"}
}

// A device that was added and has a token is itself, and who has the site's login is not.
func TestOwnDeviceHasItsRecord(t *testing.T) {
	o := startOwn(t, broker.Author, "d1", "d2")
	o.mustPub(t, "d1", "plant/d1/data/env", `{"temp":21}`)
	if err := o.pub(t, "d1", "plant/d2/data/env", `{"temp":99}`); err == nil {
		t.Error("it published as another one")
	}
	o.mustPub(t, "", "plant/d1/data/env", `{"temp":5}`)
	o.mustPub(t, "", "plant/d2/data/env", `{"temp":6}`)
	if got := o.stored("d1"); len(got) != 1 || field(got[0], "temp") != "21" {
		t.Errorf("of d1 is stored %d points, want its own", len(got))
	}
	if got := o.stored("d2"); len(got) != 0 {
		t.Errorf("of d2 is stored %d points, want none", len(got))
	}
	o.until("the site's are others", func() bool {
		return o.labels["d1"] == nil && len(o.points) == 3 && strings.HasPrefix(o.online["d1"], "online telemetry mqtt:site")
	})

	// The control: where nobody tells who published, the record is not the device's, and another one's can be reached.
	c := startOwn(t, func(topic string) (string, string) {
		_, topic = broker.Author(topic)
		return "", topic
	}, "d1", "d2")
	c.mustPub(t, "d1", "plant/d1/data/env", `{"temp":21}`)
	c.mustPub(t, "d1", "plant/e1/data/env", `{"temp":21}`)
	if len(c.stored("d1")) != 0 || len(c.stored("e1")) != 1 {
		t.Error("the control: what was published went where it should, without anybody to see to it")
	}
}

// What a device that was deleted meanwhile has published makes no record.
func TestOwnDeviceThatIsGone(t *testing.T) {
	o := startOwn(t, broker.Author, "d1")
	o.mustPub(t, "d1", "plant/d1/data/env", `{"temp":21}`)
	o.hold() // the next is on its way when the record goes
	done := make(chan error, 1)
	go func() { done <- o.pub(t, "d1", "plant/d1/data/env", `{"temp":22}`) }()
	o.until("it is on its way", func() bool { return len(o.points["d1"]) == 2 })
	o.mu.Lock()
	delete(o.added, "d1")
	o.mu.Unlock()
	o.RecordChanged("d1", bridge.Change{Deleted: true, Relabelled: true})
	o.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = o.pub(t, "d1", "plant/d1/data/env", `{"temp":23}`)
	o.mustPub(t, "", "plant/e1/data/env", `{"temp":1}`) // comes after it
	if got := o.stored("d1"); len(got) != 2 || len(seen(o.hub, o.labels)) != 1 {
		t.Errorf("%d points and the records %v", len(got), seen(o.hub, o.labels))
	}
}

// A reply on a topic that devices share counts if it comes from the device that was asked.
func TestReplyOfAnotherDevice(t *testing.T) {
	o := startOwn(t, broker.Author, "d1", "d2")
	orders := mosquittotest.SubTo(t, o.port, loginAs("d1"), "plant/d1/cmd")
	o.until("it is there once it has subscribed", func() bool { return strings.HasPrefix(o.online["d1"], "online assumed") })
	if _, err := o.Links().Deliver(context.Background(), "d1", wire.Command{ID: "c1", Name: "go"}); err != nil {
		t.Fatal(err)
	}
	if m := <-orders; m.Topic != "plant/d1/cmd" {
		t.Errorf("the order is %+v", m)
	}
	for _, other := range []string{"d2", ""} {
		o.mustPub(t, other, "shared/reply", `{"id":"c1","ok":true}`)
	}
	o.mu.Lock()
	if len(o.answers) != 0 {
		t.Errorf("answered by another: %+v", o.answers)
	}
	o.mu.Unlock()
	o.mustPub(t, "d1", "shared/reply", `{"id":"c1","ok":true}`)
	o.until("the answer", func() bool { return len(o.answers) == 1 })
	if a := o.answered(0); a.device != "d1" || a.evidence != "confirmed" || !a.OK {
		t.Errorf("answered %+v", a)
	}
}

// A device announces itself, with topics that name it, and no other.
func TestOwnDeviceAnnouncesItself(t *testing.T) {
	o := startOwn(t, broker.Author, "d1", "tasmota_B3DB2D", "tele")
	config := "tasmota/discovery/D8F15BB3DB2D/config"
	as := func(topic, full string) string {
		return strings.NewReplacer("tasmota_B3DB2D", topic).Replace(discovery(full))
	}
	o.mustPub(t, "d1", config, discovery("%prefix%/%topic%/"))                    // as another one
	o.mustPub(t, "d1", config, as("d1", "%prefix%/d9/"))                          // with another one's topics
	o.mustPub(t, "tele", config, as("tele", "%topic%/d1/%prefix%/"))              // that name it: fine
	o.mustPub(t, "tele", config, "")                                              // and it takes that back
	o.mustPub(t, "tasmota_B3DB2D", config, discovery("lights/%prefix%/%topic%/")) // itself
	o.wantStatus("two dropped", func(s bridge.Status) bool { return s.Dropped == 2 })
	if _, was := seen(o.hub, o.hellos)["d1"]; was {
		t.Error("d1 was taken for what it announced of another one")
	}
	o.until("the device", func() bool { return o.hellos["tasmota_B3DB2D"].Firmware == "10.0.0" })
	if err := o.pub(t, "d1", config, ""); err == nil {
		t.Error("another one took its announcement back")
	}
	o.wantStatus("subscribed", func(bridge.Status) bool {
		o.mustPub(t, "tasmota_B3DB2D", "lights/tele/tasmota_B3DB2D/SENSOR", `{"ENERGY":{"Power":12}}`)
		return len(o.stored("tasmota_B3DB2D")) > 0
	})
	if !o.MaySubscribe("tasmota_B3DB2D", "lights/cmnd/tasmota_B3DB2D/#") || o.MaySubscribe("d1", "lights/cmnd/tasmota_B3DB2D/#") || o.MayRead("d1", config) {
		t.Error("its topics are not its own")
	}
}
