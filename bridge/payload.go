package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/influxdata/line-protocol/v2/lineprotocol"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// maxPoints is how many points one message may hold; it is the device protocol's default.
const maxPoints = 1000

// maxTextBytes is the longest string field of the device protocol.
const maxTextBytes = 4096

// decimal is a JSON number, also with a leading plus.
var decimal = regexp.MustCompile(`^[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func (m *TopicMap) read(v vars, payload []byte) ([]wire.Point, error) {
	switch m.payload {
	case payloadValue:
		return m.readValue(v, payload)
	case payloadLine:
		return readLines(v, payload)
	default:
		return m.readJSON(v, payload)
	}
}

func (m *TopicMap) point(v vars) wire.Point {
	name := m.measurement
	if v.measurement != "" {
		name = v.measurement
	}
	if name == "" {
		name = defaultMeasurement
	}
	return wire.Point{Measurement: []byte(fleets.CleanName(name)), Tags: v.tags}
}

func (m *TopicMap) readValue(v vars, payload []byte) ([]wire.Point, error) {
	if !utf8.Valid(payload) {
		return nil, &fleets.Drop{Reason: fleets.InvalidUTF8}
	}
	text := strings.TrimSpace(string(payload))
	if text == "" {
		return nil, &fleets.Drop{Reason: fleets.Empty}
	}
	name := m.field
	if v.field != "" {
		name = v.field
	}
	if name == "" {
		name = defaultField
	}
	field := wire.NewText("", fleets.CleanText(text, maxTextBytes))
	switch {
	case strings.EqualFold(text, "true"), strings.EqualFold(text, "false"):
		field = wire.NewBool("", strings.EqualFold(text, "true"))
	case decimal.MatchString(text):
		var err error
		if field, err = fleets.Number(text); err != nil {
			return nil, &fleets.Drop{Reason: fleets.InvalidValue, Detail: err.Error()}
		}
	}
	field.Key = []byte(fleets.CleanField(name))
	p := m.point(v)
	p.Fields = []wire.Field{field}
	return []wire.Point{p}, nil
}

func (m *TopicMap) readJSON(v vars, payload []byte) ([]wire.Point, error) {
	doc, err := fleets.DecodeJSON(payload)
	if err != nil {
		return nil, err
	}
	list, ok := doc.([]any)
	if !ok {
		list = []any{doc}
	}
	if len(list) > maxPoints {
		return nil, &fleets.Drop{Reason: fleets.InvalidValue, Detail: fmt.Sprintf("%d points, at most %d", len(list), maxPoints)}
	}
	points := make([]wire.Point, 0, len(list))
	for _, item := range list {
		obj, ok := item.(map[string]any)
		if !ok {
			return nil, &fleets.Drop{Reason: fleets.NotAnObject, Detail: `payload "value" reads single values`}
		}
		p, err := m.readObject(v, obj)
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	if len(points) == 0 {
		return nil, &fleets.Drop{Reason: fleets.Empty, Detail: "empty list"}
	}
	return points, nil
}

func (m *TopicMap) readObject(v vars, obj map[string]any) (wire.Point, error) {
	p := m.point(v)
	if m.timeKey != "" {
		if raw, ok := obj[m.timeKey]; ok {
			at, err := readTime(raw)
			if err != nil {
				return p, &fleets.Drop{Reason: fleets.InvalidValue, Detail: m.timeKey + ": " + err.Error()}
			}
			p.Time, p.HasTime = at, true
			delete(obj, m.timeKey)
		}
	}
	if v.field != "" {
		obj = map[string]any{v.field: obj}
	}
	var err error
	if p.Fields, err = fleets.Flatten(obj); err != nil {
		return p, err
	}
	if len(p.Fields) == 0 {
		return p, &fleets.Drop{Reason: fleets.Empty, Detail: "no fields"}
	}
	return p, nil
}

var errTime = errors.New("is neither RFC 3339 nor Unix time")

// readTime reads RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds since 1970: times of this
// century are told apart by their size.
func readTime(raw any) (int64, error) {
	switch raw := raw.(type) {
	case string:
		at, err := time.Parse(time.RFC3339Nano, raw)
		if err != nil || at.Year() < 1678 || at.Year() > 2261 {
			return 0, errTime
		}
		return at.UnixNano(), nil
	case json.Number:
		if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			return int64(unitOf(float64(n))) * n, nil
		}
		f, err := raw.Float64()
		if err != nil || f < -1e19 || f > 9e18 {
			return 0, errTime
		}
		return int64(f * float64(unitOf(f))), nil
	}
	return 0, errTime
}

func unitOf(n float64) time.Duration {
	if n < 0 {
		n = -n
	}
	switch {
	case n < 1e10:
		return time.Second
	case n < 1e13:
		return time.Millisecond
	case n < 1e16:
		return time.Microsecond
	default:
		return time.Nanosecond
	}
}

// readLines reads line protocol. The topic's tags go before those of a line.
func readLines(v vars, payload []byte) ([]wire.Point, error) {
	if !utf8.Valid(payload) {
		return nil, &fleets.Drop{Reason: fleets.InvalidUTF8}
	}
	dec := lineprotocol.NewDecoderWithBytes(bytes.Clone(payload))
	var points []wire.Point
	for dec.Next() {
		if len(points) == maxPoints {
			return nil, &fleets.Drop{Reason: fleets.InvalidValue, Detail: fmt.Sprintf("more than %d lines", maxPoints)}
		}
		p, err := readLine(dec, v)
		if err != nil {
			return nil, &fleets.Drop{Reason: reasonLine, Detail: err.Error()}
		}
		points = append(points, p)
	}
	if len(points) == 0 {
		return nil, &fleets.Drop{Reason: fleets.Empty}
	}
	return points, nil
}

func readLine(dec *lineprotocol.Decoder, v vars) (wire.Point, error) {
	var p wire.Point
	name, err := dec.Measurement()
	if err != nil {
		return p, err
	}
	p.Measurement = []byte(fleets.CleanName(string(name)))
	p.Tags = append(p.Tags, v.tags...)
	for {
		key, value, err := dec.NextTag()
		if err != nil {
			return p, err
		}
		if key == nil {
			break
		}
		if clean := fleets.CleanName(string(key)); clean != "device" && !hasTag(p.Tags, clean) {
			p.Tags = append(p.Tags, wire.Tag{Key: []byte(clean), Value: []byte(cleanTag(string(value)))})
		}
	}
	for {
		key, value, err := dec.NextField()
		if err != nil {
			return p, err
		}
		if key == nil {
			break
		}
		field, err := lineField(value)
		if err != nil {
			return p, err
		}
		field.Key = []byte(fleets.CleanField(string(key)))
		p.Fields = append(p.Fields, field)
	}
	at, err := dec.Time(lineprotocol.Nanosecond, time.Time{})
	if err != nil {
		return p, err
	}
	if !at.IsZero() {
		p.Time, p.HasTime = at.UnixNano(), true
	}
	return p, nil
}

func hasTag(tags []wire.Tag, key string) bool {
	for _, t := range tags {
		if string(t.Key) == key {
			return true
		}
	}
	return false
}

func lineField(v lineprotocol.Value) (wire.Field, error) {
	switch raw := v.Interface().(type) {
	case int64:
		return wire.Field{Kind: wire.Number, Value: strconv.AppendInt(nil, raw, 10)}, nil
	case uint64:
		return wire.Field{Kind: wire.Number, Value: strconv.AppendUint(nil, raw, 10)}, nil
	case float64:
		return fleets.Number(strconv.FormatFloat(raw, 'g', -1, 64))
	case bool:
		return wire.NewBool("", raw), nil
	case string:
		return wire.NewText("", fleets.CleanText(raw, maxTextBytes)), nil
	default:
		return wire.Field{}, fmt.Errorf("field type %T", raw)
	}
}
