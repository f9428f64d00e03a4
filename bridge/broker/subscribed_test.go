package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	v5 "github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/bridge/broker"
)

// client5 speaks MQTT 5, or what version says, packet by packet.
type client5 struct {
	net.Conn
	t       *testing.T
	version byte
}

func connect5(t *testing.T, b *broker.Broker, id string, props v5.Properties) client5 {
	t.Helper()
	c, answer := hello5(t, b, 5, v5.ConnectParams{ClientIdentifier: id, Username: []byte("site"), Password: []byte("pw")}, props)
	if answer.ReasonCode != 0 {
		t.Fatalf("CONNECT was answered %+v", answer)
	}
	return c
}

// hello5 connects, and returns the CONNACK.
func hello5(t *testing.T, b *broker.Broker, version byte, as v5.ConnectParams, props v5.Properties) (client5, v5.Packet) {
	t.Helper()
	c := dial5(t, b, version, as, props)
	answer := c.read()
	if answer.FixedHeader.Type != v5.Connack {
		t.Fatalf("CONNECT was answered %+v", answer)
	}
	return c, answer
}

// dial5 sends a CONNECT.
func dial5(t *testing.T, b *broker.Broker, version byte, as v5.ConnectParams, props v5.Properties) client5 {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := client5{conn, t, version}
	as.ProtocolName, as.Keepalive, as.UsernameFlag, as.PasswordFlag = []byte("MQTT"), 60, true, true
	hello := v5.Packet{ProtocolVersion: version, FixedHeader: v5.FixedHeader{Type: v5.Connect}, Properties: props, Connect: as}
	c.send(hello.ConnectEncode)
	return c
}

func (c client5) send(encode func(*bytes.Buffer) error) {
	c.t.Helper()
	var buf bytes.Buffer
	if err := encode(&buf); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Write(buf.Bytes()); err != nil {
		c.t.Fatal(err)
	}
}

// read reads the next packet.
func (c client5) read() v5.Packet {
	c.t.Helper()
	pk, ok := c.next()
	if !ok {
		c.t.Fatal("the connection has ended")
	}
	return pk
}

