package load

import (
	"bytes"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// Echo is the least that an acknowledging server can do with the library, tuned as the hub is and storing nothing: it
// finds the sequence number of a frame and answers with it. It is what the hub's cost is held against.
type Echo struct {
	upgrader websocket.Upgrader
	buffers  sync.Pool
}

// NewEcho returns the handler.
func NewEcho() *Echo {
	return &Echo{
		upgrader: websocket.Upgrader{
			ReadBufferSize: 4 << 10, WriteBufferPool: &sync.Pool{}, Subprotocols: []string{"fairlead.v1.json"},
		},
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
}

// ServeHTTP upgrades and acknowledges until the device goes.
func (e *Echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := e.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	go e.serve(ws) // ends with the connection, and the process with its last
}

func (e *Echo) serve(ws *websocket.Conn) {
	defer ws.Close()
	var ack []byte
	for {
		_, r, err := ws.NextReader()
		if err != nil {
			return
		}
		buf := e.buffers.Get().(*bytes.Buffer)
		buf.Reset()
		if _, err := buf.ReadFrom(r); err != nil {
			return
		}
		_, rest, _ := bytes.Cut(buf.Bytes(), []byte(`"seq":`))
		seq, _, _ := bytes.Cut(rest, []byte(`,`))
		ack = append(append(append(ack[:0], ackPrefix...), seq...), '}')
		e.buffers.Put(buf)
		if ws.WriteMessage(websocket.TextMessage, ack) != nil {
			return
		}
	}
}
