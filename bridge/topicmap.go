package bridge

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The forms of a payload.
const (
	payloadJSON  = "json"  // an object of fields, or a list of such objects
	payloadValue = "value" // one number, boolean or string
	payloadLine  = "line"  // InfluxDB line protocol
)

// The names used where a map names none.
const (
	defaultMeasurement = "telemetry"
	defaultField       = "value"
)

// part is what one level of a pattern stands for.
type part uint8

const (
	literal part = iota
	wildcard
	rest
	deviceLevel
	measurementLevel
	fieldLevel
	tagLevel
	idLevel
)

type level struct {
	part part
	text string // of a literal, or the tag's name
}

// pattern is a topic whose levels may be placeholders.
type pattern struct {
	filter string
	levels []level
}

// vars are what a topic says.
type vars struct {
	device, measurement, field, id string
	tags                           []wire.Tag
}

var placeholders = map[string]part{
	"{device}": deviceLevel, "{measurement}": measurementLevel, "{field}": fieldLevel, "{id}": idLevel,
	"+": wildcard, "#": rest,
}

// compilePattern reads a pattern. Each placeholder is a whole level and appears once; allowed says which.
func compilePattern(s string, allowed ...part) (pattern, error) {
	var p pattern
	seen := make(map[level]bool)
	names := strings.Split(s, "/")
	filter := make([]string, len(names))
	for i, name := range names {
		l := level{part: literal, text: name}
		if kind, ok := placeholders[name]; ok {
			l = level{part: kind}
		} else if tag, ok := strings.CutPrefix(name, "{tag:"); ok && strings.HasSuffix(tag, "}") {
			l = level{part: tagLevel, text: strings.TrimSuffix(tag, "}")}
			if l.text == "" || fleets.CleanName(l.text) != l.text || l.text == "device" {
				return pattern{}, fmt.Errorf("%s: %q cannot be a tag's name", s, l.text)
			}
		} else if strings.ContainsAny(name, "{}") {
			return pattern{}, fmt.Errorf("%s: %q: a placeholder is a whole level and one of {device} {measurement} {field} {tag:NAME} {id}", s, name)
		}
		if l.part > rest {
			if seen[l] || !contains(allowed, l.part) {
				return pattern{}, fmt.Errorf("%s: %s is not allowed here or comes twice", s, name)
			}
			seen[l] = true
			name = "+"
		}
		filter[i] = name
		p.levels = append(p.levels, l)
	}
	p.filter = strings.Join(filter, "/")
	return p, CheckFilter(p.filter)
}

func contains(parts []part, p part) bool {
	for _, q := range parts {
		if p == q {
			return true
		}
	}
	return false
}

func (p pattern) has(want part) bool {
	for _, l := range p.levels {
		if l.part == want {
			return true
		}
	}
	return false
}

// match reads a topic.
func (p pattern) match(topic string) (vars, bool) {
	var v vars
	if !Matches(p.filter, topic) {
		return v, false
	}
	names := strings.Split(topic, "/")
	for i, l := range p.levels {
		if l.part == rest {
			break
		}
		switch l.part {
		case deviceLevel:
			v.device = names[i]
		case measurementLevel:
			v.measurement = names[i]
		case fieldLevel:
			v.field = names[i]
		case idLevel:
			v.id = names[i]
		case tagLevel:
			v.tags = append(v.tags, wire.Tag{Key: []byte(l.text), Value: []byte(cleanTag(names[i]))})
		}
	}
	return v, true
}

// maxTagBytes is the longest tag value of the device protocol.
const maxTagBytes = 256

func cleanTag(s string) string {
	return strings.TrimRight(fleets.CleanText(s, maxTagBytes), `\`)
}

// TopicMap turns messages of matching topics into points.
type TopicMap struct {
	pattern     pattern
	payload     string
	device      string
	measurement string
	field       string
	timeKey     string
	qos         byte
	retained    bool
}

// NewTopicMap reads one entry of the configuration.
func NewTopicMap(c configs.InMap) (*TopicMap, error) {
	p, err := compilePattern(c.Topic, deviceLevel, measurementLevel, fieldLevel, tagLevel)
	if err != nil {
		return nil, fmt.Errorf("topic: %w", err)
	}
	m := &TopicMap{
		pattern: p, payload: c.Payload, device: c.Device, measurement: c.Measurement, field: c.Field,
		timeKey: c.Time, qos: byte(c.QoS), retained: c.Retained,
	}
	if m.payload == "" {
		m.payload = payloadJSON
	}
	return m, m.check(c)
}

func (m *TopicMap) check(c configs.InMap) error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch m.payload {
	case payloadJSON, payloadValue, payloadLine:
	default:
		fault("payload: %q is none of json, value, line", m.payload)
	}
	if c.QoS < 0 || c.QoS > 1 {
		fault("qos: %d; 0 and 1 are supported", c.QoS)
	}
	if has := m.pattern.has(deviceLevel); has == (m.device != "") {
		fault("device: must be either a level of the topic, as {device}, or named")
	}
	if m.pattern.has(measurementLevel) && m.measurement != "" {
		fault("measurement: is a level of the topic already")
	}
	if m.pattern.has(fieldLevel) && m.field != "" {
		fault("field: is a level of the topic already")
	}
	if m.timeKey != "" && m.payload != payloadJSON {
		fault("time: only json payloads hold a time by name")
	}
	for key, name := range map[string]string{"measurement": m.measurement, "field": m.field} {
		if name != "" && fleets.CleanName(name) != name {
			fault("%s: %q is not a name of the device protocol", key, name)
		}
	}
	return errors.Join(errs...)
}

// Points reads one message. It reports false if the topic is not the map's, and a *fleets.Drop if the message means
// nothing.
func (m *TopicMap) Points(msg fleets.Message) (device string, points []wire.Point, matched bool, err error) {
	v, ok := m.pattern.match(msg.Topic)
	if !ok {
		return "", nil, false, nil
	}
	if v.device == "" {
		v.device = m.device
	}
	if v.device == "" {
		return "", nil, true, &fleets.Drop{Reason: fleets.Empty, Detail: "empty device level"}
	}
	if msg.Retained && !m.retained {
		return v.device, nil, true, &fleets.Drop{Reason: fleets.Retained, Detail: "the state of an unknown time"}
	}
	for _, t := range v.tags {
		if len(t.Value) == 0 {
			return v.device, nil, true, &fleets.Drop{Reason: fleets.Empty, Detail: "empty level for tag " + string(t.Key)}
		}
	}
	points, err = m.read(v, msg.Payload)
	return v.device, points, true, err
}
