package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/commands/api"
)

// order is what the send command was asked.
type order struct {
	wait         time.Duration
	ttl, timeout string
	params, key  string
	yes          bool
	course       course
}

// course is when, how urgently and how often a command is sent.
type course struct {
	at         string
	priority   int
	attempts   int
	retryDelay time.Duration
}

func (o *course) flags(cmd *cobra.Command) {
	p := cmd.Flags()
	p.StringVar(&o.at, "at", "", "not before this time: RFC 3339, Unix milliseconds or +1h")
	p.IntVar(&o.priority, "priority", commands.DefaultPriority, "0 to 9; of the commands that wait for a device the highest goes first")
	p.IntVar(&o.attempts, "attempts", 1, "how often to try, when the device fails or stays silent")
	p.DurationVar(&o.retryDelay, "retry-delay", 10*time.Second, "between two tries")
}

// into puts into the request what was asked for.
func (o *course) into(body map[string]any) error {
	if o.at != "" {
		at, err := futureTime(o.at, time.Now())
		if err != nil {
			return err
		}
		body["not_before"] = at.UnixMilli()
	}
	if o.priority != commands.DefaultPriority {
		body["priority"] = o.priority
	}
	if o.attempts > 1 {
		body["retry"] = map[string]any{"attempts": o.attempts, "delay": o.retryDelay.String()}
	}
	return nil
}

func futureTime(s string, now time.Time) (time.Time, error) {
	if after, ok := strings.CutPrefix(s, "+"); ok {
		d, err := time.ParseDuration(after)
		if err != nil {
			return now, usage("--at %s: %w", s, err)
		}
		return now.Add(d), nil
	}
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return at, usage("--at %s: want RFC 3339, Unix milliseconds or +1h", s)
	}
	return at, nil
}

func newSendCommand() *cobra.Command {
	o := order{}
	cmd := &cobra.Command{
		Use:   "send DEVICE NAME [key=value ...]",
		Short: "Send a command to a device and show what became of it",
		Long: "Send records a command, waits for its end and prints each state with its evidence.\n\n" +
			"Values are typed by the schema that the device announced; without one, what reads as JSON is JSON and the rest is text.\n\n" +
			"Exit codes: 0 succeeded, 1 failed or rejected, 2 usage, 3 expired, timed out or still open when --wait ended,\n" +
			"4 device off line, 5 not allowed, 6 hub unreachable.",
		Args: atLeast(2),
	}
	f := addClientFlags(cmd)
	cmd.Flags().DurationVar(&o.wait, "wait", 30*time.Second, "how long to wait for the end; 0 does not wait")
	cmd.Flags().StringVar(&o.ttl, "ttl", "", "how long the command may wait for the device, as 1h; 0 means only if on line now")
	cmd.Flags().StringVar(&o.timeout, "timeout", "", "how long the device may take, as 30s")
	cmd.Flags().StringVar(&o.params, "params", "", "parameters as one JSON object")
	cmd.Flags().StringVar(&o.key, "key", "", "idempotency key; the same key again returns the first command")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "confirm a command that the device calls dangerous")
	o.course.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return send(cmd, f, o, args) }
	return cmd
}

func send(cmd *cobra.Command, f *clientFlags, o order, args []string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	device, name := args[0], args[1]
	body := map[string]any{"name": name}
	params, err := c.params(cmd.Context(), device, name, o.params, args[2:])
	if err != nil {
		return err
	}
	if params != nil {
		body["params"] = params
	}
	if o.ttl != "" {
		body["ttl"] = o.ttl
	}
	if o.timeout != "" {
		body["timeout"] = o.timeout
	}
	if o.yes {
		body["confirm"] = device
	}
	if err := o.course.into(body); err != nil {
		return err
	}
	if o.key == "" {
		o.key = "cli-" + rand.Text()
	}
	var done api.Command
	_, raw, err := c.do(cmd.Context(), request{
		method: http.MethodPost, path: "/devices/" + escape(device) + "/commands", query: url.Values{"wait": {o.wait.String()}},
		header: http.Header{"Idempotency-Key": {o.key}}, body: body, wait: o.wait,
	}, &done)
	if err != nil {
		return err
	}
	if c.json {
		err = printRaw(cmd, raw, nil)
	} else {
		err = printCommand(cmd, done)
	}
	if err != nil {
		return err
	}
	return outcome(done, o.wait)
}

// outcome is the exit code that a command's state stands for.
func outcome(c api.Command, wait time.Duration) error {
	switch {
	case c.State == "succeeded":
		return nil
	case c.State == "expired", c.State == "timed_out":
		return &exitError{exitTimedOut, fmt.Errorf("command %s %s", c.ID, c.State)}
	case c.Final():
		return &exitError{exitFailed, fmt.Errorf("command %s %s", c.ID, c.State)}
	case wait == 0:
		return nil
	}
	return &exitError{exitTimedOut, fmt.Errorf("command %s is still %s after %s; see: fairlead commands show %s", c.ID, c.State, wait, c.ID)}
}

// params types key=value words by the schema that the device announced.
func (c *client) params(ctx context.Context, device, name, whole string, words []string) (map[string]any, error) {
	params := map[string]any{}
	if whole != "" {
		if err := json.Unmarshal([]byte(whole), &params); err != nil {
			return nil, usage("--params is not a JSON object: %w", err)
		}
	}
	if len(words) == 0 {
		if whole == "" {
			return nil, nil
		}
		return params, nil
	}
	types, err := c.paramTypes(ctx, device, name)
	if err != nil {
		return nil, err
	}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, usage("parameter %q: want key=value", word)
		}
		if params[key], err = typed(key, value, types[key]); err != nil {
			return nil, err
		}
	}
	return params, nil
}

// paramTypes reads the JSON Schema types of a command's parameters; it is empty if the device announced none.
func (c *client) paramTypes(ctx context.Context, device, name string) (map[string][]string, error) {
	var d api.Device
	if _, err := c.get(ctx, "/devices/"+escape(device), nil, &d); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, spec := range d.Commands {
		if spec.Name != name {
			continue
		}
		var schema struct {
			Properties map[string]struct {
				Type any `json:"type"`
			} `json:"properties"`
		}
		if json.Unmarshal(spec.Params, &schema) != nil {
			return out, nil // the hub will judge
		}
		for key, p := range schema.Properties {
			switch t := p.Type.(type) {
			case string:
				out[key] = []string{t}
			case []any:
				for _, one := range t {
					out[key] = append(out[key], fmt.Sprint(one))
				}
			}
		}
	}
	return out, nil
}

// typed reads a value as the first of types that it fits; with no types it is JSON if it reads as JSON, else text.
func typed(key, value string, types []string) (any, error) {
	var v any
	isJSON := json.Unmarshal([]byte(value), &v) == nil
	if len(types) == 0 {
		if isJSON {
			return v, nil
		}
		return value, nil
	}
	for _, t := range types {
		if t == "string" {
			return value, nil
		}
		if isJSON && jsonType(v, t) {
			return v, nil
		}
	}
	return nil, usage("parameter %s=%s: the device wants %s", key, value, strings.Join(types, " or "))
}

func jsonType(v any, name string) bool {
	switch v := v.(type) {
	case float64:
		return name == "number" || name == "integer" && v == float64(int64(v))
	case bool:
		return name == "boolean"
	case map[string]any:
		return name == "object"
	case []any:
		return name == "array"
	case nil:
		return name == "null"
	}
	return false
}
