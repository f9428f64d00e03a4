package sim

import (
	"encoding/json"
	"fmt"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// setting is one key of a device's state document.
type setting struct {
	key   string
	read  func() any
	write func(value float64) error // nil: reported only
}

// panel is the side of a device that operators see.
type panel interface {
	hello() *wire.Hello
	command(name string, params json.RawMessage) (plan, *wire.Fault)
	settings() []setting
}

// report returns the reported state as a merge patch of all settings; version is the desired state it answers.
func report(p panel, version uint64) *wire.StateReport {
	doc := map[string]any{}
	for _, s := range p.settings() {
		doc[s.key] = s.read()
	}
	if len(doc) == 0 && version == 0 {
		return nil
	}
	return &wire.StateReport{Reported: mustJSON(doc), Version: version}
}

// apply makes the desired state real as far as the device can. What it does not know or cannot do stays as it is and so
// shows as a difference; the error says which keys.
func apply(p panel, desired json.RawMessage) error {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(desired, &doc); err != nil {
		return fmt.Errorf("desired state: %w", err)
	}
	var bad []string
	for _, s := range p.settings() {
		raw, asked := doc[s.key]
		if !asked || s.write == nil {
			continue
		}
		var value float64
		err := json.Unmarshal(raw, &value)
		if err == nil {
			err = s.write(value)
		}
		if err != nil {
			bad = append(bad, s.key+": "+err.Error())
		}
	}
	if bad != nil {
		return fmt.Errorf("desired state: %q", bad)
	}
	return nil
}
