package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// commandBody is what an operator asks of a device.
type commandBody struct {
	Name    string          `json:"name"`
	Params  json.RawMessage `json:"params"`
	TTL     json.RawMessage `json:"ttl"` // a duration, or the number 0
	Timeout string          `json:"timeout"`
	Confirm string          `json:"confirm"`

	NotBefore int64      `json:"not_before"`
	Priority  *int       `json:"priority"`
	Retry     *retryBody `json:"retry"`
}

// retryBody asks for more tries.
type retryBody struct {
	Attempts int    `json:"attempts"`
	Delay    string `json:"delay"`
}

const (
	maxCommandName    = 64
	maxIdempotencyKey = 128
)

func (a *API) postCommand(c *call) (*reply, error) {
	n, err := a.newCommand(c)
	if err != nil {
		return nil, err
	}
	cmd, err := a.opts.Commands.Create(c.Context(), n)
	if err != nil {
		return nil, err
	}
	c.audit.Detail = "command " + cmd.ID + " " + n.Name
	// The device may be at work already; the record is durable before anybody hears of the command.
	if err := a.recordNow(c, http.StatusAccepted); err != nil {
		return nil, err
	}
	if cmd, err = a.await(c, cmd); err != nil {
		return nil, err
	}
	rep := ok(cmd)
	if !cmd.Final() {
		rep.status = http.StatusAccepted
	}
	rep.header = http.Header{"Location": {root + "/commands/" + url.PathEscape(cmd.ID)}}
	return rep, nil
}

// newCommand reads and checks the request. What only the device's schema knows is checked by the Commander.
func (a *API) newCommand(c *call) (NewCommand, error) {
	var b commandBody
	if err := c.body(&b); err != nil {
		return NewCommand{}, err
	}
	n := NewCommand{
		Device: c.PathValue("id"), Name: b.Name, Params: b.Params, Actor: c.who.name,
		IdempotencyKey: c.Header.Get("Idempotency-Key"), Confirm: b.Confirm,
	}
	c.audit.Detail = "command " + clip(b.Name)
	if len(n.IdempotencyKey) > maxIdempotencyKey || !printable(n.IdempotencyKey) {
		return n, &Invalid{Code: "invalid_idempotency_key", Path: "Idempotency-Key", Detail: fmt.Sprintf("Idempotency-Key: at most %d printable characters", maxIdempotencyKey)}
	}
	return n, b.into(&n, "")
}

// into checks what the body says of a command and puts it there; at is where the body lies in the request.
func (b *commandBody) into(n *NewCommand, at string) error {
	if b.Name == "" || len(b.Name) > maxCommandName || !printable(b.Name) {
		return &Invalid{Code: "invalid_command", Path: at + "name", Detail: fmt.Sprintf("name: want 1 to %d characters", maxCommandName)}
	}
	if len(b.Params) > 0 && b.Params[0] != '{' {
		return &Invalid{Code: "invalid_type", Path: at + "params", Detail: "params: want an object"}
	}
	if len(b.TTL) > 0 && string(b.TTL) != "null" {
		ttl, err := ttlOf(at+"ttl", b.TTL)
		if err != nil || ttl < 0 {
			return orNegative(err, at+"ttl")
		}
		n.TTL = &ttl
	}
	if b.Timeout != "" {
		timeout, err := duration(at+"timeout", b.Timeout)
		if err != nil || timeout <= 0 {
			return orTooShort(err, at+"timeout")
		}
		n.Timeout = timeout
	}
	if b.NotBefore < 0 {
		return &Invalid{Code: "invalid_time", Path: at + "not_before", Detail: "not_before: want Unix milliseconds"}
	}
	n.NotBefore, n.Priority = b.NotBefore, b.Priority
	return b.Retry.into(n, at+"retry.")
}

// ttlOf reads a duration; 0 needs no unit, and no quotes.
func ttlOf(path string, raw json.RawMessage) (time.Duration, error) {
	if string(raw) == "0" {
		return 0, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return 0, &Invalid{Code: "invalid_type", Path: path, Detail: path + ` is neither 0 nor a duration in quotes; write "30s", "5m", "1h" or "7d"`}
	}
	return duration(path, s)
}

