package broker_test

import (
	"testing"

	v5 "github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// What a device may not publish reaches nobody, and is answered as MQTT answers; the control is the same with the rights given.
func TestDevicePublishesItsOwnOnly(t *testing.T) {
	for _, c := range []struct {
		name         string
		version, qos byte
		answer       byte // type of packet; 0: the connection ends without one
		code         byte
		ends         bool
	}{
		{"5, QoS 1", 5, 1, v5.Puback, 0x87, false},
		{"5, QoS 2", 5, 2, v5.Pubrec, 0x87, false},
		{"5, QoS 0", 5, 0, v5.Disconnect, 0x87, true},
		{"3.1.1, QoS 0", 4, 0, 0, 0, true},
		{"3.1.1, QoS 1", 4, 1, 0, 0, true},
		{"3.1.1, QoS 2", 4, 2, 0, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg, s := prometheus.NewRegistry(), newSite()
			b, port, _ := startCounted(t, reg, s.letIn)
			got := mosquittotest.SubTo(t, port, login, "x/#")
			d := s.let(t, b, c.version, as("d1", "c"), v5.Properties{})
			pk, ok := d.publish("x/d2/a", c.qos)
			if ok != (c.answer != 0) || pk.FixedHeader.Type != c.answer || pk.ReasonCode != c.code {
				t.Errorf("answered (%v) %+v", ok, pk)
			}
			if c.version == 5 && pk.Properties.ReasonString == "" {
				t.Error("no reason is told")
			}
			if c.ends {
				if c.answer != 0 {
					if pk, ok := d.next(); ok {
						t.Errorf("the connection goes on with %+v", pk)
					}
				}
				d = s.let(t, b, c.version, as("d1", "c"), v5.Properties{})
			}
			if n := counted(t, reg, "fairlead_broker_refused_total", "publish_not_allowed"); n != 1 {
				t.Errorf("%v were counted", n)
			}
			s.eventually(t, "the trace", s.heard(&s.denied, "d1 x/d2/a x"))
			if pk, ok := d.publish("x/d1/a", 1); !ok || pk.FixedHeader.Type != v5.Puback || pk.ReasonCode >= 0x80 {
				t.Errorf("its own topic: %+v", pk)
			}
			if m := <-got; m.Topic != "x/d1/a" {
				t.Errorf("%s was reached", m.Topic)
			}
			s.set(func() { s.all = true })
			if pk, ok := d.publish("x/d2/a", 1); !ok || pk.ReasonCode >= 0x80 {
				t.Errorf("the control: %+v", pk)
			}
			if m := <-got; m.Topic != "x/d2/a" {
				t.Errorf("the control reached %s", m.Topic)
			}
		})
	}
}

func TestDeviceSubscribesToItsOwnOnly(t *testing.T) {
	for version, code := range map[byte]byte{4: 0x80, 5: 0x87} {
		reg, s := prometheus.NewRegistry(), newSite()
		b, _, _ := startCounted(t, reg, s.letIn)
		d := s.let(t, b, version, as("d1", "c"), v5.Properties{})
		denied := []string{"x/d2/a", "#", "x/+/a", "$share/g/x/d1/a", "$SYS/#"}
		codes := d.subscribe(append(denied, "x/d1/#")...)
		for i, f := range denied {
			if codes[i] != code {
				t.Errorf("version %d: %s was answered %#x, want %#x", version, f, codes[i], code)
			}
			s.eventually(t, "the trace of "+f, s.heard(&s.denied, "d1 subscribe "+f+" "))
		}
		if codes[len(denied)] != 1 {
			t.Errorf("version %d: its own was answered %#x", version, codes[len(denied)])
		}
		s.set(func() {
			if len(s.subscribed) != 1 || s.subscribed[0] != "d1 x/d1/#" {
				t.Errorf("the hub heard of %v", s.subscribed)
			}
		})
		if n := counted(t, reg, "fairlead_broker_refused_total", "subscribe_not_allowed"); int(n) != len(denied) {
			t.Errorf("version %d: %v were counted", version, n)
		}
		pub := publisher(t, b)
		for _, topic := range []string{"x/d2/a", "x/d1/a"} {
			wait(t, pub.Publish(topic, 1, false, "x"))
		}
		if pk := d.read(); pk.TopicName != "x/d1/a" {
			t.Errorf("version %d: it was handed %s", version, pk.TopicName)
		}
		s.set(func() { s.all = true })
		if codes := d.subscribe("x/d2/a"); codes[0] != 1 {
			t.Errorf("the control was answered %#x", codes[0])
		}
	}
}

// A topic that is a device's no longer is not handed to it, although it has subscribed.
func TestRightsHoldForWhatWasSubscribedBefore(t *testing.T) {
	s := newSite()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	s.set(func() { s.all = true })
	d := s.let(t, b, 4, as("d1", "c"), v5.Properties{})
	d.subscribe("x/#")
	pub := publisher(t, b)
	wait(t, pub.Publish("x/d2/before", 0, false, "x"))
	if pk := d.read(); pk.TopicName != "x/d2/before" {
		t.Errorf("it was handed %s", pk.TopicName)
	}
	s.set(func() { s.all = false })
	wait(t, pub.Publish("x/d2/after", 0, false, "x"))
	wait(t, pub.Publish("x/d1/after", 0, false, "x"))
	if pk := d.read(); pk.TopicName != "x/d1/after" {
		t.Errorf("it was handed %s", pk.TopicName)
	}
}

func TestWillOfADeviceIsItsOwn(t *testing.T) {
	s := newSite()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	for topic, want := range map[string]byte{"x/d2/w": 0x87, "x/d1/w": 0} {
		params := as("d1", "c")
		params.WillFlag, params.WillTopic, params.WillPayload = true, topic, []byte("gone")
		if _, answer := hello5(t, b, 5, params, v5.Properties{}); answer.ReasonCode != want {
			t.Errorf("a will for %s was answered %#x, want %#x", topic, answer.ReasonCode, want)
		}
	}
}
