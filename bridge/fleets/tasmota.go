package fleets

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The bounds of the profile.
const (
	MaxPlugs   = 10_000 // devices of one connection
	maxWaiting = 32     // commands of one device that wait for an answer

	maxAnnounced = 512 // bytes of each text of an announcement, of the topics that it makes and of names; Tasmota has 100 for most
	maxRelays    = 32  // as many as Tasmota has
)

// tasmotaTopics are those of the default FullTopic; devices that announce another one add theirs.
var tasmotaTopics = Topics{
	In:       []string{"tasmota/discovery/+/+", "tele/+/+", "stat/+/+"},
	Commands: []string{"cmnd/+/+"},
}

// kind is what a topic prefix means.
type kind uint8

const (
	stat kind = iota + 1
	tele
	cmnd
)

// route is where messages below one base topic belong.
type route struct {
	plug *plug
	kind kind
}

// tasmota reads devices that run Tasmota: telemetry on tele/<topic>/SENSOR and STATE, presence on tele/<topic>/LWT,
// answers on stat/<topic>/RESULT, or stat/<topic>/<COMMAND> if the device has SetOption4. What discovery announces
// (tasmota/discovery/<MAC>/config) goes before these defaults.
//
// A name or a base topic that a device has announced is its own until its announcement is cleared or names another: whoever
// may write one discovery message would else get another device's answers, readings and commands by it. Devices that were
// only guessed from their topics give way.
type tasmota struct {
	opts Options

	mu     sync.Mutex
	plugs  map[string]*plug // guarded by mu: by MQTT topic, which is the device's name
	macs   map[string]*plug // guarded by mu: those of plugs that are announced, by discovery's MAC
	routes map[string]route // guarded by mu: by base topic, which ends in "/"; no two of plugs share one
}

// plug is one device.
type plug struct {
	topic   string    // Tasmota's %topic%, the device's name
	mac     string    // of its announcement's topic; empty: it is guessed
	base    [4]string // by kind
	labels  map[string]string
	hello   wire.Hello
	online  string // texts of its last will
	offline string
	states  [3]string // its words for off, on and toggle
	waiting []ask
	json    bool // it has answered in JSON, so plain answers only repeat
}

func newTasmota(o Options) Profile {
	return &tasmota{
		opts: o, plugs: make(map[string]*plug), macs: make(map[string]*plug), routes: make(map[string]route),
	}
}

// defaultPlug is a device that nothing was announced of.
func defaultPlug(topic string) *plug {
	return &plug{
		topic:   topic,
		base:    [4]string{stat: "stat/" + topic + "/", tele: "tele/" + topic + "/", cmnd: "cmnd/" + topic + "/"},
		labels:  map[string]string{"fleet": "tasmota"},
		hello:   wire.Hello{Commands: plugCommands(1, false)},
		online:  "Online",
		offline: "Offline",
		states:  [3]string{"OFF", "ON", "TOGGLE"},
	}
}

// Handle reads one message.
func (t *tasmota) Handle(m Message) (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rest, ok := strings.CutPrefix(m.Topic, "tasmota/discovery/"); ok {
		return t.discoverLocked(rest, m)
	}
	cut := strings.LastIndexByte(m.Topic, '/') + 1
	base, name := m.Topic[:cut], m.Topic[cut:]
	r, ok := t.routes[base]
	if !ok {
		p, k := guess(base, name)
		if p == nil {
			return Result{}, ErrNotMine
		}
		if h := t.holdersLocked(p); len(h) > 0 {
			return Result{}, &Drop{Reason: TopicTaken, Detail: h[0].String() + ", which announced other topics"}
		}
		if len(t.plugs) >= MaxPlugs {
			return Result{}, &Drop{Reason: TooMany, Detail: p.topic}
		}
		t.addLocked(p)
		r = route{p, k}
	}
	switch r.kind {
	case tele:
		return t.teleLocked(r.plug, name, m)
	case stat:
		return t.statLocked(r.plug, name, m)
	default:
		return Result{}, ErrNotMine // a command, ours or another's, is not telemetry
	}
}

// guess recognises a device by the default FullTopic. Only names that Tasmota uses count: others publish below tele/
// and stat/ too.
func guess(base, name string) (*plug, kind) {
	prefix, rest, _ := strings.Cut(base, "/")
	topic := strings.TrimSuffix(rest, "/")
	if topic == "" || strings.Contains(topic, "/") || len(topic) > maxAnnounced {
		return nil, 0
	}
	var k kind
	switch {
	case prefix == "tele" && (name == "LWT" || name == "STATE" || name == "SENSOR" || strings.HasPrefix(name, "INFO")):
		k = tele
	case prefix == "stat" && (name == "RESULT" || isPower(name) || strings.HasPrefix(name, "STATUS")):
		k = stat
	default:
		return nil, 0
	}
	return defaultPlug(topic), k
}

// holding is what a device has and another one wants: its name or a base topic.
type holding struct {
	what string
	plug *plug
}

// String says whose it is; both texts are a stranger's.
func (h holding) String() string {
	return fmt.Sprintf("%.80q belongs to device %.40s", h.what, h.plug.mac)
}

// holdersLocked returns the devices besides p that have its name or one of its base topics.
func (t *tasmota) holdersLocked(p *plug) []holding {
	var list []holding
	add := func(what string, q *plug) {
		if q != nil && (q.mac == "" || q.mac != p.mac) {
			list = append(list, holding{what, q})
		}
	}
	add(p.topic, t.plugs[p.topic])
	for _, k := range []kind{stat, tele, cmnd} {
		add(p.base[k], t.routes[p.base[k]].plug)
	}
	return list
}

