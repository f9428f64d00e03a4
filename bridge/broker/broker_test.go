package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/bridge/broker"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func start(t *testing.T) (*broker.Broker, string, func()) {
	t.Helper()
	return startCounted(t, prometheus.NewRegistry())
}

// startCounted starts a broker whose metrics the test looks at.
func startCounted(t *testing.T, reg *prometheus.Registry, before ...func(*broker.Broker)) (*broker.Broker, string, func()) {
	t.Helper()
	return startWith(t, configs.Broker{Listen: "127.0.0.1:0", Username: "site", Password: "pw"}, reg, before...)
}

func startWith(t *testing.T, cfg configs.Broker, reg *prometheus.Registry, before ...func(*broker.Broker)) (*broker.Broker, string, func()) {
	t.Helper()
	b, err := broker.New(cfg, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range before {
		f(b)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("broker does not stop")
		}
	}
	t.Cleanup(stop)
	_, port, err := net.SplitHostPort(b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return b, port, stop
}

var login = []string{"-u", "site", "-P", "pw"}

func TestNobodyWithoutPassword(t *testing.T) {
	_, port, _ := start(t)
	for name, args := range map[string][]string{
		"anonymous":      nil,
		"user only":      {"-u", "site"},
		"wrong password": {"-u", "site", "-P", "pww"},
		"wrong user":     {"-u", "admin", "-P", "pw"},
		"hub's name":     {"-u", "fairlead-hub", "-P", "pw"},
		"no password":    {"-u", "site", "-P", ""},
		"will to $SYS":   {"-u", "site", "-P", "pw", "--will-topic", "$SYS/x", "--will-payload", "x"},
	} {
		if err := mosquittotest.PubTo(t, port, append(args, "-q", "1"), "a", "x"); err == nil {
			t.Errorf("%s was let in", name)
		}
	}
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		if err := mosquittotest.PubTo(t, port, append([]string{"-q", "2", "-V", version}, login...), "a", "x"); err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
}

func TestNoCredentialsNoBroker(t *testing.T) {
	for _, cfg := range []configs.Broker{
		{Listen: "127.0.0.1:0"}, {Listen: "127.0.0.1:0", Username: "u"}, {Listen: "127.0.0.1:0", Username: "fairlead-hub", Password: "p"},
	} {
		if _, err := broker.New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
	busy, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	_, err = broker.New(configs.Broker{Listen: busy.Addr().String(), Username: "u", Password: "p"}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err == nil || !strings.Contains(err.Error(), "bridge.broker.listen") {
		t.Errorf("port in use: %v, want an error that names the key", err)
	}
}

func TestReservedTopicsAreClosed(t *testing.T) {
	_, port, _ := start(t)
	got := mosquittotest.SubTo(t, port, login, "$SYS/broker/x", "$x/#", "a")
	for _, topic := range []string{"$SYS/broker/x", "$x/y"} {
		for _, qos := range []string{"0", "1"} {
			_ = mosquittotest.PubTo(t, port, append([]string{"-q", qos, "-V", "mqttv5"}, login...), topic, "x") // refused or ignored
		}
	}
	if err := mosquittotest.PubTo(t, port, append([]string{"-q", "1"}, login...), "a", "end"); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.Topic != "a" {
		t.Errorf("%s was delivered", m.Topic)
	}
}

// consumer is the hub's bridge: it acknowledges when the test says so.
type consumer struct {
	mqtt.Client
	got chan mqtt.Message
}

func connect(t *testing.T, b *broker.Broker, id string, filters map[string]byte) *consumer {
	t.Helper()
	c := &consumer{got: make(chan mqtt.Message, 10_000)}
	hub := b.Hub()
	c.Client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(hub.URL).SetUsername(hub.Username).SetPassword(string(hub.Password)).
		SetClientID(id).SetCleanSession(false).SetAutoReconnect(false).SetAutoAckDisabled(true).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.got <- m }))
	wait(t, c.Connect())
	if filters != nil {
		wait(t, c.SubscribeMultiple(filters, nil))
	}
	t.Cleanup(func() { c.Disconnect(100) })
	return c
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("mqtt: %v", token.Error())
	}
}

func publisher(t *testing.T, b *broker.Broker) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(b.Hub().URL).SetUsername("site").SetPassword("pw").SetAutoReconnect(false))
	wait(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(100) })
	return c
}

// A PUBACK means stored: the publisher has none before the hub has acknowledged.
func TestPublisherWaitsForTheHub(t *testing.T) {
	b, _, _ := start(t)
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	pub := publisher(t, b)
	for _, qos := range []byte{1, 2} {
		token := pub.Publish("tele/a", qos, false, "x")
		m := <-hub.got
		select {
		case <-token.Done():
			t.Fatalf("QoS %d: acknowledged before the hub has it", qos)
		case <-time.After(100 * time.Millisecond): // nothing must happen; there is no event for nothing
		}
		m.Ack()
		wait(t, token)
	}
	wait(t, pub.Publish("other/a", 1, false, "x")) // nobody of ours wants it: no waiting
	wait(t, pub.Publish("tele/a", 0, false, "x"))
	if m := <-hub.got; m.Qos() != 0 {
		t.Errorf("QoS %d", m.Qos())
	}
}

// The hub's link breaks before it has acknowledged: the message comes again, and the publisher waits until then.
func TestPublisherWaitsForTheHubToComeBack(t *testing.T) {
	b, _, _ := start(t)
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	pub := publisher(t, b)
	token := pub.Publish("tele/a", 1, false, "first")
	<-hub.got
	hub.Disconnect(0)
	hub = connect(t, b, "hub", nil)
	m := <-hub.got
	if string(m.Payload()) != "first" || !m.Duplicate() {
		t.Errorf("got %q duplicate=%v", m.Payload(), m.Duplicate())
	}
	select {
	case <-token.Done():
		t.Fatal("acknowledged before the hub has it")
	default:
	}
	m.Ack()
	wait(t, token)
}

