package devices_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

func (c *client) payload(kind int, data string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(kind, []byte(data)); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *client) wantReject(seq uint64, code wire.Code, path string) {
	c.t.Helper()
	rej, ok := c.read().(*wire.Reject)
	if !ok || rej.Seq != seq || rej.Code != code || rej.Path != path {
		c.t.Fatalf("got %+v, want reject %d %s %q", rej, seq, code, path)
	}
}

// Messages that have no seq are counted, the refused ones too; frames beside them are not.
func TestPayloadSessions(t *testing.T) {
	pack, _ := hex.DecodeString("81a20064" + hex.EncodeToString([]byte("temp")) + "0217")
	for name, c := range map[string]struct {
		protocol  string
		kind      int
		good, bad string
		code      wire.Code
		path      string
	}{
		"senml": {wire.SubprotocolSenML, websocket.TextMessage, `[{"bn":"pump-7:","n":"temp","v":21.5}]`, `[{"n":"a b","v":1}]`, wire.InvalidField, "[0].n"},
		"cbor":  {wire.SubprotocolSenMLCBOR, websocket.BinaryMessage, string(pack), "\x81\xa0", wire.InvalidField, "[0].n"},
		"line":  {wire.SubprotocolLines, websocket.TextMessage, "env temp=21.5\nenv hum=40i", "env\n", wire.InvalidFrame, "lines[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t)
			s := h.connect(h.device("pump-7"), c.protocol)
			if got := s.ws.Subprotocol(); got != c.protocol {
				t.Fatalf("chose %q", got)
			}
			s.payload(c.kind, c.good)
			s.wantAck(1)
			s.payload(c.kind, c.bad)
			s.wantReject(2, c.code, c.path)
			s.payload(websocket.TextMessage, `{"type":"hello","model":"m"}`)
			s.payload(websocket.TextMessage, ` {"type":"result","id":"c1","ok":true}`)
			if ack, ok := s.read().(*wire.Ack); !ok || ack.ID != "c1" {
				t.Fatalf("got %+v", ack)
			}
			s.payload(c.kind, c.good)
			s.wantAck(3)
			s.payload(websocket.TextMessage, `{"type":"telemetry","seq":9,"fields":{"a":1}}`)
			s.wantReject(0, wire.InvalidFrame, "type")
			s.payload(c.kind, c.good)
			s.wantAck(4)
		})
	}
}

func TestPayloadOfTheWrongKind(t *testing.T) {
	h := startHub(t)
	token := h.device("pump-7")
	s := h.connect(token, wire.SubprotocolLines)
	s.payload(websocket.BinaryMessage, "env temp=1")
	s.wantClose(devices.CloseViolation)
	s = h.connect(token, wire.SubprotocolSenMLCBOR)
	s.payload(websocket.TextMessage, "[]")
	s.wantReject(1, wire.InvalidFrame, "")
}

// A frame's bound holds for blocks, whose points are many in few bytes.
func TestBlocksAreBounded(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.PointsPerFrame = 10 })
	s := h.connect(h.device("pump-7"))
	frame := func(values string) string {
		return `{"type":"telemetry","seq":` + values[:1] + `,"blocks":[{"start":1,"step_us":1,"fields":{"x":[` + values + `]}}]}`
	}
	s.send(frame("1" + strings.Repeat(",2", 9)))
	s.wantAck(1)
	s.send(frame("2" + strings.Repeat(",2", 10)))
	s.wantReject(2, wire.TooManyPoints, "blocks[0]")
	if h.log.points != 10 {
		t.Fatalf("%d points", h.log.points)
	}
}
