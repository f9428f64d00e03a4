package broker_test

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	v5 "github.com/mochi-mqtt/server/v2/packets"

	"github.com/fairlead-hub/fairlead/bridge/broker"
)

// retained returns what c gets retained for topic.
func retained(t *testing.T, c mqtt.Client, topic string) (bytes int) {
	t.Helper()
	got := make(chan int, 1)
	wait(t, c.Subscribe("end", 1, func(mqtt.Client, mqtt.Message) { got <- 0 }))
	wait(t, c.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) { bytes += len(m.Payload()) }))
	wait(t, c.Publish("end", 1, false, "x")) // comes after what is retained
	<-got
	wait(t, c.Unsubscribe(topic))
	return bytes
}

// One client retains messages as large as they may be: their bytes are bounded, an update counts once, an empty message
// gives its bytes back.
func TestRetainedBytesAreBounded(t *testing.T) {
	b, _, _ := start(t)
	pub, reader := publisher(t, b), publisher(t, b)
	large := make([]byte, broker.MaxPacketBytes-2048)
	const most = broker.MaxRetainedBytes / broker.MaxPacketBytes
	for range 2 * most { // updates of one topic take the place of one
		wait(t, pub.Publish("r/0", 1, true, large))
	}
	for i := range most + most/4 {
		wait(t, pub.Publish(fmt.Sprintf("r/%d", i), 1, true, large))
	}
	kept := 0
	for i := range most + most/4 {
		bytes := retained(t, reader, fmt.Sprintf("r/%d", i))
		if kept += bytes; bytes == 0 && i < most {
			t.Errorf("r/%d is not retained, although it fits", i)
		}
	}
	if kept > broker.MaxRetainedBytes {
		t.Errorf("%d bytes are retained, want at most %d", kept, broker.MaxRetainedBytes)
	}
	wait(t, pub.Publish("r/0", 1, true, ""))
	wait(t, pub.Publish("r/new", 1, true, large))
	if retained(t, reader, "r/new") == 0 {
		t.Error("an empty message did not give its place back")
	}
}

// raw connects without a client library, for crowds of thousands. It returns nil if the broker closed the socket.
func raw(t *testing.T, b *broker.Broker, id string) (net.Conn, *packets.ConnackPacket) {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.ClientIdentifier = "MQTT", 4, id
	hello.UsernameFlag, hello.Username, hello.PasswordFlag, hello.Password = true, "site", true, []byte("pw")
	if err := hello.Write(conn); err != nil {
		t.Fatal(err)
	}
	answer, err := packets.ReadPacket(conn)
	if err != nil {
		return conn, nil
	}
	return conn, answer.(*packets.ConnackPacket)
}

// leave ends a connection, and returns when the broker has ended it too.
func leave(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := packets.NewControlPacket(packets.Disconnect).Write(conn); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Read(make([]byte, 1))
	_ = conn.Close()
}

// Firmware with a new client id for each connection leaves a session each. It locks nobody out: the oldest of what it left
// makes room, and neither the hub's session nor that of a client that is there does.
func TestSessionAloneLongestMakesRoom(t *testing.T) {
	b, _, _ := start(t)
	connect(t, b, "hub", map[string]byte{"tele/#": 1}).Disconnect(0)
	there, _ := raw(t, b, "there")
	for i := range broker.MaxSessions + 10 {
		conn, hello := raw(t, b, fmt.Sprintf("random-%d", i))
		if hello == nil || hello.ReturnCode != packets.Accepted {
			t.Fatalf("client %d was refused: %v", i, hello)
		}
		leave(t, conn)
	}
	if err := packets.NewControlPacket(packets.Pingreq).Write(there); err != nil {
		t.Fatal(err)
	}
	if _, err := packets.ReadPacket(there); err != nil {
		t.Error("a client that was there was thrown out:", err)
	}
	_ = there.Close()
	for id, want := range map[string]bool{"random-0": false, fmt.Sprintf("random-%d", broker.MaxSessions): true} {
		if _, hello := raw(t, b, id); hello == nil || hello.SessionPresent != want {
			t.Errorf("%s: %v, want a session: %v", id, hello, want)
		}
	}
	hub := b.Hub()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(hub.URL).SetUsername(hub.Username).SetPassword(string(hub.Password)).
		SetClientID("hub").SetCleanSession(false).SetAutoReconnect(false))
	token := c.Connect()
	wait(t, token)
	defer c.Disconnect(0)
	if !token.(*mqtt.ConnectToken).SessionPresent() {
		t.Error("the hub's session made room")
	}
}

