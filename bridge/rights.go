package bridge

import (
	"cmp"
	"strings"
)

// whose tells to whom a topic is given.
type whose uint8

const (
	nobodys whose = iota
	its           // the device's that is asked for
	shared        // its and others': the message says whose it is
	anothers
)

// MayPublish reports whether the connections to the embedded broker give what is published to topic to that very device, and
// to no other.
func (b *Bridge) MayPublish(device, topic string) bool {
	return CheckTopic(topic) == nil && b.whose(device, func(c *connection, name string) whose { return c.whose(topic, device, name) }) != nobodys
}

// MayRead reports whether topic is where a device's commands go, or where it alone publishes.
func (b *Bridge) MayRead(device, topic string) bool {
	return CheckTopic(topic) == nil && b.whose(device, func(c *connection, name string) whose {
		if c.orders(topic, device, name) {
			return its
		}
		return c.whose(topic, device, name)
	}) == its
}

// MaySubscribe reports whether a device may subscribe to filter: one with wildcards has to name the device wherever the topics
// that it covers do. Each message is looked at again (MayRead) before it is handed out, so what a fleet does not tell
// beforehand, such as topics yet to be announced, is not given away either.
func (b *Bridge) MaySubscribe(device, filter string) bool {
	if CheckFilter(filter) != nil {
		return false
	}
	if !strings.ContainsAny(filter, "+#") {
		return b.MayRead(device, filter)
	}
	return b.whose(device, func(c *connection, name string) whose { return c.reach(filter, device, name) }) == its
}

// whose joins what the connections to the embedded broker say. What one gives to another device is not the device's; nobodys
// stands for that too.
func (b *Bridge) whose(device string, say func(c *connection, name string) whose) whose {
	all := nobodys
	for _, c := range b.connections {
		if c.author == nil {
			continue
		}
		name, known := c.calls(device)
		if !known {
			return nobodys
		}
		switch w := say(c, name); w {
		case anothers:
			return nobodys
		case nobodys:
		default:
			if all == nobodys || w == its {
				all = w
			}
		}
	}
	return all
}

// calls is what the fleet of the connection calls a device: by the name that the bridge once heard, or by its id.
func (c *connection) calls(device string) (name string, known bool) {
	name, known = c.parts.Devices.Name(device, c.name)
	name = cmp.Or(name, device)
	if name != device && c.connectsItself(name) {
		return "", false // the topics of that name are the other one's
	}
	return name, known && !strings.ContainsAny(name, "+#")
}

// whose tells to whom the connection gives what is published to topic: the first that knows it has it, as in read.
func (c *connection) whose(topic, device, name string) whose {
	for _, m := range c.commands {
		if m.answers == nil {
			continue
		}
		v, ok := m.answers.match(topic)
		switch {
		case !ok:
		case m.answers.has(deviceLevel):
			return ownedBy(v.device, name)
		case m.serves(device, name):
			return shared // a reply names the command, and it is looked at whose that is
		default:
			return anothers
		}
	}
	for _, m := range c.maps {
		if v, ok := m.pattern.match(topic); ok {
			return ownedBy(cmp.Or(v.device, m.device), name)
		}
	}
	for _, p := range c.profiles {
		switch owner, known := p.Owner(topic); {
		case !known:
		case owner == "":
			return shared
		default:
			return ownedBy(owner, name)
		}
	}
	return nobodys
}

func ownedBy(owner, name string) whose {
	if owner == name {
		return its
	}
	return anothers
}

// orders reports whether topic is where the connection sends commands of a device.
func (c *connection) orders(topic, device, name string) bool {
	for _, m := range c.commands {
		if filter, ok := m.filterOf(device, name); ok && Matches(filter, topic) {
			return true
		}
	}
	return false
}

// filterOf covers what the map publishes to one device. It reports false if that is none, or if topics do not tell whose they
// are, because a level holds the device's name and more that varies.
func (m *commandMap) filterOf(device, name string) (string, bool) {
	if !m.serves(device, name) || strings.Contains(name, "/") {
		return "", false
	}
	levels := strings.Split(m.topic, "/")
	for i, l := range levels {
		rest := strings.ReplaceAll(l, devicePlace, "")
		switch {
		case rest == l && strings.Contains(l, "{"):
			levels[i] = "+"
		case strings.Contains(rest, "{"):
			return "", false
		default:
			levels[i] = strings.ReplaceAll(l, devicePlace, name)
		}
	}
	return strings.Join(levels, "/"), true
}

const devicePlace = "{device}"

// reach tells whose topics a filter with wildcards covers.
func (c *connection) reach(filter, device, name string) whose {
	found := nobodys
	add := func(w whose) { found = max(found, w) }
	for _, m := range c.commands {
		if m.answers != nil && Overlap(m.answers.filter, filter) {
			add(m.answers.pinned(filter, "", name))
		}
		if Overlap(m.filter(), filter) {
			own, ok := m.filterOf(device, name)
			add(pinnedTo(ok, own, m.topic, filter))
		}
	}
	for _, m := range c.maps {
		if Overlap(m.pattern.filter, filter) {
			add(m.pattern.pinned(filter, m.device, name))
		}
	}
	for _, p := range c.profiles {
		add(p.reach(filter, name))
	}
	return found
}

// pinned tells whose those topics of the pattern are that filter covers too. fixed is whose they are if no level names a device.
func (p pattern) pinned(filter, fixed, name string) whose {
	names := strings.Split(filter, "/")
	for i, l := range p.levels {
		if l.part == deviceLevel {
			if i < len(names) && names[i] == name {
				return its
			}
			return anothers
		}
	}
	return ownedBy(fixed, name)
}

// pinnedTo tells whose those topics of commands are that filter covers too; own is the device's part of them.
func pinnedTo(ok bool, own, topic, filter string) whose {
	if !ok {
		return anothers
	}
	names, mine := strings.Split(filter, "/"), strings.Split(own, "/")
	for i, l := range strings.Split(topic, "/") {
		if strings.Contains(l, devicePlace) && (i >= len(names) || names[i] != mine[i]) {
			return anothers
		}
	}
	return its
}

// reach tells whose topics of the profile a filter with wildcards covers. Only one that ends in its wildcard can be one device's.
func (p profile) reach(filter, name string) whose {
	cut := strings.LastIndexByte(filter, '/') + 1
	if !strings.ContainsAny(filter[:cut], "+#") {
		if owner, known := p.Owner(filter[:cut] + "_"); known {
			return ownedBy(owner, name)
		}
	}
	for _, list := range [][]string{p.topics.In, p.topics.Commands} {
		for _, f := range list {
			if Overlap(f, filter) {
				return anothers
			}
		}
	}
	return nobodys
}

// Subscribed hears that a device has subscribed to filter at the embedded broker. One that commands are sent to by a map is
// there then, as those are that a map lists by name. It does not block.
func (b *Bridge) Subscribed(device, filter string) {
	for _, c := range b.connections {
		if c.author == nil {
			continue
		}
		name, known := c.calls(device)
		for _, m := range c.commands {
			if own, ok := m.filterOf(device, name); known && ok && Overlap(own, filter) {
				c.arrive(device)
				break
			}
		}
	}
}
