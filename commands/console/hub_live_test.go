package console_test

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

const telemetryEvery = 250 * time.Millisecond

// viewer is one live link.
type viewer struct {
	socket *websocket.Conn

	mu      sync.Mutex // of writing, and of what is wanted
	devices []string
	events  []string
}

func (v *viewer) wants(event object) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	name, _ := event["event"].(string)
	switch name {
	case "gap":
		return slices.Contains(v.events, "telemetry")
	case "identity_conflict":
		name = "presence"
	}
	id, _ := event["device"].(string)
	if command, ok := event["command"].(*order); ok {
		id = command.Device
	}
	return slices.Contains(v.events, name) && (slices.Contains(v.devices, "*") || slices.Contains(v.devices, id))
}

func (v *viewer) write(event any) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.socket.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	return v.socket.WriteJSON(event)
}

func (h *hub) live(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	down := h.liveDown
	h.mu.Unlock()
	if down {
		problem.New(http.StatusServiceUnavailable, "draining", "this node is draining").Write(w)
		return
	}
	if !slices.Contains(websocket.Subprotocols(r), "fairlead.live.v1") || r.Header.Get("Origin") != "https://"+r.Host {
		h.refuse(w, problem.New(http.StatusForbidden, "live", "wrong subprotocol or origin"))
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"fairlead.live.v1"}}
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	v := &viewer{socket: socket}
	h.mu.Lock()
	h.viewers[v] = true
	h.mu.Unlock()
	done := make(chan struct{})
	h.tasks.Go(func() { h.feed(v, done) })
	for {
		var frame struct {
			Subscribe struct{ Devices, Events []string } `json:"subscribe"`
		}
		if err := socket.ReadJSON(&frame); err != nil {
			break
		}
		if frame.Subscribe.Devices == nil {
			_ = v.write(object{"event": "error", "code": "invalid_request", "message": "subscribe.devices is missing"})
			continue
		}
		h.mu.Lock()
		held := h.held
		h.mu.Unlock()
		if held != nil {
			<-held
		}
		v.mu.Lock()
		v.devices, v.events = frame.Subscribe.Devices, frame.Subscribe.Events
		v.mu.Unlock()
		_ = v.write(object{"event": "subscribed", "events": frame.Subscribe.Events}) // its reader notices a dead link
	}
	close(done)
	h.mu.Lock()
	delete(h.viewers, v)
	h.mu.Unlock()
	socket.Close()
}

// feed lets the devices that v watches measure.
func (h *hub) feed(v *viewer, done chan struct{}) {
	ticker := time.NewTicker(telemetryEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-h.stop:
			return
		case now := <-ticker.C:
			v.mu.Lock()
			watched, wanted := v.devices, slices.Contains(v.events, "telemetry")
			v.mu.Unlock()
			if !wanted {
				continue
			}
			for _, id := range watched {
				if event := h.reading(id, now); event != nil && v.write(event) != nil {
					return
				}
			}
		}
	}
}

func (h *hub) reading(id string, now time.Time) object {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.devices[id]
	if d == nil || d.Status != "online" || d.measure == nil {
		return nil
	}
	fields := d.measure(now)
	for name, value := range fields {
		d.Last["env."+name] = object{"time": now.UnixMilli(), "value": value}
	}
	d.LastSeen = now.UnixMilli()
	return object{"event": "telemetry", "device": id, "points": []object{{"measurement": "env", "time": now.UnixMilli(), "fields": fields}}}
}

func (h *hub) tell(event object) {
	h.mu.Lock()
	viewers := make([]*viewer, 0, len(h.viewers))
	for v := range h.viewers {
		viewers = append(viewers, v)
	}
	h.mu.Unlock()
	for _, v := range viewers {
		if v.wants(event) {
			_ = v.write(event) // its reader notices a dead link
		}
	}
}

func (h *hub) dropViewers() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for v := range h.viewers {
		v.socket.Close()
	}
}
