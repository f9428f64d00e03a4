package fleets

import (
	"encoding/json"
	"strings"
)

// reported is the part of an object that is the device's state rather than a measurement: its switches, named and
// spelled as the commands that set them are, and its dimmer. It is nil if the object holds none.
func (p *plug) reported(obj map[string]any) json.RawMessage {
	state := map[string]any{}
	for key, v := range obj {
		switch v := v.(type) {
		case string:
			if isPower(key) {
				state[strings.ToLower(key)] = p.power(v)
			}
		case json.Number:
			if key == "Dimmer" {
				state["dimmer"] = v
			}
		}
	}
	if len(state) == 0 {
		return nil
	}
	patch, err := json.Marshal(state)
	if err != nil {
		return nil // strings and numbers that came from JSON
	}
	return patch
}

// power is on or off, whichever words the device has for them.
func (p *plug) power(word string) string {
	for i, plain := range []string{"off", "on"} {
		if strings.EqualFold(word, p.states[i]) {
			return plain
		}
	}
	return strings.ToLower(CleanText(word, maxFaultBytes))
}
