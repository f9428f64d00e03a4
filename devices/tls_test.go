package devices_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// TestOverTLS goes the way on which the session cannot wait without a buffer.
func TestOverTLS(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.Heartbeat = time.Second })
	addr := listenFor(t, h.handler, true)
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a loopback test peer
	ws, _, err := d.Dial("wss://"+addr, http.Header{"Authorization": {"Bearer " + h.device("pump-7")}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	c := &client{t: t, ws: ws}
	if _, ok := c.read().(*wire.Welcome); !ok {
		t.Fatal("no welcome")
	}
	pinged, ponged := 0, 0
	answer := ws.PingHandler()
	ws.SetPingHandler(func(s string) error { pinged++; return answer(s) })
	ws.SetPongHandler(func(string) error { ponged++; return nil })
	if err := ws.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for seq := 1; pinged < 4 || ponged < 1; seq++ {
		c.send(point(seq))
		c.wantAck(uint64(seq))
		if h.registry.Len() != 1 {
			t.Fatal("the session is gone")
		}
	}
	c.send(pad(60_000)[:59_999] + strings.Repeat(" ", 10_000) + "}")
	c.wantClose(devices.CloseTooBig)
}

func TestTraceShowsEachFrame(t *testing.T) {
	h := startHub(t)
	frames := make(chan devices.TracedFrame, 16)
	stop := h.registry.Trace("pump-7", func(f devices.TracedFrame) { frames <- f })
	c := h.connect(h.device("pump-7"))
	c.send(point(1))
	c.wantAck(1)
	c.send(`{"type":"dance"}`)
	c.read()
	fates := map[string]bool{}
	for len(fates) < 3 {
		select {
		case f := <-frames:
			fates[f.Fate] = true
			if f.Device != "pump-7" || f.Session != c.welcome.Session || len(f.Data) == 0 {
				t.Fatalf("%+v", f)
			}
		case <-time.After(patience):
			t.Fatalf("saw only %v", fates)
		}
	}
	if !fates["sent"] || !fates["taken"] || !fates["unknown_type"] {
		t.Fatalf("saw %v", fates)
	}
	stop()
	drained := len(frames)
	c.send(point(2))
	c.wantAck(2)
	if len(frames) > drained {
		t.Fatal("traced after stop")
	}
}
