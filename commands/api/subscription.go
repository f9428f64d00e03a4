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

// maxSubscribed bounds the devices that one viewer names; more are "*". Of maxTraced it may see the frames.
const (
	maxSubscribed = 1000
	maxTraced     = 16
)

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
		s.kinds = usualKinds
		return s, nil
	}
	s.kinds = []Kind{} // none is an empty list, also to the viewer
	for i, k := range req.Subscribe.Events {
		if !slices.Contains(Kinds, k) {
			return nil, &Invalid{Path: fmt.Sprintf("subscribe.events[%d]", i), Detail: fmt.Sprintf("%q is not one of presence, telemetry, command, state, trace", k)}
		}
		if !slices.Contains(s.kinds, k) {
			s.kinds = append(s.kinds, k)
		}
	}
	if slices.Contains(s.kinds, TraceKind) && (s.all || len(s.devices) > maxTraced) {
		return nil, &Invalid{
			Code: "too_many_devices", Path: "subscribe.devices", Detail: fmt.Sprintf("frames are shown of named devices, at most %d", maxTraced),
		}
	}
	return s, nil
}

func (s *subscription) wants(k Kind, device string) bool {
	return s != nil && slices.Contains(s.kinds, k) && (s.all || s.devices[device])
}

// mark is what must be produced for a viewer, since otherwise it is not; device "*" is all.
type mark struct {
	kind   Kind
	device string
}

func (s *subscription) marks() (out []mark) {
	if s == nil {
		return nil
	}
	for _, k := range []Kind{TelemetryKind, TraceKind} {
		if !slices.Contains(s.kinds, k) {
			continue
		}
		if s.all {
			out = append(out, mark{k, "*"})
			continue
		}
		for d := range s.devices {
			out = append(out, mark{k, d})
		}
	}
	return out
}
