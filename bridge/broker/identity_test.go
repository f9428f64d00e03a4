package broker_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v5 "github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/bridge/broker"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// site is the rest of the hub: a token is "t.<device>.x", and below "x/<device>/" a device may do as it likes.
type site struct {
	mu         sync.Mutex
	until      time.Time        // guarded by mu
	refused    *broker.Refusal  // guarded by mu: whoever comes
	gone       map[string]error // guarded by mu
	all        bool             // guarded by mu: everything is everybody's
	denied     []string         // guarded by mu
	ended      []string         // guarded by mu
	subscribed []string         // guarded by mu
}

func newSite() *site { return &site{until: time.Now().Add(time.Hour), gone: map[string]error{}} }

func (s *site) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *site) letIn(b *broker.Broker) {
	b.LetIn(broker.Devices{
		Admit: s.admit, Topics: s,
		Subscribed: func(device, filter string) { s.set(func() { s.subscribed = append(s.subscribed, device+" "+filter) }) },
		Denied: func(device, what string, payload []byte) {
			s.set(func() { s.denied = append(s.denied, fmt.Sprintf("%s %s %s", device, what, payload)) })
		},
		Ended: func(device, cause, _ string) { s.set(func() { s.ended = append(s.ended, device+" "+cause) }) },
	})
}

func (s *site) admit(_ context.Context, token string, from netip.Addr) (broker.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(token, ".")
	switch {
	case s.refused != nil:
		return broker.Identity{}, s.refused
	case len(parts) != 3 || !from.IsLoopback():
		return broker.Identity{}, &broker.Refusal{Status: http.StatusUnauthorized, Reason: "token_malformed: no token"}
	}
	device := parts[1]
	return broker.Identity{Device: device, Until: s.until, Still: func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.gone[device]
	}}, nil
}

func (s *site) MayPublish(device, topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all || strings.HasPrefix(topic, "x/"+device+"/")
}
func (s *site) MaySubscribe(device, filter string) bool { return s.MayPublish(device, filter) }
func (s *site) MayRead(device, topic string) bool       { return s.MayPublish(device, topic) }

func token(device string) string { return "t." + device + ".x" }

// as is what a client of a device says at connect.
func as(device, client string) v5.ConnectParams {
	return v5.ConnectParams{ClientIdentifier: client, Username: []byte(device), Password: []byte(token(device)), Clean: true}
}

// login are mosquitto's arguments for a device.
func loginOf(device string) []string { return []string{"-u", device, "-P", token(device)} }

// let connects a client of a device.
func (s *site) let(t *testing.T, b *broker.Broker, version byte, params v5.ConnectParams, props v5.Properties) client5 {
	t.Helper()
	c, answer := hello5(t, b, version, params, props)
	if answer.ReasonCode != 0 {
		t.Fatalf("%s was refused with %#x %s", params.Username, answer.ReasonCode, answer.Properties.ReasonString)
	}
	return c
}

// publish sends a message and returns what comes of it: the acknowledgement, or how the connection ends.
func (c client5) publish(topic string, qos byte) (v5.Packet, bool) {
	c.t.Helper()
	pk := v5.Packet{ProtocolVersion: c.version, FixedHeader: v5.FixedHeader{Type: v5.Publish, Qos: qos}, TopicName: topic, Payload: []byte("x"), PacketID: 9}
	if qos == 0 {
		pk.PacketID = 0
	}
	c.send(pk.PublishEncode)
	if qos == 0 {
		ping := v5.Packet{ProtocolVersion: c.version, FixedHeader: v5.FixedHeader{Type: v5.Pingreq}}
		c.send(ping.PingreqEncode)
	}
	return c.next()
}

func TestTokenIsADevice(t *testing.T) {
	reg, s := prometheus.NewRegistry(), newSite()
	b, port, _ := startCounted(t, reg, s.letIn)
	hub := connect(t, b, "hub", map[string]byte{"#": 1})
	go func() {
		for {
			select {
			case m := <-hub.got:
				m.Ack()
			case <-t.Context().Done():
				return
			}
		}
	}()
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		for _, name := range []string{"d1", "token", "unused", ""} {
			if err := mosquittotest.PubTo(t, port, []string{"-V", version, "-q", "1", "-u", name, "-P", token("d1")}, "x/d1/a", "x"); err != nil {
				t.Errorf("%s as %q: %v", version, name, err)
			}
		}
		for name, args := range map[string][]string{
			"another's name":   {"-u", "d2", "-P", token("d1")},
			"the site's name":  {"-u", "site", "-P", token("d1")},
			"no token":         {"-u", "d1", "-P", "pw"},
			"no password":      {"-u", "d1"},
			"nothing":          nil,
			"a wrong password": {"-u", "site", "-P", "pww"},
		} {
			if err := mosquittotest.PubTo(t, port, append(args, "-V", version, "-q", "1"), "x/d1/a", "x"); err == nil {
				t.Errorf("%s: %s was let in", version, name)
			}
		}
		if err := mosquittotest.PubTo(t, port, append([]string{"-V", version, "-q", "1"}, login...), "x/d1/a", "x"); err != nil {
			t.Errorf("%s: the site's login: %v", version, err)
		}
	}
	if n := counted(t, reg, "fairlead_broker_refused_total", "auth"); n != 18 {
		t.Errorf("%v were refused, want 18", n)
	}
	// The control: a broker that knows no devices takes no token.
	_, other, _ := start(t)
	if err := mosquittotest.PubTo(t, other, append([]string{"-q", "1"}, loginOf("d1")...), "x/d1/a", "x"); err == nil {
		t.Error("a token was good without anybody to look at it")
	}
}

