package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// links is the way of commands to all devices of this node: its sockets, and the devices that it bridges.
type links struct{ *hub }

func (l links) bridged(device string) bool {
	return strings.HasPrefix(l.presence.State(device).Link, "mqtt:")
}

func (l links) Deliver(ctx context.Context, device string, c wire.Command) (commands.Delivery, error) {
	if l.bridged(device) {
		d, err := l.bridge.Links().Deliver(ctx, device, c)
		return commands.Delivery(d), linkRefusal(err)
	}
	a, err := l.registry.Deliver(ctx, device, c)
	return commands.Delivery{Session: a.Session, Epoch: a.Epoch}, linkRefusal(err)
}

func (l links) Cancel(ctx context.Context, device, id string) error {
	if l.bridged(device) {
		return linkRefusal(l.bridge.Links().Cancel(ctx, device, id))
	}
	return linkRefusal(l.registry.Cancel(ctx, device, id))
}

// linkRefusal maps the sentinels of both links to the router's.
func linkRefusal(err error) error {
	switch {
	case errors.Is(err, bridge.ErrNotConnected), errors.Is(err, devices.ErrNotConnected):
		return errors.Join(commands.ErrNotConnected, err)
	case errors.Is(err, bridge.ErrUnsupported):
		return errors.Join(commands.ErrUnsupported, err)
	}
	return err
}

// commandSink is the router as devices see it.
type commandSink struct{ router *commands.Router }

func (s commandSink) Attached(a devices.Attachment) { s.router.Attached(commands.Attachment(a)) }

func (s commandSink) Announced(specs []wire.CommandSpec) error { return s.router.CheckSpecs(specs) }

func (s commandSink) Answered(a devices.Attachment, ans *wire.Answer, recorded func(error)) {
	s.router.Answered(commands.Attachment(a), ans, recorded)
}

// answerSink is the router as the bridge sees it.
type answerSink struct{ router *commands.Router }

func (s answerSink) Answered(device string, ans *wire.Answer, evidence string, recorded func(error)) {
	s.router.Observed(device, ans, evidence, recorded)
}

// commander is the router as the API sees it.
type commander struct{ router *commands.Router }

// refusals maps the router's sentinels to the API's.
var refusals = []struct{ from, to error }{
	{commands.ErrUnknownDevice, api.ErrDeviceNotFound},
	{commands.ErrOtherDevice, api.ErrDeviceNotFound},
	{commands.ErrUnknownCommand, api.ErrUnknownCommand},
	{commands.ErrConfirmRequired, api.ErrNotConfirmed},
	{commands.ErrOffline, api.ErrDeviceOffline},
	{commands.ErrQueueFull, api.ErrQueueFull},
	{commands.ErrOverloaded, api.ErrOverloaded},
	{commands.ErrKeyReused, api.ErrIdempotencyReuse},
	{commands.ErrNotFound, api.ErrCommandNotFound},
	{commands.ErrNoLease, api.ErrNoLease},
	{commands.ErrNotAwaiting, api.ErrNotAwaiting},
	{commands.ErrSelfApproval, api.ErrSelfApproval},
	{commands.ErrFinal, api.ErrCommandEnded},
	{commands.ErrLogFull, api.ErrUnavailable},
	{commands.ErrClosed, api.ErrUnavailable},
	{commands.ErrUnclear, api.ErrOutcomeUnknown},
}

func refusal(err error) error {
	if err == nil {
		return nil
	}
	var inv *commands.InvalidError
	if errors.As(err, &inv) {
		if inv.Path == "cursor" {
			return errors.Join(api.ErrInvalidCursor, err)
		}
		out := &api.Invalid{Path: inv.Path, Detail: inv.Error()}
		if errors.Is(err, commands.ErrInvalidParams) {
			out.Code, out.Status = "invalid_params", 422
			out.Hint = "the device record shows the schema of each command's parameters"
		}
		return out
	}
	var held *commands.HeldError
	if errors.As(err, &held) {
		return &api.Invalid{
			Status: 409, Code: "device_held", Detail: held.Error(),
			Hint: "ask " + held.Lease.Holder + " to release it, or wait until the lease ends; an admin can take it over",
		}
	}
	for _, r := range refusals {
		if errors.Is(err, r.from) {
			return errors.Join(r.to, err)
		}
	}
	return err
}

func (c commander) Create(ctx context.Context, n api.NewCommand) (api.Command, error) {
	req := commands.Request{
		Device: n.Device, Name: n.Name, Params: n.Params, Timeout: n.Timeout, Actor: n.Actor,
		IdempotencyKey: n.IdempotencyKey, Confirm: n.Confirm, Priority: n.Priority,
		Retry: commands.Retry{Attempts: n.Attempts, Delay: n.AttemptDelay},
	}
	if n.NotBefore > 0 {
		req.NotBefore = time.UnixMilli(n.NotBefore)
	}
	if n.TTL != nil {
		req.TTL, req.OnlineOnly = *n.TTL, *n.TTL == 0
	}
	cmd, err := c.router.Create(ctx, req)
	return toCommand(cmd), refusal(err)
}

func (c commander) Wait(ctx context.Context, id string) (api.Command, error) {
	cmd, err := c.router.Wait(ctx, id)
	if err != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	return toCommand(cmd), refusal(err)
}

func (c commander) Find(ctx context.Context, id string) (api.Command, error) {
	cmd, err := c.router.Command(ctx, id)
	return toCommand(cmd), refusal(err)
}

func (c commander) List(ctx context.Context, q api.CommandQuery) (api.CommandPage, error) {
	page, err := c.router.List(ctx, commands.Filter{
		Device: q.Device, State: commands.State(q.State), Actor: q.Actor, Awaiting: q.Awaiting, Cursor: q.Cursor, Limit: q.Limit,
	})
	if err != nil {
		return api.CommandPage{}, refusal(err)
	}
	out := api.CommandPage{Cursor: page.Cursor}
	for _, cmd := range page.Commands {
		if q.Visible == nil || q.Visible(cmd.Device) {
			out.Commands = append(out.Commands, toCommand(cmd))
		}
	}
	return out, nil
}

func (c commander) Cancel(ctx context.Context, id, actor string) (api.Command, error) {
	cmd, err := c.router.Cancel(ctx, id, actor)
	return toCommand(cmd), refusal(err)
}

func toCommand(c commands.Command) api.Command {
	out := api.Command{
		ID: c.ID, Device: c.Device, Name: c.Name, Params: c.Params, State: string(c.State), Late: c.Late, Evidence: c.Evidence,
		Actor: c.Actor, Created: c.Created, Expires: c.Expires, Attempt: c.Attempt, Result: c.Result,
		NotBefore: c.NotBefore, Priority: c.Priority, Awaiting: c.Awaiting, ApprovedBy: c.ApprovedBy, Job: c.Job, Retry: (*api.Retry)(c.Retry),
	}
	if c.Progress != nil {
		out.Progress = &api.CommandProgress{Percent: c.Progress.Percent, Message: c.Progress.Message}
	}
	if c.Error != nil {
		out.Error = &api.CommandFault{Code: c.Error.Code, Message: c.Error.Message}
	}
	for _, e := range c.Events {
		out.Events = append(out.Events, api.CommandEvent{
			Time: e.Time, State: string(e.State), Node: e.Node, Session: e.Session, Epoch: e.Epoch,
			Actor: e.Actor, Evidence: e.Evidence, Detail: e.Detail,
		})
	}
	return out
}
