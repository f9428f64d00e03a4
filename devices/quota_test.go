package devices_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// stopped is a clock that stands until the test moves it.
type stopped struct{ ns atomic.Int64 }

func newStopped() *stopped {
	c := &stopped{}
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *stopped) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *stopped) advance(d time.Duration) { c.ns.Add(int64(d)) }

// flood is n frames of one point each, ready to be written.
func flood(n int) (out []byte) {
	for seq := 1; seq <= n; seq++ {
		out = append(out, maskedFrame(0x81, []byte(point(seq)))...)
	}
	return out
}

func TestFloodSlowsOnlyItself(t *testing.T) {
	const rate, frames = 100, 1000
	for name, c := range map[string]struct {
		change func(*options)
		most   int // frames of the flood that are taken while the clock stands
	}{
		"frames": {func(o *options) { o.cfg.Devices.FramesPerSecond = rate }, rate},
		"points": {func(o *options) { o.cfg.Devices.PointsPerSecond = rate }, rate},
		"bytes":  {func(o *options) { o.cfg.Devices.BytesPerSecond = rate * len(point(frames)) }, rate * 2},
		"none": {func(o *options) {
			c := &o.cfg.Devices
			c.FramesPerSecond, c.BytesPerSecond, c.PointsPerSecond = 0, 0, 0
		}, frames},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newStopped()
			h := startHub(t, func(o *options) {
				o.now = clock.now
				o.cfg.Devices.QuotaPatience = 0
				o.cfg.Devices.Heartbeat = 100 * time.Hour
				c.change(o)
			})
			bad := rawDial(t, h, h.device("flood"))
			calm := h.connect(h.device("calm"))
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() { bad.write(flood(frames)) })
			if c.most < frames {
				eventually(t, "the flood is held back", func() bool { return h.metric("fairlead_devices_slowed_total") == 1 })
			} else {
				eventually(t, "all of the flood is taken", func() bool { return h.log.count() == frames })
			}
			const exchanges = 50
			for seq := uint64(1); seq <= exchanges; seq++ {
				calm.send(point(int(seq)))
				calm.wantAck(seq)
			}
			// A pause ends after a second at most, also on a clock that stands, and lets one frame through.
			taken := h.log.count() - exchanges
			t.Logf("%d of %d frames of the flood were taken while a calm device had %d acks", taken, frames, exchanges)
			if c.most < frames && taken > c.most+20 {
				t.Errorf("%d frames of the flood were taken while the clock stood, at most %d may be", taken, c.most)
			}
			eventually(t, "all of the flood is taken in time", func() bool {
				clock.advance(100 * time.Millisecond)
				return h.log.count() == frames+exchanges
			})
			if h.registry.Len() != 2 {
				t.Errorf("%d sessions", h.registry.Len())
			}
		})
	}
}

func TestWhoStaysOverIsSentAway(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(o *options) {
		o.cfg.Devices.FramesPerSecond, o.cfg.Devices.QuotaPatience = 20, time.Second
	})
	calm := h.connect(h.device("calm"))
	c := h.connect(h.device("flood"))
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for seq := 1; ; seq++ {
			select {
			case <-over:
				return
			default:
			}
			if c.ws.WriteMessage(websocket.TextMessage, []byte(point(seq))) != nil {
				return
			}
		}
	})
	if bye := c.wantClose(devices.CloseQuota); bye.RetryAfterMS < time.Second.Milliseconds() {
		t.Errorf("bye %+v", bye)
	}
	close(over)
	c.ws.Close()
	wg.Wait()
	eventually(t, "presence tells why", func() bool { return h.presence.State("flood").Cause == "over_quota" })
	calm.send(point(1))
	calm.wantAck(1)
}

func TestHeldBackIsNotDead(t *testing.T) {
	t.Parallel()
	clock := newStopped()
	h := startHub(t, func(o *options) {
		o.now = clock.now
		o.cfg.Devices.FramesPerSecond, o.cfg.Devices.QuotaPatience, o.cfg.Devices.Heartbeat = 1, 0, 10*time.Second
	})
	c := h.connect(h.device("pump-7"))
	for seq := 1; seq <= 200; seq++ { // minutes' worth
		c.send(point(seq))
	}
	eventually(t, "it is held back", func() bool { return h.metric("fairlead_devices_slowed_total") == 1 })
	// Its commands reach it all the same, and its session outlives the heartbeats.
	for range 4 {
		pings := h.metric("fairlead_devices_pings_total")
		clock.advance(11 * time.Second)
		eventually(t, "a heartbeat", func() bool { return h.metric("fairlead_devices_pings_total") > pings })
		if _, err := h.registry.Deliver(t.Context(), "pump-7", wire.Command{ID: "c"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.log.count(); n == 200 || h.registry.Len() != 1 {
		t.Errorf("%d frames were taken, %d sessions are left", n, h.registry.Len())
	}
}

func TestPostsOverTheRateArePutOff(t *testing.T) {
	clock := newStopped()
	h := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.PointsPerSecond = 10 })
	token, other := h.device("flood"), h.device("calm")
	points := "text/plain"
	many := strings.Repeat("m a=1\n", 25)
	if a := h.post(token, points, many); a.status != 204 {
		t.Fatalf("%+v", a)
	}
	a := h.post(token, points, "m a=1")
	if a.status != 429 || a.body.Code != "over_quota" || a.header.Get("Retry-After") != "2" {
		t.Fatalf("%d %+v %v", a.status, a.body, a.header)
	}
	if a := h.post(other, points, "m a=1"); a.status != 204 {
		t.Fatalf("another device: %+v", a)
	}
	clock.advance(2 * time.Second)
	if a := h.post(token, points, "m a=1"); a.status != 204 {
		t.Fatalf("in time: %+v", a)
	}
	// Without the limit nobody is put off: the negative control.
	free := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.PointsPerSecond = 0 })
	token = free.device("flood")
	for i := range 5 {
		if a := free.post(token, points, many); a.status != 204 {
			t.Fatalf("%s: %+v", fmt.Sprint(i), a)
		}
	}
}
