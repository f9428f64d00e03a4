package ingest_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/ingest"
)

// counting counts the batches that are published.
type counting struct {
	jetstream.JetStream
	n atomic.Int64
}

func (p *counting) PublishAsync(subject string, data []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	p.n.Add(1)
	return p.JetStream.PublishAsync(subject, data, opts...)
}

// Whoever sends has a turn, however many others fill each batch: with short frames one whose frame needs a batch almost for
// itself, and the other way round.
func TestAllHaveTheirTurn(t *testing.T) {
	short := `{"type":"telemetry","seq":%d,"points":[{"fields":{"n":1}},{"fields":{"n":1}},{"fields":{"n":1}},{"fields":{"n":1}}]}`
	long := fmt.Sprintf(`{"type":"telemetry","seq":%%d,"fields":{"s":%q}}`, strings.Repeat("x", 3500))
	for name, c := range map[string]struct {
		devices     int
		theirs, one string
	}{
		"a long one among short ones": {20, short, long},
		"a short one among long ones": {10, long, short},
	} {
		t.Run(name, func(t *testing.T) {
			b := openBus(t, t.TempDir(), false)
			log := &counting{JetStream: b.JetStream()}
			committer, _ := startCommitter(t, log, func(o *ingest.Options) { o.Config.BatchBytes = 4 << 10 })
			var done atomic.Bool
			var all sync.WaitGroup
			for i := range c.devices {
				all.Go(func() {
					src := committer.Open(fmt.Sprintf("dev-%d", i), nil, nil)
					f := frame(t, fmt.Sprintf(c.theirs, 1))
					for !done.Load() {
						if err := src.Append(f); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for log.n.Load() < 10 {
				runtime.Gosched()
			}
			const frames, patience = 10, 7 // batches a frame
			w := newWaiter()
			src := committer.Open("one", nil, w)
			before := log.n.Load()
			for i := 1; i <= frames; i++ {
				if err := src.Append(frame(t, fmt.Sprintf(c.one, i))); err != nil {
					t.Fatal(err)
				}
			}
			if n := log.n.Load() - before; n > frames*patience {
				t.Errorf("%d batches went before %d frames were in one", n, frames)
			}
			done.Store(true)
			all.Wait()
			w.wait(frames)
		})
	}
}
