package ingest_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// gated is a bus that says a publish is stored when the test does.
type gated struct {
	jetstream.JetStream
	published chan gate
}

type gate chan *jetstream.PubAck

func (g gate) Ok() <-chan *jetstream.PubAck { return g }
func (g gate) Err() <-chan error            { return nil }
func (g gate) Msg() *nats.Msg               { return nil }

func (g *gated) PublishAsync(string, []byte, ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	one := make(gate, 1)
	g.published <- one
	return one, nil
}

// told hears every Stored.
type told chan uint64

func (t told) Stored(seq uint64) { t <- seq }

func TestAckWaitsOnceForWhatIsUnderWay(t *testing.T) {
	g := &gated{published: make(chan gate)}
	c, stop := startCommitter(t, g, nil)
	heard := make(told, 10)
	src := c.Open("d", nil, heard)
	send := func(seq int) {
		t.Helper()
		if err := src.Append(frame(t, fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"n":1}}`, seq))); err != nil {
			t.Fatal(err)
		}
	}
	send(1)
	for seq := 2; seq <= 5; seq++ {
		flying := <-g.published
		send(seq) // is under way before the batch in front of it is stored
		flying <- nil
	}
	last := <-g.published
	last <- nil
	stop()
	close(heard)
	var got []uint64
	for seq := range heard {
		got = append(got, seq)
	}
	// Of the first four every other one waits for the next; behind the last nothing is under way.
	if want := []uint64{2, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("heard %d, want %d", got, want)
	}
}
