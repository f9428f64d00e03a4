package ingest_test

import (
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// leaderless is a bus on which nobody answers for the log when the first batch comes, as while its servers elect a leader.
// From the second one on it is there again.
type leaderless struct {
	jetstream.JetStream
	conn  *nats.Conn
	elect func() error
	once  sync.Once
}

func (l *leaderless) PublishAsync(subject string, data []byte, opts ...jetstream.PublishOpt) (f jetstream.PubAckFuture, err error) {
	f, err = l.JetStream.PublishAsync(subject, data, opts...)
	l.once.Do(func() {
		if err == nil {
			err = l.conn.Flush() // the answer is here: there was nobody
		}
		if err == nil {
			err = l.elect()
		}
	})
	return f, err
}

func TestALogThatWasAwayKeepsTheOrder(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	s, err := b.Stream(t.Context(), bus.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.JetStream().DeleteStream(t.Context(), bus.StreamTelemetry); err != nil {
		t.Fatal(err)
	}
	away := &leaderless{JetStream: b.JetStream(), conn: b.Conn(), elect: func() error {
		_, err := b.JetStream().CreateStream(t.Context(), s.CachedInfo().Config)
		return err
	}}
	c, stop := startCommitter(t, away, func(o *ingest.Options) { o.Config.BatchBytes = 2 << 10 })
	const frames = 300 // many batches
	w := newWaiter()
	src := c.Open("d", nil, w)
	for i := 1; i <= frames; i++ {
		if err := src.Append(frame(t, numbered(i))); err != nil {
			t.Fatal(err)
		}
	}
	w.wait(frames)
	stop()
	wantInOrder(t, logged(t, b), frames)
}
