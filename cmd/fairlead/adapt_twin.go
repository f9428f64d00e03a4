package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/commands/twin"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// stateKeeper is the twin as the API sees it.
type stateKeeper struct{ twin *twin.Twin }

// stateRefusals maps the twin's sentinels to the API's.
var stateRefusals = []struct{ from, to error }{
	{twin.ErrUnknownDevice, api.ErrDeviceNotFound},
	{twin.ErrVersionMismatch, api.ErrVersionMismatch},
	{twin.ErrTooLarge, api.ErrStateTooLarge},
	{twin.ErrConflict, api.ErrUnavailable},
	{twin.ErrFull, api.ErrUnavailable},
}

func stateRefusal(err error) error {
	if errors.Is(err, twin.ErrInvalid) {
		return &api.Invalid{Code: "invalid_state", Detail: err.Error()}
	}
	for _, r := range stateRefusals {
		if errors.Is(err, r.from) {
			return errors.Join(r.to, err)
		}
	}
	return err
}

func (k stateKeeper) State(ctx context.Context, device string) (api.TwinState, error) {
	s, err := k.twin.State(ctx, device)
	return api.TwinState(s), stateRefusal(err)
}

func (k stateKeeper) PatchDesired(ctx context.Context, device string, patch json.RawMessage, version *uint64) (api.TwinState, error) {
	s, err := k.twin.PatchDesired(ctx, device, patch, version)
	return api.TwinState(s), stateRefusal(err)
}

// sessionSink tells router and twin of sessions, and the router of answers.
type sessionSink struct {
	commandSink
	twin *twin.Twin
}

func (s sessionSink) Attached(a devices.Attachment) {
	s.commandSink.Attached(a)
	s.twin.Attached(a.Device)
}

// stateSink is the twin as devices see it.
type stateSink struct{ twin *twin.Twin }

func (s stateSink) Reported(a devices.Attachment, r *wire.StateReport) error {
	return s.twin.Reported(a.Device, r)
}