func TestRefusalsAreTold(t *testing.T) {
	s := newSite()
	b, _, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	for _, c := range []struct {
		status int
		v3, v5 byte
	}{
		{http.StatusUnauthorized, 4, 0x86},
		{http.StatusForbidden, 5, 0x87},
		{http.StatusTooManyRequests, 3, 0x9f},
		{http.StatusServiceUnavailable, 3, 0x88},
	} {
		reason := fmt.Sprint("reason ", c.status)
		s.set(func() { s.refused = &broker.Refusal{Status: c.status, Reason: reason} })
		if _, answer := hello5(t, b, 4, as("d1", "c"), v5.Properties{}); answer.ReasonCode != c.v3 {
			t.Errorf("%d: MQTT 3 was told %#x, want %#x", c.status, answer.ReasonCode, c.v3)
		}
		_, answer := hello5(t, b, 5, as("d1", "c"), v5.Properties{})
		if answer.ReasonCode != c.v5 || answer.Properties.ReasonString != reason {
			t.Errorf("%d: MQTT 5 was told %#x %q, want %#x %q", c.status, answer.ReasonCode, answer.Properties.ReasonString, c.v5, reason)
		}
	}
}

func TestTokensOnly(t *testing.T) {
	s := newSite()
	b, port, _ := startWith(t, configs.Broker{Listen: "127.0.0.1:0", TokensOnly: true}, prometheus.NewRegistry(), s.letIn)
	for name, args := range map[string][]string{"the site's login": login, "no name": {"-u", "", "-P", "x"}, "nothing": nil} {
		if err := mosquittotest.PubTo(t, port, append([]string{"-q", "1"}, args...), "x/d1/a", "x"); err == nil {
			t.Errorf("%s was let in", name)
		}
	}
	if err := mosquittotest.PubTo(t, port, append([]string{"-q", "1"}, loginOf("d1")...), "x/d1/a", "x"); err != nil {
		t.Error(err)
	}
	connect(t, b, "hub", map[string]byte{"x/#": 1})
}

// The hub is told who published, and by nobody else.
func TestHubKnowsThePublisher(t *testing.T) {
	s := newSite()
	b, port, _ := startCounted(t, prometheus.NewRegistry(), s.letIn)
	hub := connect(t, b, "hub", map[string]byte{"x/#": 1})
	for _, c := range []struct {
		login  []string
		author string
	}{{loginOf("d1"), "d1"}, {login, ""}} {
		for _, qos := range []string{"0", "1", "2"} {
			done := make(chan error, 1)
			go func() {
				done <- mosquittotest.PubTo(t, port, append([]string{"-q", qos, "-i", "d2"}, c.login...), "x/d1/a/b", "x")
			}()
			m := <-hub.got
			m.Ack()
			if author, topic := broker.Author(m.Topic()); author != c.author || topic != "x/d1/a/b" {
				t.Errorf("QoS %s by %v: the hub was told %q %q", qos, c.login, author, topic)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	// What is retained is its publisher's too, and so is a will.
	for _, more := range [][]string{{"-r"}, {"--will-topic", "x/d1/will", "--will-payload", "x"}} {
		if err := mosquittotest.PubTo(t, port, append(append(more, "-q", "0"), loginOf("d1")...), "x/d1/kept", "x"); err != nil {
			t.Fatal(err)
		}
		if m := <-hub.got; m.Topic() != "$device/d1/x/d1/kept" {
			t.Errorf("got %s", m.Topic())
		}
	}
	second := connect(t, b, "second", map[string]byte{"x/#": 1})
	if m := <-second.got; m.Topic() != "$device/d1/x/d1/kept" || !m.Retained() {
		t.Errorf("got %s, retained %v", m.Topic(), m.Retained())
	}
}

// eventually waits for what nobody tells.
func (s *site) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		ok := is()
		s.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come about; ended %v, denied %v", what, s.ended, s.denied)
		}
	}
}

func (s *site) heard(list *[]string, want string) func() bool {
	return func() bool { return slices.Contains(*list, want) }
}
