package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Bounds of the time between two points of a model.
const (
	minInterval = time.Millisecond
	maxInterval = time.Hour
	minTick     = 20 * time.Millisecond // a device that measures faster than that takes several points a time
)

// model is the physics of one kind of device. sample is called in order of time.
type model interface {
	kind() *kind
	sample(at time.Time, row []float64)
	command(name string, params json.RawMessage) (plan, *wire.Fault)
	settings() []setting
}

// kind is what all devices of a model share.
type kind struct {
	name        string // as on the command line
	title       string // as in hello
	measurement string
	columns     []column
	commands    []wire.CommandSpec
	make        func(seed uint64) model
}

// source makes the points of a device.
type source interface {
	// fill puts into b what is due by now. It is called again no later than at filling.next, and whenever b has room.
	fill(b *backlog, now time.Time) (filling, error)
}

// filling is what a source did.
type filling struct {
	made, lost int
	next       time.Time // zero: when there is room
	done       bool      // there will be no more
}

// machine is a device of a model: it samples the model at its interval and carries out its commands.
type machine struct {
	model    model
	interval time.Duration
	anchor   time.Time // of the schedule: point k is due at anchor + k * interval
	count    int64     // points of the schedule that are made
	row      []float64
}

func newMachine(m model, interval time.Duration) *machine {
	return &machine{model: m, interval: interval, row: make([]float64, len(m.kind().columns))}
}

// fill takes the points that are due, also those that were due while the link was down; of those no more than the
// backlog holds.
func (m *machine) fill(b *backlog, now time.Time) (filling, error) {
	if m.anchor.IsZero() {
		m.anchor = now.Truncate(time.Millisecond)
	}
	var f filling
	due := int64(now.Sub(m.anchor)/m.interval) + 1 - m.count
	if skip := due - int64(b.limit); skip > 0 {
		m.count += skip
		f.made, f.lost, due = int(skip), int(skip), int64(b.limit)
	}
	for ; due > 0; due-- {
		at := m.at(m.count).Truncate(time.Millisecond)
		m.model.sample(at, m.row)
		f.lost += b.add(at.UnixNano(), m.row)
		f.made++
		m.count++
	}
	f.next = m.at(m.count)
	if soonest := now.Add(minTick); f.next.Before(soonest) {
		f.next = soonest
	}
	return f, nil
}

func (m *machine) at(k int64) time.Time { return m.anchor.Add(time.Duration(k) * m.interval) }

// pace changes the interval from the next point on.
func (m *machine) pace(seconds float64) error {
	if !(seconds >= minInterval.Seconds() && seconds <= maxInterval.Seconds()) {
		return fmt.Errorf("%v s is not between %v and %v", seconds, minInterval.Seconds(), maxInterval.Seconds())
	}
	if m.count > 0 {
		m.anchor, m.count = m.at(m.count-1), 1
	}
	m.interval = time.Duration(seconds * float64(time.Second))
	return nil
}

func (m *machine) hello() *wire.Hello {
	k := m.model.kind()
	return &wire.Hello{Firmware: firmware, Model: k.title, Commands: append(k.commands[:len(k.commands):len(k.commands)], setInterval)}
}

// firmware is the version that simulated devices announce.
const firmware = "2.3.1"

var setInterval = wire.CommandSpec{
	Name: "set_interval", Title: "Set interval", Params: schema(`"seconds":{"type":"number","minimum":0.001,"maximum":3600}`, "seconds"),
}

func (m *machine) command(name string, params json.RawMessage) (plan, *wire.Fault) {
	if name != setInterval.Name {
		return m.model.command(name, params)
	}
	var p struct {
		Seconds *float64 `json:"seconds"`
	}
	if fault := decode(params, &p); fault != nil {
		return plan{}, fault
	}
	if p.Seconds == nil || !(*p.Seconds >= minInterval.Seconds() && *p.Seconds <= maxInterval.Seconds()) {
		return plan{}, invalid("seconds: want a number from %v to %v", minInterval.Seconds(), maxInterval.Seconds())
	}
	return plan{
		begin:  func() { _ = m.pace(*p.Seconds) }, // checked above
		finish: func() any { return map[string]any{"seconds": m.interval.Seconds()} },
	}, nil
}

func (m *machine) settings() []setting {
	return append(m.model.settings(), setting{
		key: "interval_s", read: func() any { return m.interval.Seconds() }, write: m.pace,
	})
}

// unknown refuses a command that the model does not have.
func unknown(name string) *wire.Fault {
	return &wire.Fault{Code: "unknown_command", Message: fmt.Sprintf("this device has no command %q", name)}
}

// invalid refuses a command's parameters.
func invalid(format string, args ...any) *wire.Fault {
	return &wire.Fault{Code: "invalid_params", Message: fmt.Sprintf(format, args...)}
}

// decode reads parameters strictly. No parameters at all are read as none given.
func decode(params json.RawMessage, into any) *wire.Fault {
	if len(bytes.TrimSpace(params)) == 0 || string(params) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(params))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return invalid("params: %v", err)
	}
	return nil
}

// schema makes the JSON Schema of an object with the given properties and no others.
func schema(properties string, required ...string) json.RawMessage {
	if required == nil {
		required = []string{}
	}
	return json.RawMessage(`{"type":"object","properties":{` + properties + `},"required":` +
		string(mustJSON(required)) + `,"additionalProperties":false}`)
}

// round cuts a reading to the digits that its sensor has.
func round(v float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(v*scale) / scale
}
