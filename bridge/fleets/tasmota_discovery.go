package fleets

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// announcement is the part of tasmota/discovery/<MAC>/config that matters here.
type announcement struct {
	Name      string   `json:"dn"`
	Host      string   `json:"hn"`
	MAC       string   `json:"mac"`
	Model     string   `json:"md"`
	Version   string   `json:"sw"`
	Topic     string   `json:"t"`
	FullTopic string   `json:"ft"`
	Prefixes  []string `json:"tp"`
	Online    string   `json:"onln"`
	Offline   string   `json:"ofln"`
	States    []string `json:"state"`
	Relays    []int    `json:"rl"`
	Light     int      `json:"lt_st"`
}

// discoverLocked learns a device. The message is retained by design, and an empty one says that the device is gone.
func (t *tasmota) discoverLocked(rest string, payload []byte) (Result, error) {
	mac, what, ok := strings.Cut(rest, "/")
	if !ok || what != "config" {
		if what == "sensors" {
			return Result{}, nil // the sensors' values of an unknown time
		}
		return Result{}, ErrNotMine
	}
	old := t.macs[mac]
	if len(payload) == 0 {
		return t.forgetLocked(mac, old), nil
	}
	var a announcement
	if err := json.Unmarshal(payload, &a); err != nil {
		return Result{}, &Drop{Reason: InvalidJSON, Detail: err.Error()}
	}
	p, err := a.plug()
	if err != nil {
		return Result{}, err
	}
	if old == nil {
		old = t.plugs[p.topic] // guessed before it was announced
	}
	if old != nil {
		p.waiting, p.json = old.waiting, old.json
		t.removeLocked(old)
	}
	if other := t.plugs[p.topic]; other != nil {
		t.removeLocked(other) // two devices with one topic: the last announced has it
	}
	if len(t.plugs) >= MaxPlugs || len(t.macs) >= MaxPlugs && t.macs[mac] == nil {
		return Result{}, &Drop{Reason: TooMany, Detail: p.topic}
	}
	t.macs[mac] = p
	t.addLocked(p)
	result := Result{Updates: []Update{p.update()}}
	for _, k := range []kind{tele, stat} {
		if !strings.HasPrefix(p.base[k], [4]string{stat: "stat/", tele: "tele/"}[k]) || strings.Count(p.base[k], "/") != 2 {
			result.Subscribe = append(result.Subscribe, p.base[k]+"+")
		}
	}
	return result, nil
}

func (t *tasmota) forgetLocked(mac string, p *plug) Result {
	if p == nil {
		return Result{}
	}
	delete(t.macs, mac)
	t.removeLocked(p)
	u := p.update()
	u.Presence, u.Cause = Offline, "removed"
	return Result{Updates: []Update{u}}
}

// plug makes a device of what was announced.
func (a announcement) plug() (*plug, error) {
	if a.Topic == "" || strings.ContainsAny(a.Topic, "+#\x00") {
		return nil, &Drop{Reason: InvalidValue, Detail: "discovery without a topic"}
	}
	if len(a.Prefixes) != 3 || a.Prefixes[0] == "" || a.Prefixes[1] == "" || a.Prefixes[2] == "" {
		a.Prefixes = []string{"cmnd", "stat", "tele"}
	}
	p := defaultPlug(a.Topic)
	for k, prefix := range map[kind]string{cmnd: a.Prefixes[0], stat: a.Prefixes[1], tele: a.Prefixes[2]} {
		base, err := a.base(prefix)
		if err != nil {
			return nil, err
		}
		p.base[k] = base
	}
	if p.base[cmnd] == p.base[stat] || p.base[cmnd] == p.base[tele] {
		return nil, &Drop{Reason: InvalidValue, Detail: "FullTopic has the same topics for commands and answers"}
	}
	p.online, p.offline = cmp.Or(a.Online, p.online), cmp.Or(a.Offline, p.offline)
	for i := range min(len(a.States), len(p.states)) {
		p.states[i] = cmp.Or(a.States[i], p.states[i])
	}
	relays := 0
	for _, r := range a.Relays {
		if r > 0 {
			relays++
		}
	}
	p.hello = wire.Hello{Firmware: a.Version, Model: a.Model, Commands: plugCommands(max(relays, 1), a.Light > 0)}
	if a.MAC != "" {
		p.labels["mac"] = a.MAC
	}
	if a.Name != "" {
		p.labels["title"] = a.Name
	}
	return p, nil
}

// base puts a FullTopic together. It always ends in "/", as Tasmota makes it.
func (a announcement) base(prefix string) (string, error) {
	full := cmp.Or(a.FullTopic, "%prefix%/%topic%/")
	if !strings.Contains(full, "%prefix%") {
		full = "%prefix%/" + full // Tasmota does the same
	}
	id := a.MAC
	if len(id) > 6 {
		id = id[len(id)-6:]
	}
	base := strings.NewReplacer("%prefix%", prefix, "%topic%", a.Topic, "%hostname%", a.Host, "%id%", id).Replace(full)
	base = strings.TrimRight(base, "/") + "/"
	if strings.ContainsAny(base, "+#%\x00") || strings.HasPrefix(base, "$") || strings.HasPrefix(base, "/") {
		return "", &Drop{Reason: InvalidValue, Detail: "FullTopic " + full}
	}
	return base, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