func (b *retryBody) into(n *NewCommand, at string) error {
	if b == nil {
		return nil
	}
	if b.Attempts < 1 {
		return &Invalid{Code: "invalid_parameter", Path: at + "attempts", Detail: "attempts: want at least 1, the first one counted"}
	}
	n.Attempts = b.Attempts
	if b.Delay == "" {
		return nil
	}
	delay, err := duration(at+"delay", b.Delay)
	if err != nil || delay < 0 {
		return orNegative(err, at+"delay")
	}
	n.AttemptDelay = delay
	return nil
}

func orTooShort(err error, path string) error {
	if err != nil {
		return err
	}
	return &Invalid{Code: "invalid_duration", Path: path, Detail: path + " must be above 0"}
}

func orNegative(err error, path string) error {
	if err != nil {
		return err
	}
	return &Invalid{Code: "invalid_duration", Path: path, Detail: path + " must not be negative"}
}

// mayWait takes the place of a call that will wait for a command, before anything is made of it. It keeps it until it is
// answered.
func (a *API) mayWait(c *call) (err error) {
	if c.wait, err = waitOf(c.URL.Query()); err != nil || c.wait == 0 {
		return err
	}
	return a.enter(&c.waiting, a.waits, c.who.name)
}

// await waits for the command to end, as long as the caller asked and is there. One who leaves leaves the command intact.
// Others take the place of a request meanwhile.
func (a *API) await(c *call, cmd Command) (Command, error) {
	if c.wait == 0 || cmd.Final() {
		return cmd, nil
	}
	c.slot.leave()
	start := time.Now()
	defer func() { c.waited += time.Since(start) }()
	ctx, cancel := context.WithTimeout(c.patience, c.wait)
	defer cancel()
	return a.opts.Commands.Wait(ctx, cmd.ID)
}

func waitOf(q url.Values) (time.Duration, error) {
	s := q.Get("wait")
	if s == "" {
		return 0, nil
	}
	wait, err := duration("wait", s)
	if err != nil {
		return 0, err
	}
	if wait < 0 || wait > maxWait {
		return 0, &Invalid{Code: "invalid_parameter", Path: "wait", Detail: fmt.Sprintf("wait %s: want 0 to %s", s, maxWait)}
	}
	return wait, nil
}

func (a *API) getCommand(c *call) (*reply, error) {
	cmd, err := a.opts.Commands.Find(c.Context(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if cmd, err = a.await(c, cmd); err != nil {
		return nil, err
	}
	return ok(cmd), nil
}

type commandList struct {
	Commands []Command `json:"commands"`
	Cursor   string    `json:"cursor,omitempty"`
}

func (a *API) getCommands(c *call) (*reply, error) {
	q := c.URL.Query()
	p, err := page(q)
	if err != nil {
		return nil, err
	}
	if d := q.Get("device"); d != "" {
		if err := wire.CheckID(d); err != nil {
			return nil, &Invalid{Code: "invalid_parameter", Path: "device", Detail: err.Error()}
		}
	}
	if s := q.Get("state"); s != "" {
		if _, known := commandStates[s]; !known {
			return nil, &Invalid{Code: "invalid_parameter", Path: "state", Detail: fmt.Sprintf("state %q is none of a command", s)}
		}
	}
	awaiting, err := optionalBool(q, "awaiting_approval")
	if err != nil {
		return nil, err
	}
	query := CommandQuery{
		Device: q.Get("device"), State: q.Get("state"), Actor: q.Get("actor"), Awaiting: awaiting != nil && *awaiting,
		Visible: a.visibleTo(c.who), Page: p,
	}
	found, err := a.opts.Commands.List(c.Context(), query)
	if err != nil {
		return nil, err
	}
	if found.Commands == nil {
		found.Commands = []Command{}
	}
	return ok(commandList(found)), nil
}

func (a *API) deleteCommand(c *call) (*reply, error) {
	cmd, err := a.opts.Commands.Cancel(c.Context(), c.PathValue("id"), c.who.name)
	if err != nil {
		return nil, err
	}
	c.audit.Detail = "device " + cmd.Device
	rep := ok(cmd)
	if !cmd.Final() {
		rep.status = http.StatusAccepted // the device is asked
	}
	return rep, nil
}
