package bridge_test

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// scripted is as much of a broker as is needed to refuse filters and to hang up over them, which mosquitto's file of rules
// cannot. It has the retained messages that a test gives it and sends them on each connection.
type scripted struct {
	tb       testing.TB
	listener net.Listener
	retained map[string]string
	verdict  func(filter string) byte // the QoS granted, denied, or hangUp

	mu      sync.Mutex
	changed chan struct{}   // guarded by mu: closed and renewed on every change
	links   int             // guarded by mu
	held    map[string]bool // guarded by mu: granted on the last link
	asked   map[string]int  // guarded by mu: how often
	longest int             // guarded by mu: bytes of a SUBSCRIBE
	conn    net.Conn        // guarded by mu: the last
}

const (
	denied byte = 0x80
	hangUp byte = 0xff
)

func script(tb testing.TB, retained map[string]string, verdict func(filter string) byte) *scripted {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &scripted{
		tb: tb, listener: listener, retained: retained, verdict: verdict,
		changed: make(chan struct{}), held: map[string]bool{}, asked: map[string]int{},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.serve(conn)
		}
	}()
	tb.Cleanup(func() {
		_ = listener.Close()
		s.cut()
		<-done
	})
	return s
}

func (s *scripted) url() string { return "tcp://" + s.listener.Addr().String() }

// cut ends the connection that is there.
func (s *scripted) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

// change does f with the lock held, and tells.
func (s *scripted) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *scripted) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	s.change(func() { s.conn = conn; s.links++; clear(s.held) })
	for {
		in, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		if !s.answer(conn, in) {
			return
		}
	}
}

// answer reports whether the connection goes on.
func (s *scripted) answer(conn net.Conn, in packets.ControlPacket) bool {
	switch p := in.(type) {
	case *packets.ConnectPacket:
		return packets.NewControlPacket(packets.Connack).Write(conn) == nil
	case *packets.PingreqPacket:
		return packets.NewControlPacket(packets.Pingresp).Write(conn) == nil
	case *packets.SubscribePacket:
		ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		ack.MessageID = p.MessageID
		for _, filter := range p.Topics {
			ack.ReturnCodes = append(ack.ReturnCodes, s.verdict(filter))
		}
		s.change(func() {
			s.longest = max(s.longest, len(strings.Join(p.Topics, ""))+3*len(p.Topics))
			for i, filter := range p.Topics {
				s.asked[filter]++
				s.held[filter] = ack.ReturnCodes[i] < denied
			}
		})
		if slices.Contains(ack.ReturnCodes, hangUp) {
			return false
		}
		return ack.Write(conn) == nil && (!slices.Contains(p.Topics, "tasmota/discovery/+/+") || s.remind(conn))
	case *packets.UnsubscribePacket:
		ack := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
		ack.MessageID = p.MessageID
		s.change(func() {
			for _, filter := range p.Topics {
				delete(s.held, filter)
			}
		})
		return ack.Write(conn) == nil
	case *packets.DisconnectPacket:
		return false
	}
	return true // acknowledgements
}

func (s *scripted) remind(conn net.Conn) bool {
	for topic, payload := range s.retained {
		if !s.publish(conn, topic, payload, true) {
			return false
		}
	}
	return true
}

func (s *scripted) publish(conn net.Conn, topic, payload string, retained bool) bool {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload, p.Retain = topic, []byte(payload), retained
	return p.Write(conn) == nil
}

// say publishes over the connection that is there.
func (s *scripted) say(topic, payload string) {
	s.tb.Helper()
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if !s.publish(conn, topic, payload, false) {
		s.tb.Fatalf("not published: %s", topic)
	}
}

// send sends a message that is to be acknowledged.
func (s *scripted) send(id uint16, again bool, topic, payload string) {
	s.tb.Helper()
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.Qos, p.MessageID, p.Dup, p.TopicName, p.Payload = 1, id, again, topic, []byte(payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.Write(s.conn); err != nil {
		s.tb.Fatal(err)
	}
}

// until waits for cond, which is called with the lock held.
func (s *scripted) until(what string, cond func() bool) {
	s.tb.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tb.Fatalf("%s did not come about; %d links, asked %d filters", what, s.links, len(s.asked))
		}
	}
}
