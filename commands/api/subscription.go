package api

import (
	"fmt"
	"slices"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// subscription is what a viewer looks at.
type subscription struct {
	kinds   []Kind
	all     bool // every device
	devices map[string]bool
}

// request is the one message of a viewer.
type request struct {
	Subscribe *struct {
		Devices []string `json:"devices"`
		Events  []Kind   `json:"events"`
	} `json:"subscribe"`
}

// maxSubscribed bounds the devices that one viewer names; more are "*".
const maxSubscribed = 1000

// parseSubscription reads a viewer's message. Without events it means all kinds.
func parseSubscription(data []byte) (*subscription, error) {
	var req request
	if err := decodeStrict(data, &req); err != nil {
		return nil, err
	}
	if req.Subscribe == nil || req.Subscribe.Devices == nil {
		return nil, &Invalid{Path: "subscribe.devices", Detail: `want {"subscribe":{"devices":["*"],"events":["presence"]}}`}
	}
	if n := len(req.Subscribe.Devices); n > maxSubscribed {
		return nil, &Invalid{Code: "too_many_devices", Path: "subscribe.devices", Detail: fmt.Sprintf(`%d devices, at most %d; "*" means all`, n, maxSubscribed)}
	}
	s := &subscription{devices: map[string]bool{}}
	for i, d := range req.Subscribe.Devices {
		if d == "*" {
			s.all = true
			continue
		}
		if err := wire.CheckID(d); err != nil {
			return nil, &Invalid{Path: fmt.Sprintf("subscribe.devices[%d]", i), Detail: err.Error()}
		}
		s.devices[d] = true
	}
	if req.Subscribe.Events == nil {
		s.kinds = Kinds
		return s, nil
	}
	for i, k := range req.Subscribe.Events {
		if !slices.Contains(Kinds, k) {
			return nil, &Invalid{Path: fmt.Sprintf("subscribe.events[%d]", i), Detail: fmt.Sprintf("%q is not one of presence, telemetry, command, state", k)}
		}
		if !slices.Contains(s.kinds, k) {
			s.kinds = append(s.kinds, k)
		}
	}
	return s, nil
}

func (s *subscription) wants(k Kind, device string) bool {
	return s != nil && slices.Contains(s.kinds, k) && (s.all || s.devices[device])
}

// telemetryDevices are the devices whose telemetry must be produced for s; "*" is all.
func (s *subscription) telemetryDevices() []string {
	if s == nil || !slices.Contains(s.kinds, TelemetryKind) {
		return nil
	}
	if s.all {
		return []string{"*"}
	}
	out := make([]string, 0, len(s.devices))
	for d := range s.devices {
		out = append(out, d)
	}
	return out
}
