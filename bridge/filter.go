package bridge

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxTopicBytes is MQTT's own bound [MQTT-4.7.3-3].
const maxTopicBytes = 65535

// errTopic is wrapped by every refusal of a topic or filter.
var errTopic = errors.New("invalid topic")

// CheckTopic reports whether a message may be published to topic, or have come from it. paho checks nothing, and a
// broker answers a bad topic by ending the connection, so one bad topic would flap the whole bridge.
func CheckTopic(topic string) error {
	if err := checkText(topic); err != nil {
		return err
	}
	if strings.ContainsAny(topic, "+#") {
		return fmt.Errorf("%w %.80q: + and # are for filters", errTopic, topic)
	}
	return nil
}

// CheckFilter reports whether filter may be subscribed to.
func CheckFilter(filter string) error {
	if err := checkText(filter); err != nil {
		return err
	}
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		switch {
		case l == "#" && i != len(levels)-1:
			return fmt.Errorf("%w %.80q: # must be the last level", errTopic, filter)
		case len(l) > 1 && strings.ContainsAny(l, "+#"):
			return fmt.Errorf("%w %.80q: + and # must be a whole level", errTopic, filter)
		}
	}
	return nil
}

func checkText(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty", errTopic)
	case len(s) > maxTopicBytes:
		return fmt.Errorf("%w: %d bytes, at most %d", errTopic, len(s), maxTopicBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w %.80q: not UTF-8", errTopic, s)
	case s[0] == '$':
		return fmt.Errorf("%w %.80q: $ is reserved for brokers", errTopic, s)
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r <= 0x9f || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
			return fmt.Errorf("%w %.80q: control characters [MQTT-1.5.3]", errTopic, s)
		}
	}
	return nil
}

// Matches reports whether topic is covered by filter [MQTT-4.7].
func Matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") != strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !tmore {
			return !fmore || frest == "#" // "a/#" covers "a" too
		}
		if !fmore {
			return false
		}
		filter, topic = frest, trest
	}
}

// Overlap reports whether some topic is covered by both filters.
func Overlap(a, b string) bool {
	return overlap(strings.Split(a, "/"), strings.Split(b, "/"))
}

func overlap(a, b []string) bool {
	for i := 0; ; i++ {
		switch {
		case i < len(a) && a[i] == "#", i < len(b) && b[i] == "#":
			return true
		case i == len(a) && i == len(b):
			return true
		case i == len(a):
			return false
		case i == len(b):
			return false
		case a[i] != "+" && b[i] != "+" && a[i] != b[i]:
			return false
		}
	}
}
