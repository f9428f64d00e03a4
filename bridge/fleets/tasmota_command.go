package fleets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// defaultWait is how long an answer is waited for when the command names no timeout.
const defaultWait = 30 * time.Second

// maxConsoleName is the longest name of a console command.
const maxConsoleName = 32

// ask is a command that waits for its answer.
type ask struct {
	id    string
	key   string // the key its answer holds, in upper case
	want  string // the value it must have; empty: any
	since time.Time
	until time.Time
}

// plugCommands is what a device with so many relays can be asked.
func plugCommands(relays int, light bool) []wire.CommandSpec {
	power := json.RawMessage(`{"type":"object","properties":{"state":{"type":"string","enum":["on","off","toggle"]}},` +
		`"required":["state"],"additionalProperties":false}`)
	specs := []wire.CommandSpec{{Name: "power", Title: "Switch", Params: power}}
	for i := 1; relays > 1 && i <= relays; i++ {
		n := strconv.Itoa(i)
		specs = append(specs, wire.CommandSpec{Name: "power" + n, Title: "Switch " + n, Params: power})
	}
	if light {
		specs = append(specs, wire.CommandSpec{Name: "dimmer", Title: "Dimmer", Params: json.RawMessage(
			`{"type":"object","properties":{"value":{"type":"integer","minimum":0,"maximum":100}},` +
				`"required":["value"],"additionalProperties":false}`)})
	}
	return append(specs,
		wire.CommandSpec{Name: "status", Title: "Ask for status", Params: json.RawMessage(
			`{"type":"object","properties":{"value":{"type":"integer","minimum":0,"maximum":13}},"additionalProperties":false}`)},
		wire.CommandSpec{Name: "console", Title: "Console command", Dangerous: true, Params: json.RawMessage(
			`{"type":"object","properties":{"command":{"type":"string","pattern":"^[A-Za-z][A-Za-z0-9]*$"},` +
				`"value":{"type":["string","number","boolean"]}},"required":["command"],"additionalProperties":false}`)},
	)
}

// Command publishes to cmnd/<topic>/<command>. Besides the announced commands any console command is one, with its
// argument as "value".
func (t *tasmota) Command(device string, c wire.Command, now time.Time) (*Request, error) {
	name, value, err := consoleCommand(c)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.plugs[device]
	if p == nil {
		return nil, fmt.Errorf("%w: %s is not a known Tasmota device", ErrUnsupported, device)
	}
	since, again := now, false // an answer to an earlier attempt at the same command is one too
	p.waiting = slices.DeleteFunc(p.waiting, func(a ask) bool {
		if a.id == c.ID {
			since, again = a.since, true
		}
		return a.id == c.ID || now.After(a.until)
	})
	if len(p.waiting) >= maxWaiting {
		return nil, ErrBusy
	}
	wait := defaultWait
	if c.TimeoutMS > 0 {
		wait = time.Duration(c.TimeoutMS) * time.Millisecond
	}
	key := powerKey(strings.ToUpper(name))
	p.waiting = append(p.waiting, ask{id: c.ID, key: key, want: p.expect(key, value), since: since, until: now.Add(wait)})
	return &Request{
		Topic:   p.base[cmnd] + name,
		Payload: []byte(value),
		Forget: func() {
			if again {
				return
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			p.waiting = slices.DeleteFunc(p.waiting, func(a ask) bool { return a.id == c.ID })
		},
	}, nil
}

// consoleCommand turns a command into Tasmota's console language.
func consoleCommand(c wire.Command) (name, value string, err error) {
	params := map[string]any{}
	if len(bytes.TrimSpace(c.Params)) > 0 {
		if params, err = DecodeObject(c.Params); err != nil {
			return "", "", fmt.Errorf("%w: params: %w", ErrUnsupported, err)
		}
	}
	name = c.Name
	if strings.EqualFold(name, "console") {
		if name, _ = params["command"].(string); name == "" {
			return "", "", fmt.Errorf("%w: console needs params.command", ErrUnsupported)
		}
	}
	if !isConsoleName(name) {
		return "", "", fmt.Errorf("%w: %q is not the name of a console command", ErrUnsupported, name)
	}
	raw, ok := params["value"]
	if isPower(strings.ToUpper(name)) {
		name = strings.ToUpper(name)
		if state, has := params["state"]; has {
			raw, ok = state, true
		}
		if !ok {
			return "", "", fmt.Errorf(`%w: power needs params {"state":"on|off|toggle"}`, ErrUnsupported)
		}
	}
	value, err = argument(raw)
	if isPower(name) {
		value = strings.ToUpper(value)
	}
	return name, value, err
}

func argument(v any) (string, error) {
	var s string
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		s = v
	case json.Number:
		s = string(v)
	case bool:
		s = map[bool]string{true: "ON", false: "OFF"}[v]
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return "", fmt.Errorf("%w: params.value: %w", ErrUnsupported, err)
		}
		s = string(b)
	}
	return s, nil
}

