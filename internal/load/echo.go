package load

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// Echo is the least that an acknowledging server can do with the library, tuned as the hub is and storing nothing: it
// finds the sequence number of a frame and answers with it. It is what the hub's cost is held against.
type Echo struct {
	verify   func(token string) error
	welcome  bool
	upgrader websocket.Upgrader
	buffers  sync.Pool
}

// EchoOptions are what a measurement needs of the bare server.
type EchoOptions struct {
	ReadBuffer int                      // of a connection, for as long as it lives
	Verify     func(token string) error // of each connect; nil: anybody may
	Welcome    bool                     // says so at connect, as the hub does
}

// NewEcho returns the handler.
func NewEcho(o EchoOptions) *Echo {
	return &Echo{
		verify: o.Verify, welcome: o.Welcome,
		upgrader: websocket.Upgrader{
			ReadBufferSize: o.ReadBuffer, WriteBufferPool: &sync.Pool{}, Subprotocols: []string{"fairlead.v1.json"},
		},
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
}

// ServeHTTP upgrades and acknowledges until the device goes.
func (e *Echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e.verify != nil {
		if err := e.verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
	}
	ws, err := e.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	if e.welcome && ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"welcome"}`)) != nil {
		ws.Close()
		return
	}
	go e.serve(ws) // ends with the connection, and the process with its last
}

func (e *Echo) serve(ws *websocket.Conn) {
	defer ws.Close()
	for {
		_, r, err := ws.NextReader()
		if err != nil || !e.answer(ws, r) {
			return
		}
	}
}

// answer borrows what an idle connection shall not hold.
func (e *Echo) answer(ws *websocket.Conn, r io.Reader) bool {
	buf := e.buffers.Get().(*bytes.Buffer)
	defer e.buffers.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(r); err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(buf.Bytes(), []byte(`"seq":`))
	seq, _, _ := bytes.Cut(rest, []byte(`,`))
	ack := append(append(append(make([]byte, 0, 64), ackPrefix...), seq...), '}')
	return ws.WriteMessage(websocket.TextMessage, ack) == nil
}
