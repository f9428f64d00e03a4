package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

const stepEvery = 120 * time.Millisecond

// order is a command of the stand-in.
type order struct {
	ID       string   `json:"id"`
	Device   string   `json:"device"`
	Name     string   `json:"name"`
	Params   object   `json:"params"`
	State    string   `json:"state"`
	Late     bool     `json:"late"`
	Evidence string   `json:"evidence,omitempty"`
	Actor    string   `json:"actor"`
	Created  int64    `json:"created"`
	Expires  int64    `json:"expires"`
	Attempt  int      `json:"attempt"`
	Progress object   `json:"progress,omitempty"`
	Result   object   `json:"result,omitempty"`
	Error    object   `json:"error,omitempty"`
	Events   []object `json:"events,omitempty"`

	Awaiting   bool   `json:"awaiting_approval,omitempty"`
	ApprovedBy string `json:"approved_by,omitempty"`
}

func (h *hub) send(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Name                  string
		Params                object
		TTL, Timeout, Confirm string
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	key := r.Header.Get("Idempotency-Key")
	if err := decoder.Decode(&asked); err != nil || key == "" {
		h.refuse(w, problem.New(http.StatusBadRequest, "invalid_command", "unreadable, or without a key"))
		return
	}
	ttl, err := time.ParseDuration(asked.TTL)
	if err != nil {
		h.refuse(w, problem.New(http.StatusBadRequest, "invalid_ttl", err.Error()).WithPath("ttl"))
		return
	}
	h.mu.Lock()
	d := h.devices[r.PathValue("id")]
	if ttl == 0 && d.Status != "online" {
		h.mu.Unlock()
		problem.New(http.StatusConflict, "device_offline", d.ID+" is not connected").WithHint("give the command a ttl, and it waits for the device").Write(w)
		return
	}
	if d.calls(asked.Name) && asked.Confirm != d.ID {
		h.mu.Unlock()
		h.refuse(w, problem.New(http.StatusConflict, "not_confirmed", "the device calls this command dangerous, and it was not confirmed"))
		return
	}
	o, repeated := h.keys[key]
	if !repeated {
		o = h.newOrder(d, asked.Name, asked.Params, ttl)
		h.keys[key] = o
	}
	lose := h.loseReplies
	copied := o.copied()
	h.mu.Unlock()
	if !repeated {
		h.tasks.Go(func() { h.carryOut(o, d) })
	}
	if lose {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Location", "/api/v1/commands/"+o.ID)
	answer(w, http.StatusAccepted, copied)
}

// calls reports whether the device calls the command dangerous.
func (d *device) calls(command string) bool {
	return slices.ContainsFunc(d.Commands, func(c object) bool { return c["name"] == command && c["dangerous"] == true })
}

func (h *hub) newOrder(d *device, name string, params object, ttl time.Duration) *order {
	now := time.Now()
	o := &order{
		ID: fmt.Sprintf("01JDQ8Z3VX%06d", len(h.commands)+1), Device: d.ID, Name: name, Params: params, State: "queued", Actor: "kim",
		Created: now.UnixMilli(), Expires: now.Add(ttl).UnixMilli(), Attempt: 1,
		Events: []object{{"time": now.UnixMilli(), "state": "queued"}},
	}
	h.commands = append(h.commands, o)
	return o
}

// carryOut takes a command through its states as a device of its kind would.
func (h *hub) carryOut(o *order, d *device) {
	h.step(o, func() {})
	h.mu.Lock()
	online, mqtt := d.Status == "online", d.Link != "websocket"
	h.mu.Unlock()
	if !online {
		return // it waits
	}
	steps := []string{"sent", "delivered", "running", "succeeded"}
	if mqtt {
		steps = []string{"sent", "succeeded"}
	}
	if o.Name == "calibrate" {
		steps = []string{"sent", "delivered", "failed"}
	}
	for _, state := range steps {
		select {
		case <-h.stop:
			return
		case <-time.After(stepEvery):
		}
		h.step(o, func() {
			o.State = state
			event := object{"time": time.Now().UnixMilli(), "state": state}
			switch state {
			case "sent":
				event["node"], event["session"] = "hub-1", d.Session
			case "running":
				o.Progress = object{"percent": 40, "message": "writing slot B" + hostile}
			case "succeeded":
				o.Evidence = "confirmed"
				if mqtt {
					o.Evidence = "observed"
				}
				o.Result = object{"took_ms": 341, "note": hostile}
			case "failed":
				o.Evidence = "confirmed"
				o.Error = object{"code": "sensor_busy", "message": "a measurement is running " + hostile}
			}
			o.Events = append(o.Events, event)
		})
	}
}

// step changes a command and tells the viewers.
func (h *hub) step(o *order, change func()) {
	h.mu.Lock()
	change()
	told := o.copied()
	h.mu.Unlock()
	told.Events = nil
	h.tell(object{"event": "command", "command": told})
}

func (o *order) copied() *order {
	copied := *o
	copied.Events = slices.Clone(o.Events)
	return &copied
}

func (h *hub) listCommands(w http.ResponseWriter, r *http.Request) {
	id, state := r.FormValue("device"), r.FormValue("state")
	h.reply(w, func() any {
		found := []*order{}
		for _, o := range slices.Backward(h.commands) {
			if (id == "" || id == o.Device) && (state == "" || state == o.State) && (r.FormValue("awaiting_approval") == "" || o.Awaiting) {
				found = append(found, o)
			}
		}
		return object{"commands": found}
	})
}

func (h *hub) byID(id string) *order {
	for _, o := range h.commands {
		if o.ID == id {
			return o
		}
	}
	return nil
}

func (h *hub) showCommand(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	o := h.byID(r.PathValue("id"))
	h.mu.Unlock()
	if o == nil {
		problem.New(http.StatusNotFound, "command_not_found", "there is no such command").Write(w)
		return
	}
	h.reply(w, func() any { return o })
}

func (h *hub) cancel(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	o := h.byID(r.PathValue("id"))
	h.mu.Unlock()
	h.step(o, func() {
		o.State, o.Awaiting = "cancelled", false
		o.Events = append(o.Events, object{"time": time.Now().UnixMilli(), "state": "cancelled", "detail": "by kim"})
	})
	h.reply(w, func() any { return o })
}