// next is read, or false if the broker has ended the connection.
func (c client5) next() (v5.Packet, bool) {
	c.t.Helper()
	pk := v5.Packet{ProtocolVersion: c.version}
	var first [1]byte
	_, err := io.ReadFull(c, first[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal(err)
	}
	if err != nil {
		return pk, false
	}
	if err := pk.FixedHeader.Decode(first[0]); err != nil {
		c.t.Fatal(err)
	}
	n, _, err := v5.DecodeLength(byteReader{c})
	if err != nil {
		c.t.Fatal(err)
	}
	body := make([]byte, n)
	if _, err = io.ReadFull(c, body); err == nil {
		pk.FixedHeader.Remaining = n
		switch pk.FixedHeader.Type {
		case v5.Connack:
			err = pk.ConnackDecode(body)
		case v5.Suback:
			err = pk.SubackDecode(body)
		case v5.Puback, v5.Pubrec:
			err = pk.PubackDecode(body)
		case v5.Publish:
			err = pk.PublishDecode(body)
		case v5.Disconnect:
			err = pk.DisconnectDecode(body)
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return pk, true
}

type byteReader struct{ io.Reader }

func (r byteReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

// subscribe returns the codes of the SUBACK.
func (c client5) subscribe(filters ...string) []byte {
	c.t.Helper()
	pk := v5.Packet{ProtocolVersion: c.version, FixedHeader: v5.FixedHeader{Type: v5.Subscribe, Qos: 1}, PacketID: 7}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, v5.Subscription{Filter: f, Qos: 1})
	}
	c.send(pk.SubscribeEncode)
	answer := c.read()
	if answer.FixedHeader.Type != v5.Suback || answer.PacketID != 7 {
		c.t.Fatalf("SUBSCRIBE was answered %+v", answer)
	}
	return answer.ReasonCodes
}

// numbered are n filters of a plant from number first on.
func numbered(plant string, first, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s/%d/temp", plant, first+i)
	}
	return list
}

// fill subscribes to all that one client may, and returns how much that is and the code of what was refused.
func (c client5) fill(plant string) (granted int, refused byte) {
	c.t.Helper()
	for {
		for _, code := range c.subscribe(numbered(plant, granted, 500)...) {
			if code > 2 {
				return granted, code
			}
			granted++
		}
		if granted > broker.MaxSubscribedBytes/1000 {
			c.t.Fatalf("%d filters and no end", granted)
		}
	}
}

// counted is the value of a metric, of one reason if that is not empty.
func counted(t *testing.T, reg *prometheus.Registry, name, reason string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (reason == "" || m.GetLabel()[0].GetValue() == reason) {
				n += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return n
}

// Of one client: what is too much is refused and counted, filter by filter, and costs neither the connection nor what is
// subscribed to already.
func TestSubscriptionsOfOneClientAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	b, _, _ := startCounted(t, reg)
	c := connect5(t, b, "greedy", v5.Properties{})
	granted, code := c.fill("plant")
	if granted < 1000 || code != 0x97 {
		t.Errorf("%d filters, then code %#x; want more than 1000, then 0x97", granted, code)
	}
	if codes := c.subscribe("plant/0/temp"); codes[0] != 1 {
		t.Errorf("a filter that it had was answered %#x", codes[0])
	}
	drop := v5.Packet{
		ProtocolVersion: 5, FixedHeader: v5.FixedHeader{Type: v5.Unsubscribe, Qos: 1}, PacketID: 8,
		Filters: v5.Subscriptions{{Filter: "plant/0/temp"}},
	}
	c.send(drop.UnsubscribeEncode)
	c.read()
	if codes := c.subscribe("plant/x/temp", "plant/y/temp"); codes[0] != 1 || codes[1] != 0x97 {
		t.Errorf("after one was given back two were answered % x", codes)
	}
	if n := counted(t, reg, "fairlead_broker_refused_total", "subscription_limit"); n < 2 {
		t.Errorf("%v refusals are counted", n)
	}
}

// A filter that is too long or too deep, and a crowd of wildcards in one SUBSCRIBE; MQTT 3.1.1 has one code for all.
func TestFiltersAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	b, _, _ := startCounted(t, reg)
	c := connect5(t, b, "c", v5.Properties{})
	deep, long := strings.Repeat("d/", 100)+"#", strings.Repeat("x", 600)
	if codes := c.subscribe("a", deep, long, "b"); !bytes.Equal(codes, []byte{1, 0x8f, 0x8f, 1}) {
		t.Errorf("answered % x", codes)
	}
	if n := counted(t, reg, "fairlead_broker_refused_total", "filter_too_long"); n != 2 {
		t.Errorf("%v refusals are counted", n)
	}
	all := make([]string, 1000)
	for i := range all {
		all[i] = "#"
	}
	codes := c.subscribe(all...)
	if codes[0] != 1 || codes[999] != 0x97 {
		t.Errorf("of many wildcards in one packet the first was answered %#x, the last %#x", codes[0], codes[999])
	}
	old, _ := raw(t, b, "old")
	ask := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	ask.MessageID, ask.Topics, ask.Qoss = 3, []string{"a", deep, long}, []byte{1, 1, 1}
	if err := ask.Write(old); err != nil {
		t.Fatal(err)
	}
	answer, err := packets.ReadPacket(old)
	if err != nil {
		t.Fatal(err)
	}
	if s := answer.(*packets.SubackPacket); s.MessageID != 3 || !bytes.Equal(s.ReturnCodes, []byte{1, 0x80, 0x80}) {
		t.Errorf("MQTT 3.1.1 was answered %+v", s)
	}
}

// Of all clients: who is there has a share, whoever has taken the rest, and sessions without their clients make room.
func TestSubscriptionsOfAllClientsAreBounded(t *testing.T) {
	b, _, _ := start(t)
	const most = broker.MaxAllSubscribed / broker.MaxSubscribedBytes
	before := heap()
	week := v5.Properties{SessionExpiryInterval: 7 * 24 * 3600, SessionExpiryIntervalFlag: true}
	greedy := make([]client5, most+1)
	for i := range greedy {
		greedy[i] = connect5(t, b, fmt.Sprint("greedy", i), week)
		granted, _ := greedy[i].fill(fmt.Sprint(i))
		if i < most-1 && granted < 1000 || i == most && (granted < 10 || granted > 500) {
			t.Errorf("client %d got %d filters", i, granted)
		}
	}
	if grown := heap() - before; grown > broker.MaxAllSubscribed {
		t.Errorf("the subscriptions hold %d bytes, counted for at most %d", grown, broker.MaxAllSubscribed)
	}
	bye := v5.Packet{ProtocolVersion: 5, FixedHeader: v5.FixedHeader{Type: v5.Disconnect}}
	greedy[0].send(bye.DisconnectEncode)
	_, _ = greedy[0].Read(make([]byte, 1)) // its end
	next, granted := connect5(t, b, "next", week), 0
	for deadline := time.Now().Add(patience); granted < 1000 && time.Now().Before(deadline); {
		granted, _ = next.fill("next") // until the broker has noticed that the session is alone
	}
	if granted < 1000 {
		t.Errorf("after a session was left alone the next got %d filters", granted)
	}
}