// addLocked adds a device; there are no holders of what it has.
func (t *tasmota) addLocked(p *plug) {
	t.plugs[p.topic] = p
	if p.mac != "" {
		t.macs[p.mac] = p
	}
	for _, k := range []kind{stat, tele, cmnd} {
		t.routes[p.base[k]] = route{p, k}
	}
}

func (t *tasmota) removeLocked(p *plug) {
	delete(t.plugs, p.topic)
	if p.mac != "" {
		delete(t.macs, p.mac)
	}
	for _, k := range []kind{stat, tele, cmnd} {
		delete(t.routes, p.base[k])
	}
}

func (p *plug) update() Update {
	return Update{Device: p.topic, Labels: maps.Clone(p.labels), Hello: p.hello}
}

func (t *tasmota) teleLocked(p *plug, name string, m Message) (Result, error) {
	u := p.update()
	if name == "LWT" {
		switch string(m.Payload) {
		case p.online:
			u.Presence, u.Cause = Online, "birth"
		case p.offline:
			u.Presence, u.Cause = Offline, "last_will"
		case "":
			return Result{}, &Drop{Reason: Empty, Detail: "last will was cleared"}
		default:
			return Result{}, &Drop{Reason: InvalidValue, Detail: fmt.Sprintf("last will %.20q", m.Payload)}
		}
		return Result{Updates: []Update{u}}, nil
	}
	if m.Retained {
		return Result{}, &Drop{Reason: Retained, Detail: "the state of an unknown time"}
	}
	u.Presence, u.Cause = Online, "telemetry"
	if strings.HasPrefix(name, "INFO") {
		return Result{Updates: []Update{u}}, nil
	}
	obj, err := teleObject(name, m.Payload)
	if err != nil {
		return Result{}, err
	}
	if name == "STATE" || name == "RESULT" {
		u.State = p.reported(obj)
	}
	updates, err := t.read(u, name, obj, m.Received)
	return Result{Updates: updates}, err
}

// teleObject reads the payload of a telemetry topic; thresholds such as tele/<t>/POWER_LOW are one plain word.
func teleObject(name string, payload []byte) (map[string]any, error) {
	v, err := DecodeJSON(payload)
	if obj, ok := v.(map[string]any); ok {
		return obj, nil
	}
	if name == "SENSOR" || name == "STATE" || name == "RESULT" {
		if err == nil {
			err = &Drop{Reason: NotAnObject}
		}
		return nil, err
	}
	if len(payload) == 0 {
		return nil, &Drop{Reason: Empty}
	}
	if err != nil {
		v = string(payload)
	}
	return map[string]any{name: v}, nil
}

// read makes points of an object: one measurement for each object in it, "state" for STATE, "sensor" for what stands
// alone. Children of a Zigbee gateway become devices of their own.
func (t *tasmota) read(u Update, name string, obj map[string]any, now time.Time) ([]Update, error) {
	at, timed := t.stamp(obj, now)
	delete(obj, "Time")
	var children []Update
	if zigbee, ok := obj["ZigbeeReceived"].(map[string]any); ok {
		delete(obj, "ZigbeeReceived")
		var err error
		if children, err = t.children(u, zigbee); err != nil {
			return nil, err
		}
	}
	groups := map[string]map[string]any{}
	if name == "STATE" {
		groups["state"] = obj
	} else {
		alone := map[string]any{}
		for key, v := range obj {
			if inner, ok := v.(map[string]any); ok {
				groups[CleanName(key)] = inner
			} else {
				alone[key] = v
			}
		}
		if len(alone) > 0 {
			groups["sensor"] = alone
		}
	}
	for _, measurement := range sortedKeys(groups) {
		fields, err := Flatten(groups[measurement])
		if err != nil {
			return nil, err
		}
		if len(fields) > 0 {
			u.Points = append(u.Points, wire.Point{Measurement: []byte(measurement), Time: at, HasTime: timed, Fields: fields})
		}
	}
	if len(u.Points) == 0 && len(children) == 0 {
		return nil, &Drop{Reason: Empty, Detail: "no fields"}
	}
	return append([]Update{u}, children...), nil
}

func (t *tasmota) children(gateway Update, zigbee map[string]any) ([]Update, error) {
	var updates []Update
	for _, addr := range sortedKeys(zigbee) {
		child, ok := zigbee[addr].(map[string]any)
		if !ok || len(addr) > maxAnnounced {
			continue
		}
		fields, err := Flatten(child)
		if err != nil {
			return nil, err
		}
		labels := map[string]string{"fleet": "tasmota", "gateway": gateway.Device}
		if name, ok := child["Name"].(string); ok {
			labels["title"] = name
		}
		u := Update{Device: gateway.Device + "/" + addr, Labels: labels, Presence: Online, Cause: "telemetry"}
		if len(fields) > 0 {
			u.Points = []wire.Point{{Measurement: []byte("zigbee"), Fields: fields}}
		}
		updates = append(updates, u)
	}
	return updates, nil
}

// stamp reads "Time", which is local and has no zone. A clock that is plainly wrong is not used.
func (t *tasmota) stamp(obj map[string]any, now time.Time) (int64, bool) {
	text, ok := obj["Time"].(string)
	if !ok {
		return 0, false
	}
	at, err := time.ParseInLocation("2006-01-02T15:04:05", text, t.opts.Zone)
	if err != nil {
		if at, err = time.Parse(time.RFC3339, text); err != nil { // a device whose rules add the zone
			return 0, false
		}
	}
	if t.opts.MaxAge > 0 && now.Sub(at) > t.opts.MaxAge || t.opts.MaxAhead > 0 && at.Sub(now) > t.opts.MaxAhead {
		return 0, false
	}
	return at.UnixNano(), true
}
