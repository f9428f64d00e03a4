package devices

import (
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// A device with a socket at one node may post at any other. The node that has it on line keeps the count of its silence, and
// is told of each point that came elsewhere: a message that is the device's id.

// passPoint tells the device's node. It does not block; if the message is lost, the next one counts.
func (p *Presence) passPoint(device, node string) {
	subject, err := bus.NodePointed(node)
	if err == nil {
		err = p.opts.Events.Publish(subject, []byte(device))
	}
	if err != nil {
		p.opts.Log.Debug("point not told", "device_id", device, "node", node, "err", err)
	}
}

// hearPoints takes what other nodes tell this one, until stop is called.
func (p *Presence) hearPoints() (stop func(), err error) {
	subject, err := bus.NodePointed(p.opts.Node)
	if err != nil {
		return nil, fmt.Errorf("presence: node: %w", err)
	}
	sub, err := p.opts.Events.Subscribe(subject, func(m *nats.Msg) {
		device := string(m.Data)
		if node, online := p.Node(device); online && node == p.opts.Node { // else it has gone meanwhile
			p.Pointed(device)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("presence: hear points: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // it may be closed with its connection
}
