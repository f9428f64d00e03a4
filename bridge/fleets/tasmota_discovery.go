package fleets

import (
	"cmp"
	"encoding/json"
	"fmt"
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
func (t *tasmota) discoverLocked(rest string, m Message) (Result, error) {
	mac, what, ok := strings.Cut(rest, "/")
	if !ok || mac == "" || what != "config" {
		if what == "sensors" {
			return Result{}, nil // the sensors' values of an unknown time
		}
		return Result{}, ErrNotMine
	}
	if len(m.Payload) == 0 {
		p := t.macs[mac]
		if m.Author != "" && p != nil && p.topic != m.Author {
			return Result{}, &Drop{Reason: NotItsOwn, Detail: fmt.Sprintf("%.80q cleared what %.80q announced", m.Author, p.topic)}
		}
		return t.forgetLocked(p), nil
	}
	var a announcement
	if err := json.Unmarshal(m.Payload, &a); err != nil {
		return Result{}, &Drop{Reason: InvalidJSON, Detail: err.Error()}
	}
	if a.MAC != "" && !strings.EqualFold(a.MAC, mac) {
		// A broker's rules bound who writes which topic, so the topic's MAC is who it is.
		return Result{}, &Drop{Reason: InvalidValue, Detail: fmt.Sprintf("discovery of %.40q with the MAC %.40q", mac, a.MAC)}
	}
	if err := a.check(mac); err != nil {
		return Result{}, err
	}
	p, err := a.plug()
	if err != nil {
		return Result{}, err
	}
	p.mac = mac
	if m.Author != "" {
		if err := t.checkAuthorLocked(p, m.Author); err != nil {
			return Result{}, err
		}
	}
	return t.announceLocked(p)
}

// announceLocked has p in the place of what its MAC announced before and of what was guessed, unless another announced
// device has its name or one of its topics. What that MAC had before is free then all the same, for p no longer claims it.
func (t *tasmota) announceLocked(p *plug) (Result, error) {
	old, holders := t.macs[p.mac], t.holdersLocked(p)
	for _, h := range holders {
		if h.plug.mac != "" {
			return t.forgetLocked(old), &Drop{Reason: TopicTaken, Detail: fmt.Sprintf("%s; if that device is gone, clear its retained message "+
				"tasmota/discovery/%.40s/config and have this one announce itself again", h, h.plug.mac)}
		}
	}
	if old == nil && len(holders) == 0 && len(t.plugs) >= MaxPlugs {
		return Result{}, &Drop{Reason: TooMany, Detail: p.topic}
	}
	if before := cmp.Or(old, t.plugs[p.topic]); before != nil {
		p.waiting, p.json = before.waiting, before.json
	}
	result := Result{Updates: []Update{p.update()}, Subscribe: p.filters()}
	if old != nil {
		t.removeLocked(old)
		result.Unsubscribe = slices.DeleteFunc(old.filters(), func(f string) bool { return slices.Contains(result.Subscribe, f) })
	}
	for _, h := range holders {
		t.removeLocked(h.plug)
	}
	t.addLocked(p)
	return result, nil
}

// filters are what the profile's own topics do not cover.
func (p *plug) filters() []string {
	var list []string
	for _, k := range []kind{tele, stat} {
		if f := p.base[k] + "+"; !coveredBy(tasmotaTopics.In, p.base[k]) && !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}

func (t *tasmota) forgetLocked(p *plug) Result {
	if p == nil {
		return Result{}
	}
	t.removeLocked(p)
	u := p.update()
	u.Presence, u.Cause = Offline, "removed"
	return Result{Updates: []Update{u}, Unsubscribe: p.filters()}
}

// check refuses texts that no device has: they are kept as long as the device is, and a FullTopic multiplies them.
func (a announcement) check(mac string) error {
	texts := []string{mac, a.Name, a.Host, a.MAC, a.Model, a.Version, a.Topic, a.FullTopic, a.Online, a.Offline}
	for _, text := range slices.Concat(texts, a.Prefixes, a.States) {
		if len(text) > maxAnnounced {
			return tooLong("announced text", text)
		}
	}
	return nil
}

func tooLong(what, text string) *Drop {
	return &Drop{Reason: InvalidValue, Detail: fmt.Sprintf("%s %.80q has %d bytes, at most %d", what, text, len(text), maxAnnounced)}
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
	if err := p.checkDirections(); err != nil {
		return nil, err
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
	relays = min(max(relays, 1), maxRelays)
	p.hello = wire.Hello{Firmware: a.Version, Model: a.Model, Commands: plugCommands(relays, a.Light > 0)}
	if a.MAC != "" {
		p.labels["mac"] = a.MAC
	}
	if a.Name != "" {
		p.labels["title"] = a.Name
	}
	return p, nil
}

// checkDirections refuses a device that would have the hub publish where it reads, or read where it publishes.
func (p *plug) checkDirections() error {
	if p.base[cmnd] == p.base[stat] || p.base[cmnd] == p.base[tele] {
		return &Drop{Reason: InvalidValue, Detail: "FullTopic has the same topics for commands and answers"}
	}
	for _, k := range []kind{stat, tele} {
		if coveredBy(tasmotaTopics.Commands, p.base[k]) {
			return &Drop{Reason: InvalidValue, Detail: fmt.Sprintf("FullTopic puts answers at %.80q, where commands go", p.base[k])}
		}
	}
	if coveredBy(tasmotaTopics.In, p.base[cmnd]) {
		return &Drop{Reason: InvalidValue, Detail: fmt.Sprintf("FullTopic puts commands at %.80q, where answers are read", p.base[cmnd])}
	}
	return nil
}

// coveredBy reports whether one of filters, which have no "#", covers the topics below base.
func coveredBy(filters []string, base string) bool {
	levels := strings.Split(base, "/") // the last is empty, and stands for any name
	return slices.ContainsFunc(filters, func(filter string) bool {
		want := strings.Split(filter, "/")
		if len(want) != len(levels) {
			return false
		}
		for i, l := range levels[:len(levels)-1] {
			if want[i] != "+" && want[i] != l {
				return false
			}
		}
		return true
	})
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
	if len(base) > maxAnnounced {
		return "", tooLong("FullTopic", base)
	}
	if strings.ContainsAny(base, "+#%\x00") || strings.HasPrefix(base, "$") || strings.HasPrefix(base, "/") {
		return "", &Drop{Reason: InvalidValue, Detail: fmt.Sprintf("FullTopic %.80q", full)}
	}
	return base, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
