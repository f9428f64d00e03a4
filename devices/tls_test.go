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
	t.Parallel()
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
