package twin

import "github.com/fairlead-hub/fairlead/internal/bus"

// event is the live event of a change, as viewers get it.
type event struct {
	Event  string `json:"event"`
	Device string `json:"device"`
	State
}

// announce tells live viewers of a change. Whoever stored it does, so that it is told once.
func (t *Twin) announce(device string) {
	err := t.publish(device)
	if err != nil {
		t.metrics.unannounced.Inc()
		t.log.Debug("state event not published", "device_id", device, "err", err)
	}
}

func (t *Twin) publish(device string) error {
	s, err := t.state(device)
	if err != nil {
		return err
	}
	to, err := bus.StateEvent(device)
	if err != nil {
		return err
	}
	data, err := encode(event{Event: "state", Device: device, State: s})
	if err != nil {
		return err
	}
	return t.events.Publish(to, data)
}
