package fleets

import (
	"fmt"
	"slices"
	"strings"
)

// Owner tells whose a topic is by its base, which a device announced, or else by the default FullTopic. A discovery topic that
// nobody has announced is for whoever publishes there: Handle looks at what is announced.
func (t *tasmota) Owner(topic string) (device string, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rest, ok := strings.CutPrefix(topic, "tasmota/discovery/"); ok {
		mac, what, ok := strings.Cut(rest, "/")
		if !ok || mac == "" || strings.Contains(what, "/") {
			return "", false
		}
		if p := t.macs[mac]; p != nil {
			return p.topic, true
		}
		return "", true
	}
	base := topic[:strings.LastIndexByte(topic, '/')+1]
	if r, ok := t.routes[base]; ok {
		return r.plug.topic, true
	}
	return defaultOwner(base)
}

// defaultOwner is the device that a base topic of the default FullTopic names.
func defaultOwner(base string) (device string, known bool) {
	prefix, rest, _ := strings.Cut(base, "/")
	name := strings.TrimSuffix(rest, "/")
	switch prefix {
	case "tele", "stat", "cmnd":
		return name, name != "" && !strings.Contains(name, "/")
	}
	return "", false
}

// checkAuthorLocked refuses what a device announces that is not its own: the name or MAC of another one, or topics that do not
// name it.
func (t *tasmota) checkAuthorLocked(p *plug, author string) error {
	old := t.macs[p.mac]
	if p.topic != author || old != nil && old.topic != author {
		return &Drop{Reason: NotItsOwn, Detail: fmt.Sprintf("%.80q announced the device %.80q", author, p.topic)}
	}
	for _, k := range []kind{stat, tele, cmnd} {
		owner, known := defaultOwner(p.base[k])
		if known && owner != author || !slices.Contains(strings.Split(p.base[k], "/"), author) {
			return &Drop{Reason: NotItsOwn, Detail: fmt.Sprintf("%.80q announced the topics %.80q, which do not name it as a level", author, p.base[k])}
		}
	}
	return nil
}
