package broker_test

import (
	"errors"
	"testing"
	"time"

	v5 "github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
)

var hour = v5.Properties{SessionExpiryInterval: 3600, SessionExpiryIntervalFlag: true}

// kept is a client of a device whose session outlives its connection.
func kept(device, client string) v5.ConnectParams {
	p := as(device, client)
	p.Clean = false
	return p
}

// Another's client id is not another's session: neither is that thrown out, nor are its messages inherited. The control is the
// device itself.
func TestClientIDsOfDevicesAreTheirOwn(t *testing.T) {
	s := newSite()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	first := s.let(t, b, 5, kept("d1", "c"), hour)
	first.subscribe("x/d1/a")
	for name, other := range map[string]v5.ConnectParams{
		"another device": kept("d2", "c"), "the site": {ClientIdentifier: "c", Username: []byte("site"), Password: []byte("pw")},
	} {
		c, answer := hello5(t, b, 5, other, hour)
		if answer.ReasonCode != 0 || answer.SessionPresent {
			t.Errorf("%s was answered %#x, session %v", name, answer.ReasonCode, answer.SessionPresent)
		}
		wait(t, publisher(t, b).Publish("x/d1/a", 0, false, name))
		if pk := first.read(); pk.FixedHeader.Type != v5.Publish || string(pk.Payload) != name {
			t.Errorf("beside %s the first has %+v", name, pk)
		}
		_ = c.Close()
	}
	second, answer := hello5(t, b, 5, kept("d1", "c"), hour)
	if !answer.SessionPresent {
		t.Error("the device itself does not find its session")
	}
	if pk := first.read(); pk.FixedHeader.Type != v5.Disconnect || pk.ReasonCode != 0x8e {
		t.Errorf("its first connection has %+v", pk)
	}
	wait(t, publisher(t, b).Publish("x/d1/a", 0, false, "second"))
	if pk := second.read(); string(pk.Payload) != "second" {
		t.Errorf("its second connection has %+v", pk)
	}
}

// A device that may not be here any more is sent away, another one is not, and its session goes with it.
func TestRevokedDeviceIsSentAway(t *testing.T) {
	reg, s := prometheus.NewRegistry(), newSite()
	b, _, _ := startCounted(t, reg, s.letIn)
	five, three, other := s.let(t, b, 5, kept("d1", "five"), hour), s.let(t, b, 4, kept("d1", "three"), v5.Properties{}), s.let(t, b, 5, kept("d2", "c"), hour)
	five.subscribe("x/d1/a")
	b.Recheck("d1") // there is nothing wrong with it
	b.RecheckAll()
	if pk, ok := five.publish("x/d1/b", 1); !ok || pk.FixedHeader.Type != v5.Puback {
		t.Fatalf("the control: %+v", pk)
	}
	s.set(func() { s.gone["d1"] = errors.New("device_disabled: the device is disabled") })
	b.Recheck("d1")
	pk, ok := five.next()
	if !ok || pk.FixedHeader.Type != v5.Disconnect || pk.ReasonCode != 0x87 || pk.Properties.ReasonString != "device_disabled: the device is disabled" {
		t.Errorf("MQTT 5 was told %+v", pk)
	}
	for _, c := range []client5{five, three} {
		if pk, ok := c.next(); ok {
			t.Errorf("the connection goes on with %+v", pk)
		}
	}
	s.eventually(t, "the end is told", s.heard(&s.ended, "d1 revoked"))
	if n := counted(t, reg, "fairlead_broker_devices_ended_total", "revoked"); n != 2 {
		t.Errorf("%v ends were counted", n)
	}
	if pk, ok := other.publish("x/d2/a", 1); !ok || pk.FixedHeader.Type != v5.Puback {
		t.Errorf("another device has %+v", pk)
	}
	s.set(func() { delete(s.gone, "d1") })
	if _, answer := hello5(t, b, 5, kept("d1", "five"), hour); answer.SessionPresent {
		t.Error("its session is still there")
	}
	s.set(func() { s.gone["d2"] = errors.New("token_unknown_key: the key that signed the token was withdrawn") })
	b.RecheckAll()
	if pk, ok := other.next(); !ok || pk.FixedHeader.Type != v5.Disconnect {
		t.Errorf("a withdrawn key: %+v", pk)
	}
}