// A client too many is told so, and the hub has its place all the same.
func TestPlaceForTheHub(t *testing.T) {
	b, _, _ := start(t)
	for i := range broker.MaxClients {
		if _, hello := raw(t, b, fmt.Sprint(i)); hello == nil || hello.ReturnCode != packets.Accepted {
			t.Fatalf("client %d was refused: %v", i, hello)
		}
	}
	if _, hello := raw(t, b, "one more"); hello == nil || hello.ReturnCode != packets.ErrRefusedServerUnavailable {
		t.Errorf("a client too many was answered %v", hello)
	}
	connect(t, b, "hub", map[string]byte{"tele/#": 1})
}

// Sockets that say nothing keep nobody out.
func TestSilentSocketsMakeRoom(t *testing.T) {
	b, _, _ := start(t)
	for range broker.MaxClients + 400 {
		conn, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	wait(t, publisher(t, b).Publish("a", 1, false, "x"))
}

// away leaves a session behind that everything is kept for.
func away(t *testing.T, b *broker.Broker, id string) {
	t.Helper()
	leave(t, subscribeAll(t, b, id, 1))
}

// subscribeAll returns a connection that everything is sent to.
func subscribeAll(t *testing.T, b *broker.Broker, id string, qos byte) net.Conn {
	t.Helper()
	conn, _ := raw(t, b, id)
	all := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	all.MessageID, all.Topics, all.Qoss = 1, []string{"#"}, []byte{qos}
	if err := all.Write(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := packets.ReadPacket(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

const largeBytes = 60 << 10

// What waits for one client is bounded in bytes, and there is room again when it has taken it.
func TestSessionBytesAreBounded(t *testing.T) {
	b, _, _ := start(t)
	away(t, b, "away")
	pub := publisher(t, b)
	const n = broker.MaxSessionBytes/largeBytes + 20
	for range n {
		wait(t, pub.Publish("a", 1, false, make([]byte, largeBytes)))
	}
	got := make(chan mqtt.Message, 2*n)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).SetClientID("away").SetUsername("site").
		SetPassword("pw").SetCleanSession(false).SetAutoReconnect(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { got <- m }))
	wait(t, c.Connect())
	defer c.Disconnect(100)
	bytes := 0
	for range broker.MaxSessionBytes / (largeBytes + 2048) {
		bytes += len((<-got).Payload())
	}
	// What follows is the next message only if nothing more was kept. It comes once the first is acknowledged.
	for end := false; !end; {
		wait(t, pub.Publish("end", 1, false, "x"))
		select {
		case m := <-got:
			bytes += len(m.Payload())
			end = m.Topic() == "end"
		case <-time.After(time.Second): // not handed out: its acknowledgements were not yet read
		}
	}
	if bytes > broker.MaxSessionBytes+largeBytes {
		t.Errorf("%d bytes waited, want at most %d", bytes, broker.MaxSessionBytes)
	}
}

// Sessions without their clients hold no more than all may together: those that have been alone longest go, and who is
// there gets its messages.
func TestQueuedBytesAreBounded(t *testing.T) {
	b, _, _ := start(t)
	const most = broker.MaxQueuedBytes / broker.MaxSessionBytes
	for i := range most + 8 {
		away(t, b, fmt.Sprintf("away-%d", i))
	}
	there, pub := publisher(t, b), publisher(t, b)
	got := make(chan mqtt.Message, 1000)
	wait(t, there.Subscribe("a", 1, func(_ mqtt.Client, m mqtt.Message) { got <- m }))
	for range broker.MaxSessionBytes/largeBytes + 1 {
		wait(t, pub.Publish("a", 1, false, make([]byte, largeBytes)))
		<-got
	}
	remain := 0
	for i := range most + 8 {
		conn, hello := raw(t, b, fmt.Sprintf("away-%d", i))
		if hello == nil {
			t.Fatal("refused")
		}
		if hello.SessionPresent {
			remain++
		} else if i >= most {
			t.Errorf("the session that was left as number %d went before older ones", i)
		}
		_ = conn.Close()
	}
	if remain > most || remain == 0 {
		t.Errorf("%d full sessions remain, want at most %d", remain, most)
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// What waits for clients that do not read is bounded in bytes, and who reads gets its messages.
func TestUnsentBytesAreBounded(t *testing.T) {
	b, _, _ := start(t)
	for i := range 20 {
		subscribeAll(t, b, fmt.Sprint(i), 0)
	}
	there, pub := publisher(t, b), publisher(t, b)
	got := make(chan mqtt.Message, 1)
	wait(t, there.Subscribe("a", 0, func(_ mqtt.Client, m mqtt.Message) { got <- m }))
	before := heap()
	for range 400 {
		wait(t, pub.Publish("a", 1, false, make([]byte, largeBytes)))
		<-got
	}
	if grown := heap() - before; grown > broker.MaxAllUnsent*3/2 {
		t.Errorf("%d bytes wait, want at most about %d", grown, broker.MaxAllUnsent)
	}
}

// A CONNECT, whose will a session keeps, and the depth of a topic, for which the broker keeps a tree, are bounded.
func TestWillsAndDepthAreBounded(t *testing.T) {
	b, _, _ := start(t)
	options := func() *mqtt.ClientOptions {
		return mqtt.NewClientOptions().AddBroker(b.Hub().URL).SetUsername("site").SetPassword("pw").SetAutoReconnect(false)
	}
	deep := strings.Repeat("d/", 100)
	for name, o := range map[string]*mqtt.ClientOptions{
		"large will": options().SetBinaryWill("w", make([]byte, largeBytes), 0, false),
		"deep will":  options().SetWill(deep, "x", 0, true),
		"will to +":  options().SetWill("tele/+/LWT", "x", 0, true), // no topic: it would be sent to others as one
		"will to #":  options().SetWill("#", "x", 1, false),
	} {
		c := mqtt.NewClient(o)
		if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() == nil {
			t.Errorf("%s was taken", name)
		}
		c.Disconnect(0)
	}
	for name, send := range map[string]func(mqtt.Client){
		"deep topic": func(c mqtt.Client) { c.Publish(deep, 1, true, "x") },
	} {
		lost := make(chan struct{})
		c := mqtt.NewClient(options().SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
		wait(t, c.Connect())
		send(c)
		select {
		case <-lost:
		case <-time.After(patience):
			t.Errorf("%s was taken", name)
		}
		c.Disconnect(0)
	}
}

// Nobody says by a DISCONNECT that its session shall wait for years.
func TestSessionExpiryIsBounded(t *testing.T) {
	b, _, _ := start(t)
	const week = 7 * 24 * 3600
	for id, ask := range map[string]uint32{"years": 100_000_000, "hour": 3600} {
		c := connect5(t, b, id, v5.Properties{SessionExpiryInterval: 60, SessionExpiryIntervalFlag: true})
		bye := v5.Packet{
			ProtocolVersion: 5, FixedHeader: v5.FixedHeader{Type: v5.Disconnect},
			Properties: v5.Properties{SessionExpiryInterval: ask, SessionExpiryIntervalFlag: true},
		}
		c.send(bye.DisconnectEncode)
		got, alone := broker.SessionExpiry(b, id)
		for deadline := time.Now().Add(patience); !alone && time.Now().Before(deadline); got, alone = broker.SessionExpiry(b, id) {
			time.Sleep(time.Millisecond) // the broker tells nobody that a client is gone
		}
		if got != min(ask, week) {
			t.Errorf("the session of %s waits for %d s, alone %v", id, got, alone)
		}
	}
}
