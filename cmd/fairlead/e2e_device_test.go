package main_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/gorilla/websocket"
)

// The subprotocols of docs/device-protocol.md.
const (
	jsonFrames = "fairlead.v1.json"
	cborFrames = "fairlead.v1.cbor"
)

// frame is any frame of the hub.
type frame struct {
	Type, ID, Name, Session, Device, Message, Path, Reason string

	Seq          uint64
	Code         any
	Params       map[string]any
	Attempt      int
	RetryAfterMS int `json:"retry_after_ms"`
}

// link is a device's connection. It speaks in maps, not in the project's own frame types: what is tested is the wire.
type link struct {
	t  testing.TB
	ws *websocket.Conn
}

// dial tries to connect.
func (r ready) dial(t testing.TB, token, protocol string, header http.Header) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := &websocket.Dialer{TLSClientConfig: r.trust(t), HandshakeTimeout: waitBound, Subprotocols: []string{protocol}}
	if header == nil {
		header = http.Header{}
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return d.Dial(strings.Replace(r.URL, "http", "ws", 1)+"/v1/device", header)
}

// connect connects a device, reads the welcome and says hello.
func (r ready) connect(t testing.TB, id, token, protocol string) *link {
	t.Helper()
	ws, res, err := r.dial(t, token, protocol, nil)
	if err != nil {
		t.Fatalf("connect %s: %v%s", id, err, refusal(res))
	}
	t.Cleanup(func() { ws.Close() })
	if ws.Subprotocol() != protocol {
		t.Fatalf("subprotocol %q, want %q", ws.Subprotocol(), protocol)
	}
	l := &link{t, ws}
	if w := l.next("welcome"); w.Device != id || w.Session == "" {
		t.Fatalf("welcome of %s: %+v", id, w)
	}
	l.say(map[string]any{"type": "hello", "firmware": "1.0", "model": "e2e", "commands": []any{map[string]any{
		"name": "set_interval", "title": "Set interval",
		"params": map[string]any{
			"type": "object", "required": []any{"seconds"},
			"properties": map[string]any{"seconds": map[string]any{"type": "integer", "minimum": 1}},
		},
	}}})
	return l
}

// refusal is the body of a refused connect.
func refusal(res *http.Response) string {
	if res == nil {
		return ""
	}
	body, err := io.ReadAll(res.Body)
	return " " + res.Status + " " + string(body) + errText(err)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// say sends a frame.
func (l *link) say(f map[string]any) {
	l.t.Helper()
	if l.ws.Subprotocol() == cborFrames {
		raw, err := cbor.Marshal(f)
		if err == nil {
			err = l.ws.WriteMessage(websocket.BinaryMessage, raw)
		}
		if err != nil {
			l.t.Fatal(err)
		}
		return
	}
	raw, err := json.Marshal(f)
	if err != nil {
		l.t.Fatal(err)
	}
	l.text(string(raw))
}

// text sends a text frame as it stands.
func (l *link) text(s string) {
	l.t.Helper()
	if err := l.ws.WriteMessage(websocket.TextMessage, []byte(s)); err != nil {
		l.t.Fatal(err)
	}
}

// read reads one frame; an error is how the hub has ended the connection.
func (l *link) read() (f frame, err error) {
	l.t.Helper()
	if err := l.ws.SetReadDeadline(time.Now().Add(waitBound)); err != nil {
		l.t.Fatal(err)
	}
	kind, raw, err := l.ws.ReadMessage()
	if err != nil {
		return f, err
	}
	if kind == websocket.BinaryMessage {
		var m map[string]any
		if err := mapsByName.Unmarshal(raw, &m); err != nil {
			l.t.Fatalf("frame %x: %v", raw, err)
		}
		if raw, err = json.Marshal(m); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		l.t.Fatalf("frame %s: %v", raw, err)
	}
	return f, nil
}

// mapsByName reads CBOR maps as JSON has them.
var mapsByName = func() cbor.DecMode {
	m, err := cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any]()}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// next reads frames until one of the type comes.
func (l *link) next(kind string) frame {
	l.t.Helper()
	for {
		f, err := l.read()
		if err != nil {
			l.t.Fatalf("waiting for %s: %v", kind, err)
		}
		if f.Type == kind {
			return f
		}
	}
}

// wantAck waits until everything up to seq is acked.
func (l *link) wantAck(seq uint64) {
	l.t.Helper()
	for acked := uint64(0); acked < seq; { // an ack stands for all before it
		acked = l.next("ack").Seq
	}
}

// wantClose reads until the hub ends the connection and compares the code.
func (l *link) wantClose(code int) (bye frame) {
	l.t.Helper()
	for {
		f, err := l.read()
		if err == nil {
			if f.Type == "bye" {
				bye = f
			}
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != code {
			l.t.Fatalf("ended by %v, want close %d", err, code)
		}
		return bye
	}
}