func isConsoleName(name string) bool {
	if name == "" || len(name) > maxConsoleName {
		return false
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return true
}

// isPower reports whether name is POWER, POWER1, POWER2 and so on.
func isPower(name string) bool {
	n, ok := strings.CutPrefix(name, "POWER")
	if !ok {
		return false
	}
	_, err := strconv.ParseUint(n, 10, 8)
	return n == "" || err == nil
}

// powerKey makes POWER and POWER1 the same: a device with one relay says POWER, one with more says POWER1.
func powerKey(key string) string {
	if key == "POWER" {
		return "POWER1"
	}
	return key
}

// expect is the value that shows that the command was obeyed. Only where Tasmota repeats the argument can it be known.
func (p *plug) expect(key, value string) string {
	switch {
	case isPower(key):
		switch value {
		case "ON", "1", "TRUE":
			return p.states[1]
		case "OFF", "0", "FALSE":
			return p.states[0]
		}
	case key == "DIMMER":
		if n, err := strconv.ParseFloat(value, 64); err == nil && n >= 0 && n <= 100 && value[0] != '+' {
			return value
		}
	}
	return ""
}

// statLocked reads an answer: evidence for the command that waits for it, and a new state of the switches.
func (t *tasmota) statLocked(p *plug, name string, m Message) (Result, error) {
	if m.Retained {
		return Result{}, &Drop{Reason: Retained, Detail: "an answer of an unknown time"}
	}
	obj, err := DecodeObject(m.Payload)
	plain := err != nil
	if plain {
		if !isPower(name) || len(m.Payload) == 0 {
			return Result{}, err
		}
		obj = map[string]any{name: string(m.Payload)}
	}
	u := p.update()
	u.Presence, u.Cause = Online, "telemetry"
	if plain && p.json {
		return Result{Updates: []Update{u}}, nil // RESULT has said the same
	}
	p.json = p.json || !plain
	if answer, ok := p.answer(name, obj, m); ok {
		u.Answers = []Answer{answer}
	}
	u.State = p.reported(obj)
	switches := map[string]any{}
	for key, v := range obj {
		if s, ok := v.(string); ok && isPower(key) {
			switches[key] = s
		}
	}
	if len(switches) > 0 {
		fields, err := Flatten(switches)
		if err != nil {
			return Result{}, err
		}
		u.Points = []wire.Point{{Measurement: []byte("state"), Fields: fields}}
	}
	return Result{Updates: []Update{u}}, nil
}

// answer finds the oldest waiting command that obj answers. Tasmota names no command id, so the key that the answer
// holds decides, and where it can be known the value.
func (p *plug) answer(name string, obj map[string]any, m Message) (Answer, bool) {
	p.waiting = slices.DeleteFunc(p.waiting, func(a ask) bool { return m.Received.After(a.until) })
	refusal, refused := obj["Command"].(string)
	for i, a := range p.waiting {
		switch {
		case m.Received.Before(a.since):
			continue // it waited to be read
		case refused && refusedInput(obj, a.key):
		case !refused && a.answeredBy(name, obj):
		default:
			continue
		}
		p.waiting = slices.Delete(p.waiting, i, i+1)
		answer := wire.Answer{Kind: wire.Result, ID: a.id, OK: !refused}
		if refused {
			answer.Error = refusalFault(refusal, a.key)
		} else if result, err := json.Marshal(obj); err == nil {
			answer.Result = result
		}
		return Answer{Answer: answer, Evidence: Observed}, true
	}
	return Answer{}, false
}

// refusedInput reports whether {"Command":"Unknown","Input":"FOO"} is about key; older versions name no input.
func refusedInput(obj map[string]any, key string) bool {
	input, ok := obj["Input"].(string)
	return !ok || input == "" || powerKey(strings.ToUpper(input)) == key
}

func refusalFault(refusal, key string) *wire.Fault {
	if strings.EqualFold(refusal, "Unknown") {
		return &wire.Fault{Code: "unknown_command", Message: "the device does not know " + key}
	}
	return &wire.Fault{Code: "refused", Message: "the device answered " + key + " by " + CleanText(refusal, maxFaultBytes)}
}

// maxFaultBytes is how much of a device's refusal is told on.
const maxFaultBytes = 200

func (a ask) answeredBy(name string, obj map[string]any) bool {
	if name = strings.ToUpper(name); a.key == "STATUS" && strings.HasPrefix(name, "STATUS") {
		return true
	}
	for key, v := range obj {
		if powerKey(strings.ToUpper(key)) == a.key {
			return a.want == "" || sameValue(a.want, v)
		}
	}
	return powerKey(name) == a.key && a.want == ""
}

func sameValue(want string, got any) bool {
	switch got := got.(type) {
	case string:
		return strings.EqualFold(want, got)
	case json.Number:
		w, err1 := strconv.ParseFloat(want, 64)
		g, err2 := got.Float64()
		return err1 == nil && err2 == nil && math.Abs(w-g) < 0.5
	default:
		return false
	}
}
