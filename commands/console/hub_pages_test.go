package console_test

import (
	"encoding/json"
	"net/http"
	"time"
)

func (h *hub) bridge(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, object{"connections": []object{
		{
			"name": "embedded", "url": "mqtt://127.0.0.1:1883", "profiles": []string{"tasmota"}, "state": "connected", "since": away(3 * time.Hour),
			"received": 48211, "acked": 48211, "published": 312, "dropped": 3, "more_topics": 0,
			"topics": []object{
				{"topic": "stat/plug-1/RESULT", "mapped": true, "messages": 312, "last_time": away(2 * time.Minute)},
				{"topic": "tele/plug-1/SENSOR", "mapped": true, "messages": 24100, "last_time": away(4 * time.Second)},
				{"topic": "zigbee2mqtt/" + hostile, "mapped": false, "messages": 3, "dropped": 3, "last_time": away(time.Hour), "last_error": "no map or profile knows this topic"},
			},
		},
		{
			"name": "plant", "url": "mqtts://broker.plant.example:8883", "profiles": []string{}, "state": "connecting", "since": away(20 * time.Second),
			"last_error": "dial tcp: connection refused", "error_time": away(3 * time.Second), "received": 0, "acked": 0, "published": 0, "dropped": 0, "topics": []object{},
		},
	}})
}

func (h *hub) deadletters(w http.ResponseWriter, r *http.Request) {
	h.reply(w, func() any {
		if h.replayed {
			return object{"deadletters": []object{}}
		}
		if r.FormValue("cursor") == "" {
			return object{"cursor": "older", "deadletters": []object{{
				"id": 41, "time": away(5 * time.Minute), "device": "plug-1", "reason": `field type conflict: input field "on" is type float, already exists as type boolean`,
				"line": "env,device=plug-1 on=1 1763832000123000000",
			}}}
		}
		return object{"deadletters": []object{{"id": 40, "time": away(time.Hour), "device": "hostile-1", "reason": hostile, "line": hostile}}}
	})
}

func (h *hub) replay(w http.ResponseWriter, r *http.Request) {
	var body object
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body) > 0 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	h.replayed = true
	h.mu.Unlock()
	answer(w, http.StatusOK, object{"replayed": 2})
}

func (h *hub) trace(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, object{"frames": []object{
		{"time": away(time.Second), "direction": "in", "session": "01JDQ8Y7K2M4", "type": "telemetry", "bytes": 118, "fate": "committed", "frame": `{"type":"telemetry","seq":18,"fields":{"temp":61.2}}`},
		{"time": away(time.Second), "direction": "out", "session": "01JDQ8Y7K2M4", "type": "ack", "bytes": 23, "fate": "written", "frame": `{"type":"ack","seq":18}`},
	}})
}

func (h *hub) audit(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, object{"records": []object{
		{"time": away(time.Minute), "actor": "kim", "remote": "127.0.0.1:50412", "action": "command.create", "target": "boiler-1", "outcome": "ok", "status": 202, "detail": "command 01JD set_interval", "prev": "9f31", "hash": "c02a"},
		{"time": away(time.Hour), "actor": hostile, "remote": "127.0.0.1:50388", "action": "session.create", "outcome": "sign_in_refused", "status": 401, "prev": "77ab", "hash": "9f31"},
	}})
}
