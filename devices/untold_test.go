package devices_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/devices"
)

var errNoLeader = errors.New("no leader today")

// leaderless is a bus that refuses what is published of some devices, as often as it is told: in turn at once and later.
type leaderless struct {
	jetstream.JetStream
	mu      sync.Mutex
	left    map[string]int // by device: how many are still refused
	refused int
}

type refusedPublish struct{ err chan error }

func (r refusedPublish) Ok() <-chan *jetstream.PubAck { return nil }
func (r refusedPublish) Err() <-chan error            { return r.err }
func (r refusedPublish) Msg() *nats.Msg               { return nil }

func (l *leaderless) PublishAsync(subject string, data []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	return l.PublishMsgAsync(&nats.Msg{Subject: subject, Data: data}, opts...)
}

func (l *leaderless) PublishMsgAsync(msg *nats.Msg, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	device := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left[device] == 0 {
		return l.JetStream.PublishMsgAsync(msg, opts...)
	}
	l.left[device]--
	l.refused++
	if l.left[device]%2 == 1 {
		return nil, errNoLeader
	}
	r := refusedPublish{make(chan error, 1)}
	r.err <- errNoLeader
	return r, nil
}

func (l *leaderless) refuse(device string, times int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left[device], l.refused = times, 0
}

// wantRefused waits until all that was to be refused was.
func (l *leaderless) wantRefused(t *testing.T, times int) {
	t.Helper()
	eventually(t, "all that was to be refused was", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.refused == times
	})
}

// What the bus does not take of a change is told again, and listeners hear of it once.
func TestRefusedPresenceIsToldAgain(t *testing.T) {
	t.Parallel()
	for name, times := range map[string]int{"later": 1, "at once and later": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &leaderless{left: make(map[string]int)}
			one, two := twoNodes(t, func(o *options) {
				if o.node == "n1" {
					o.stream = func(js jetstream.JetStream) jetstream.JetStream { l.JetStream = js; return l }
				}
			})
			next := two.listen()
			others := func(e liveEvent) bool { return e.Device == "pump-7" }

			l.refuse("pump-7", times)
			c := one.connect(one.device("pump-7"))
			eventually(t, "the other node knows that it came", func() bool { return two.presence.Status("pump-7") == devices.Online })
			l.wantRefused(t, times)
			if e := next("it came", others); e.Status != "online" {
				t.Errorf("%+v", e)
			}

			l.refuse("pump-7", times)
			c.ws.Close()
			eventually(t, "the other node knows that it went", func() bool { return two.presence.Status("pump-7") == devices.Offline })
			l.wantRefused(t, times)
			if e := next("it went, and nothing was heard twice", others); e.Status != "offline" {
				t.Errorf("%+v", e)
			}

			one.connect(one.token("pump-7"))
			eventually(t, "it is back", func() bool { return two.presence.Status("pump-7") == devices.Online })
			l.refuse("pump-7", times)
			one.remove("pump-7")
			l.wantRefused(t, times)
			eventually(t, "its key is gone", func() bool { return !two.kept("pump-7") })
		})
	}
}

// deaf is a bus that answers nothing.
type deaf struct{ jetstream.JetStream }

func (deaf) PublishAsync(string, []byte, ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	return refusedPublish{}, nil
}

func (deaf) PublishMsgAsync(*nats.Msg, ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	return refusedPublish{}, nil
}

// Listeners do not wait for a bucket that answers nothing with each device.
func TestListenersDoNotWaitForADeafBucket(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(o *options) {
		o.shared = true
		o.stream = func(js jetstream.JetStream) jetstream.JetStream { return deaf{js} }
	})
	next := h.listen()
	unheard := make(map[string]bool)
	for i := range devices.MaxUnanswered + 100 {
		device := fmt.Sprint("plug-", i)
		unheard[device] = true
		h.presence.Set(device, true, "announced", "mqtt:embedded")
	}
	for len(unheard) > 0 {
		e := next("all of them", func(liveEvent) bool { return true })
		delete(unheard, e.Device)
	}
}
