package bridge

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// plan is what a connection's configuration says, compiled.
type plan struct {
	maps     []*TopicMap
	commands []*commandMap
	profiles []profile
	outs     []*outMap
	filters  map[string]byte
}

// newPlan compiles a connection, and returns every fault with its key.
func newPlan(cfg configs.Connection, o fleets.Options) (plan, error) {
	p := plan{filters: make(map[string]byte)}
	var errs []error
	fault := func(err error, format string, args ...any) {
		if err != nil {
			errs = append(errs, fmt.Errorf(format+": %w", append(args, err)...))
		}
	}
	zone, err := time.LoadLocation(cfg.Timezone) // "" is UTC
	fault(err, "timezone")
	o.Zone = zone
	for i, in := range cfg.In {
		m, err := NewTopicMap(in)
		fault(err, "in[%d]", i)
		if err == nil {
			p.maps = append(p.maps, m)
			p.filters[m.pattern.filter] = max(p.filters[m.pattern.filter], m.qos)
		}
	}
	for i, cc := range cfg.Command {
		m, err := newCommandMap(cc)
		fault(err, "commands[%d]", i)
		if err == nil {
			p.commands = append(p.commands, m)
			if m.answers != nil {
				p.filters[m.answers.filter] = 1
			}
		}
	}
	for i, oc := range cfg.Out {
		m, err := newOutMap(oc)
		fault(err, "out[%d]", i)
		if err == nil {
			p.outs = append(p.outs, m)
		}
	}
	for i, name := range cfg.Profiles {
		prof, topics, err := fleets.New(name, o)
		fault(err, "profiles[%d]", i)
		if err == nil {
			p.profiles = append(p.profiles, profile{name: name, Profile: prof, topics: topics})
			for _, f := range topics.In {
				p.filters[f] = 1
			}
		}
	}
	return p, errors.Join(errs...)
}

// published are the filters that cover what the connection publishes, each with the key it comes from.
func (p plan) published() map[string]string {
	out := make(map[string]string)
	for i, o := range p.outs {
		out[o.pattern.filter] = fmt.Sprintf("out[%d].topic", i)
	}
	for i, m := range p.commands {
		out[m.filter()] = fmt.Sprintf("commands[%d].topic", i)
	}
	for _, prof := range p.profiles {
		for _, f := range prof.topics.Commands {
			out[f] = "commands of profile " + prof.name
		}
	}
	return out
}

// Check returns every fault of cfg, each with its key. It refuses what would make the hub read back what it publishes:
// MQTT 3.1.1 has no way to ask a broker not to, and such a loop fills a broker in seconds.
func Check(cfg configs.Bridge) []error {
	var errs []error
	plans := make([]plan, len(cfg.Connections))
	names := make(map[string]bool)
	for i, c := range cfg.Connections {
		at := fmt.Sprintf("bridge.connections[%d]", i)
		if c.Name != "" {
			at = fmt.Sprintf("bridge.connections[%d] (%s)", i, c.Name)
		}
		for _, err := range checkConnection(c, names) {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
		p, err := newPlan(c, fleets.Options{})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
		plans[i] = p
		names[c.Name] = true
	}
	for i, from := range plans {
		for j, to := range plans {
			if i == j || brokerOf(cfg, cfg.Connections[i]) == brokerOf(cfg, cfg.Connections[j]) {
				errs = append(errs, loops(cfg.Connections[i].Name, from, cfg.Connections[j].Name, to)...)
			}
		}
	}
	return errs
}

func loops(fromName string, from plan, toName string, to plan) []error {
	var errs []error
	for topic, key := range from.published() {
		for filter := range to.filters {
			if Overlap(topic, filter) {
				errs = append(errs, fmt.Errorf(
					"bridge.connections %s: %s (%s) would be read back by %s (%s); give one of them a prefix of its own",
					fromName, key, topic, toName, filter))
			}
		}
	}
	return errs
}

// brokerOf names the broker of a connection, the same however it is written: the embedded one by its address, a port that is
// left out, another name of this machine.
func brokerOf(cfg configs.Bridge, c configs.Connection) string {
	raw := c.URL
	if raw == configs.EmbeddedBroker {
		raw = "tcp://" + cfg.Broker.Listen
	}
	u, err := parseURL(raw)
	if err != nil {
		return raw
	}
	if configs.Loopback(net.JoinHostPort(u.Hostname(), u.Port())) {
		return net.JoinHostPort("localhost", u.Port())
	}
	return strings.ToLower(u.Host)
}

func checkConnection(c configs.Connection, names map[string]bool) []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := wire.CheckID(c.Name); err != nil {
		fault("name: %w", err)
	}
	if names[c.Name] {
		fault("name: %q comes twice", c.Name)
	}
	if c.URL != configs.EmbeddedBroker {
		if _, err := parseURL(c.URL); err != nil {
			fault("%w", err)
		}
	}
	if c.InFlight < 0 || c.InFlight > maxInFlight {
		fault("in_flight: %d, want 1 to %d", c.InFlight, maxInFlight)
	}
	if c.MaxPayload < 0 {
		fault("max_payload_bytes: %d", c.MaxPayload)
	}
	return errs
}
