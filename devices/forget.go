package devices

import (
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// A device whose record is deleted is forgotten, by each node for itself, as soon as it is off line. Its key in the bucket
// is taken away by a marker with the epoch that it had: so a node that has a newer session of the id keeps that. Every
// node that knew the device writes the marker, since the one that had the device may be down.

// forget drops a device that has no record any more, unless it is on line: then it is forgotten when that ends.
func (p *Presence) forget(device string) {
	s := p.shard(device)
	s.mu.Lock()
	e := s.m[device]
	if e == nil || e.online {
		s.mu.Unlock()
		return
	}
	was := p.stateLocked(s, device)
	delete(s.m, device)
	delete(s.expected, device)
	s.dirty = true
	s.mu.Unlock()
	p.mu.Lock()
	p.gone[device] = was
	p.mu.Unlock()
	p.note(device)
}

// forgetUnknown forgets a device if it has no record.
func (p *Presence) forgetUnknown(device string) {
	if _, known := p.opts.Records.Record(device); !known {
		p.forget(device)
	}
}

// takeGone returns what a forgotten device was, if that is still to be told.
func (p *Presence) takeGone(device string) (was State, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, ok = p.gone[device]
	delete(p.gone, device)
	return was, ok
}

// keepGone has the marker of a forgotten device written again; listeners have heard of it.
func (p *Presence) keepGone(device string, epoch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if newer, ok := p.gone[device]; !ok || newer.Epoch < epoch {
		p.gone[device] = State{Device: device, Status: Never, Epoch: epoch}
	}
}

// drop forgets a device because another node did. What is newer, or on line here, stays and is told again: the marker
// lies where its key was.
func (p *Presence) drop(device string, epoch uint64) {
	s := p.shard(device)
	s.mu.Lock()
	e := s.m[device]
	if e == nil {
		s.mu.Unlock()
		return
	}
	own := e.node == p.opts.Node
	stays := e.epoch > epoch || e.online && own
	if !stays {
		delete(s.m, device)
		s.dirty = true
	}
	s.mu.Unlock()
	if stays && own {
		p.note(device)
	}
}

// speaksFor reports whether this node tells listeners of a device that a node has: that node does, or, if it is lost, the
// first of the others.
func (p *Presence) speaksFor(node string) bool {
	if node == p.opts.Node {
		return true
	}
	key, err := bus.DeviceKey(node)
	if err != nil {
		return false
	}
	p.mu.Lock()
	_, lives := p.nodes[key]
	p.mu.Unlock()
	return !lives && p.eldest(key)
}