// Broker and hub die together, as they are one process: no publisher holds an acknowledgement for what is gone.
func TestNothingAcknowledgedIsLostWithTheProcess(t *testing.T) {
	b, _, stop := start(t)
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	pub := publisher(t, b)
	const n, stored = 20, 7
	tokens := make([]mqtt.Token, n)
	for i := range tokens {
		tokens[i] = pub.Publish("tele/a", 1, false, fmt.Sprint(i))
	}
	for range stored {
		(<-hub.got).Ack()
	}
	wait(t, tokens[stored-1])
	stop()
	acked := 0
	for _, token := range tokens {
		select {
		case <-token.Done():
			if token.Error() == nil {
				acked++
			}
		default:
		}
	}
	if acked != stored {
		t.Errorf("%d acknowledged, want the %d that the hub had stored", acked, stored)
	}
}

func TestManyPublishersLoseNothing(t *testing.T) {
	b, _, _ := start(t)
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	const publishers, each = 20, 50
	seen := make(chan map[string]int, 1)
	go func() {
		counts := map[string]int{}
		for len(counts) < publishers*each {
			m := <-hub.got
			counts[string(m.Payload())]++
			m.Ack()
		}
		seen <- counts
	}()
	errs := make(chan error, publishers)
	for p := range publishers {
		pub := publisher(t, b)
		go func() {
			for i := range each {
				token := pub.Publish("tele/a", 1, false, fmt.Sprintf("%d/%d", p, i))
				if !token.WaitTimeout(patience) || token.Error() != nil {
					errs <- fmt.Errorf("publish: %w", token.Error())
					return
				}
			}
			errs <- nil
		}()
	}
	for range publishers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for payload, n := range <-seen {
		if n != 1 {
			t.Errorf("%s came %d times", payload, n)
		}
	}
}

func TestHubsClientIDIsItsOwn(t *testing.T) {
	b, port, _ := start(t)
	hub := connect(t, b, "hub", nil)
	if err := mosquittotest.PubTo(t, port, append([]string{"-i", "hub", "-q", "1"}, login...), "a", "x"); err == nil {
		t.Error("another client took the hub's session")
	}
	if !hub.IsConnectionOpen() {
		t.Error("the hub was thrown out")
	}
}

func TestRetainedSurvivesAndIsBounded(t *testing.T) {
	b, port, _ := start(t)
	pub := publisher(t, b)
	for i := range broker.MaxRetained + 100 {
		token := pub.Publish(fmt.Sprintf("r/%d", i), 0, true, "x")
		if i%1000 == 0 {
			wait(t, token)
		}
	}
	wait(t, pub.Publish("flush", 2, false, "x"))
	got := mosquittotest.SubTo(t, port, login, "r/0", fmt.Sprintf("r/%d", broker.MaxRetained+99), "end")
	if err := mosquittotest.PubTo(t, port, login, "end", "x"); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.Topic != "r/0" || !m.Retained {
		t.Errorf("got %+v, want the first retained message", m)
	}
	if m := <-got; m.Topic != "end" {
		t.Errorf("got %+v, want nothing retained beyond the limit", m)
	}
}

func TestOversizePacketEndsItsClientOnly(t *testing.T) {
	b, _, _ := start(t)
	other, pub := publisher(t, b), publisher(t, b)
	pub.Publish("a", 1, false, make([]byte, broker.MaxPacketBytes+1))
	deadline := time.Now().Add(patience)
	for pub.IsConnectionOpen() && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // paho tells the loss to a handler only
	}
	if pub.IsConnectionOpen() {
		t.Error("a packet beyond the limit was taken")
	}
	wait(t, other.Publish("a", 1, false, "x"))
}

// A socket that has said nothing yet, or is saying who it is at that very moment, does not hold the hub up.
func TestStopClosesWhoIsOnTheWayIn(t *testing.T) {
	for range 20 {
		b, _, stop := start(t)
		silent, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		var connecting sync.WaitGroup
		for i := range 20 {
			client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).SetClientID(fmt.Sprint(i)).
				SetUsername("site").SetPassword("pw").SetAutoReconnect(false))
			token := client.Connect()
			connecting.Go(func() {
				token.Wait()
				client.Disconnect(0)
			})
		}
		stop()
		connecting.Wait()
		_ = silent.SetReadDeadline(time.Now().Add(patience))
		if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the silent socket is still open:", err)
		}
		_ = silent.Close()
	}
}

// A client that took the hub's id before the hub came leaves it nothing: neither its subscriptions nor its messages.
func TestHubInheritsNoStrangersSession(t *testing.T) {
	b, _, _ := start(t)
	stranger, pub := subscribeAll(t, b, "hub", 1), publisher(t, b)
	wait(t, pub.Publish("private/a", 1, false, "x"))
	if _, err := packets.ReadPacket(stranger); err != nil { // and it does not acknowledge
		t.Fatal(err)
	}
	hub := connect(t, b, "hub", map[string]byte{"tele/#": 1})
	pub.Publish("private/b", 1, false, "y")
	pub.Publish("tele/a", 1, false, "z")
	if m := <-hub.got; m.Topic() != "tele/a" {
		t.Errorf("the hub got %s, to which it is not subscribed", m.Topic())
	}
	hub.Disconnect(0)
	hub = connect(t, b, "hub", nil) // its own session it keeps
	if m := <-hub.got; m.Topic() != "tele/a" || !m.Duplicate() {
		t.Errorf("after it reconnected the hub got %s", m.Topic())
	}
}