// What changed while a client was on its way in counts too.
func TestRevokedOnTheWayIn(t *testing.T) {
	s := newSite()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	s.set(func() { s.gone["d1"] = errors.New("token_revoked") }) // and Admit does not know yet
	c := dial5(t, b, 4, as("d1", "c"), v5.Properties{})
	pk, ok := c.next()
	if ok && pk.FixedHeader.Type == v5.Connack {
		pk, ok = c.next()
	}
	if ok {
		t.Errorf("the connection goes on with %+v", pk)
	}
}

// A token that runs out ends the connection, and not the session: the device comes back with a fresh one.
func TestExpiredTokenEndsTheConnection(t *testing.T) {
	s := newSite()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	s.set(func() { s.until = time.Now().Add(200 * time.Millisecond) })
	c := s.let(t, b, 5, kept("d1", "c"), hour)
	c.subscribe("x/d1/a")
	pk, ok := c.next()
	if !ok || pk.FixedHeader.Type != v5.Disconnect || pk.ReasonCode != 0xa0 {
		t.Fatalf("at the end of the token came %+v", pk)
	}
	if pk, ok := c.next(); ok {
		t.Errorf("the connection goes on with %+v", pk)
	}
	pub := publisher(t, b)
	wait(t, pub.Publish("x/d1/a", 1, false, "meanwhile"))
	wait(t, pub.Publish("x/flush", 1, false, "x")) // the one before has been handed out
	s.set(func() { s.until = time.Now().Add(time.Hour) })
	c, answer := hello5(t, b, 5, kept("d1", "c"), hour)
	if !answer.SessionPresent {
		t.Error("its session has gone")
	}
	if pk := c.read(); string(pk.Payload) != "meanwhile" {
		t.Errorf("it finds %+v", pk)
	}
}

// The next device of a deleted one's id inherits nothing, whether a client was there or its session waited for one.
func TestForgottenDeviceLeavesNothing(t *testing.T) {
	s := newSite()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	alone, there, other := s.let(t, b, 5, kept("d1", "alone"), hour), s.let(t, b, 5, kept("d1", "there"), hour), s.let(t, b, 5, kept("d10", "c"), hour)
	for _, c := range []client5{alone, there} {
		c.subscribe("x/d1/a")
	}
	leave(t, alone)
	leave(t, other)
	b.Forget("d1")
	if pk, ok := there.next(); !ok || pk.FixedHeader.Type != v5.Disconnect {
		t.Errorf("the connection has %+v", pk)
	}
	for _, id := range []string{"alone", "there"} {
		if _, answer := hello5(t, b, 5, kept("d1", id), hour); answer.ReasonCode != 0 || answer.SessionPresent {
			t.Errorf("%s: answered %#x, session %v", id, answer.ReasonCode, answer.SessionPresent)
		}
	}
	if _, answer := hello5(t, b, 5, kept("d10", "c"), hour); !answer.SessionPresent {
		t.Error("the control: another device's session has gone too")
	}
}

// One device with a client id for each connection throws out its own oldest client, and nobody else's.
func TestClientsOfADeviceAreBounded(t *testing.T) {
	s := newSite()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	other := s.let(t, b, 5, as("d2", "c"), v5.Properties{})
	var all []client5
	for i := range 9 {
		all = append(all, s.let(t, b, 5, as("d1", string(rune('a'+i))), v5.Properties{}))
	}
	if pk, ok := all[0].next(); !ok || pk.FixedHeader.Type != v5.Disconnect {
		t.Errorf("the oldest has %+v", pk)
	}
	for _, c := range append(all[1:], other) {
		ping := v5.Packet{ProtocolVersion: 5, FixedHeader: v5.FixedHeader{Type: v5.Pingreq}}
		c.send(ping.PingreqEncode)
		if pk, ok := c.next(); !ok || pk.FixedHeader.Type != v5.Pingresp {
			t.Errorf("a client that is not too many has %+v", pk)
		}
	}
}
