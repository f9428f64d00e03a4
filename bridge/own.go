package bridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
)

// own returns the device that has published for itself, with a token of its own. Its record is there already, and its id is
// nobody else's: what others publish under its name is another device's.
func (r *directory) own(ctx context.Context, c *connection, who identity) (*device, error) {
	refused := func(why string) error {
		return &fleets.Drop{Reason: reasonRefused, Detail: fmt.Sprintf("%s: %s", who.author, why)}
	}
	labels := who.cleaned()
	delete(labels, labelName) // its record was there before the bridge heard of it
	card := r.hash(labels, who.hello)
	r.mu.Lock()
	d, full := r.byID[who.author], len(r.byID)+len(r.refused) >= r.limit
	r.mu.Unlock()
	if d != nil && d.conn != c {
		return nil, refused("is bridged by connection " + d.conn.name)
	}
	if d != nil && (!d.own || d.name != who.name) { // until now it was somebody else who spoke for it, or it had another name
		if err := r.leave(ctx, d.key(), d); err != nil {
			return nil, err
		}
		d, full = nil, false
	}
	if d != nil {
		if who.anonymous() {
			card = d.card
		}
		if err := r.update(ctx, d, labels, who.hello, card); err != nil {
			return nil, err
		}
		if d.refused.Load() {
			return nil, refused("may not be in the hub")
		}
		return d, nil
	}
	if full && !r.sweep(ctx, c) {
		return nil, &fleets.Drop{Reason: fleets.TooMany, Detail: fmt.Sprintf("the bridge holds at most %d", r.limit)}
	}
	d = &device{name: who.name, conn: c, via: who.via, card: card, own: true}
	if err := r.adopt(ctx, c, who.author, labels, who.hello); errors.Is(err, context.Canceled) {
		return nil, err
	} else if err != nil {
		return nil, refused(err.Error())
	}
	if !r.enter(who.author, d.key(), d) {
		return nil, refused("is bridged by another connection")
	}
	d.source = r.parts.Sink.Open(d.id, labels, d)
	return d, nil
}

// author is the id under which the device publishes for itself.
func (d *device) author() string {
	if d.own {
		return d.id
	}
	return ""
}

// key is by whom and as what the device is known.
func (d *device) key() owner { return owner{d.conn.name, d.name, d.own} }

// arrive has a device introduced that may say nothing by itself.
func (c *connection) arrive(device string) {
	c.arrivalsMu.Lock()
	c.arrivals[device] = struct{}{} // as many as there are devices with a session at the embedded broker
	c.arrivalsMu.Unlock()
	c.welcome()
}

// connectsItself reports whether the name, at the embedded broker, is that of a device which the bridge did not make: it is there
// once it has connected itself.
func (c *connection) connectsItself(name string) bool {
	if c.author == nil {
		return false
	}
	made, known := c.parts.Devices.Name(name, c.name)
	return known && made == ""
}

// introduceOwn registers the devices that have subscribed to where their commands go.
func (c *connection) introduceOwn(ctx context.Context) {
	c.arrivalsMu.Lock()
	arrived := c.arrivals
	c.arrivals = make(map[string]struct{})
	c.arrivalsMu.Unlock()
	for id := range arrived {
		name, known := c.calls(id)
		if !known {
			continue
		}
		d, err := c.directory.claim(ctx, c, identity{name: name, author: id})
		if err != nil {
			c.status.fail(fmt.Errorf("register device: %w", err))
			continue
		}
		d.setOnline(true, "assumed", c.parts.Presence)
	}
}

// authoredBy names, as the fleet calls it, the device that published a message; empty: somebody who is no device.
func (c *connection) authoredBy(d *delivery) (name string, drop *fleets.Drop) {
	if d.msg.author == "" {
		return "", nil
	}
	name, known := c.calls(d.msg.author)
	if !known {
		return "", &fleets.Drop{Reason: reasonRefused, Detail: d.msg.author + ": this hub has no such device"}
	}
	return name, nil
}

// speaker is whom an update of a message comes from: of what a device published itself, only its own, and what the devices
// behind it say, which have its name before theirs.
func speaker(author, name string, u fleets.Update) (identity, *fleets.Drop) {
	who := identity{name: u.Device, labels: u.Labels, hello: u.Hello}
	switch {
	case author == "" || behind(name, u.Device):
	case u.Device == name:
		who.author = author
	default:
		return who, &fleets.Drop{Reason: fleets.NotItsOwn, Detail: fmt.Sprintf("%s published as %.80q", author, u.Device)}
	}
	return who, nil
}

func behind(gateway, device string) bool {
	return len(device) > len(gateway)+1 && device[:len(gateway)+1] == gateway+"/"
}
