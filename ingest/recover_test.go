package ingest_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-hub/fairlead/ingest"
)

// While the disk has no room, it is looked at now and then, not once more for each frame that came meanwhile.
func TestRoomIsLookedForNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		var room atomic.Bool
		g := &gated{published: make(chan gate, 1)}
		c, stop := startCommitter(t, g, func(o *ingest.Options) {
			o.Room = func() error {
				looks.Add(1)
				if room.Load() {
					return nil
				}
				return fmt.Errorf("the disk is full")
			}
		})
		heard := make(told, 1)
		src := c.Open("d", nil, heard)
		const frames = 200
		for seq := 1; seq <= frames; seq++ {
			if err := src.Append(frame(t, fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"n":1}}`, seq))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		before := looks.Load()
		time.Sleep(10 * time.Second)
		if n := looks.Load() - before; n < 50 || n > 110 {
			t.Errorf("looked %d times in 10 s, want one each 100 ms", n)
		}
		room.Store(true)
		(<-g.published) <- nil
		if seq := <-heard; seq != frames {
			t.Errorf("stored up to %d, want %d", seq, frames)
		}
		stop()
	})
}
