package devices

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

const (
	nodeKey    = "node." // + node: its lease
	leaseEvery = 5 * time.Second
	leaseFor   = 3 * leaseEvery
	causeLost  = "node_lost"
	// lostNodes is how many lost nodes are remembered with their devices: some never come back. Of one that was lost longer
	// ago than that many others, each device is on line again when it next changes.
	lostNodes = 16
)

// lease says that this node lives, and finds those that do not.
func (p *Presence) lease(ctx context.Context) error {
	key, err := bus.DeviceKey(p.opts.Node)
	if err != nil {
		return fmt.Errorf("presence: node: %w", err)
	}
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	last := p.opts.Now()
	for {
		now := p.opts.Now()
		if now.Sub(last) > 2*leaseEvery {
			p.slept(now)
		}
		last = now
		beat := strconv.FormatInt(now.UnixMilli(), 10)
		if _, err := p.opts.Bucket.PutString(ctx, nodeKey+key, beat); err != nil && ctx.Err() == nil {
			p.opts.Log.Warn("presence: lease not renewed", "err", err)
		}
		p.expireNodes(key)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// slept gives the others time to be heard: this process stood still, and what they said meanwhile is still to be read.
func (p *Presence) slept(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node := range p.nodes {
		p.nodes[node] = now
	}
}

// expireNodes marks the devices of silent nodes off line. Every node does so for itself, and one of them tells listeners.
func (p *Presence) expireNodes(self string) {
	now := p.opts.Now()
	var silent []string
	p.mu.Lock()
	for node, heard := range p.nodes {
		if node != self && now.Sub(heard) > leaseFor {
			silent = append(silent, node)
			delete(p.nodes, node)
		}
	}
	p.mu.Unlock()
	for _, key := range silent {
		node, err := bus.KeyDevice(key)
		if err != nil {
			continue
		}
		p.opts.Log.Warn("node lost", "node", node)
		p.loseNode(node, now)
	}
}

// lostNode is what a node had when it was lost.
type lostNode struct {
	at      time.Time
	devices map[string]lostEntry
}

// lostEntry is what a device was when its node was lost.
type lostEntry struct {
	epoch  uint64
	since  int64
	cause  string
	silent bool
}

func (p *Presence) loseNode(node string, now time.Time) {
	lost := make(map[string]lostEntry)
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for device, e := range s.m {
			if e.online && e.node == node {
				lost[device] = lostEntry{epoch: e.epoch, since: e.since, cause: e.cause, silent: s.expected[device].isSilent()}
				e.online, e.cause, e.since = false, causeLost, now.UnixMilli()
				s.dirty = true
			}
		}
		s.mu.Unlock()
	}
	if key, err := bus.DeviceKey(node); err == nil && p.eldest(key) {
		for device := range lost {
			p.note(device)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost[node] = lostNode{at: now, devices: lost}
	for len(p.lost) > lostNodes {
		oldest := node
		for other, l := range p.lost {
			if l.at.Before(p.lost[oldest].at) {
				oldest = other
			}
		}
		delete(p.lost, oldest)
	}
}

// beat takes a sign of life of a node. One that was lost has what it had: of each device that has changed since, this node
// has heard.
func (p *Presence) beat(key string) {
	node, err := bus.KeyDevice(key)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.nodes[key] = p.opts.Now()
	lost, back := p.lost[node]
	delete(p.lost, node)
	p.mu.Unlock()
	if !back {
		return
	}
	p.opts.Log.Info("node back", "node", node)
	tells := p.eldest(key)
	for device, was := range lost.devices {
		if p.restore(device, node, was) && tells {
			p.note(device)
		}
	}
}

// restore reports whether the device is on line again.
func (p *Presence) restore(device, node string, was lostEntry) bool {
	s := p.shard(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[device]
	if e == nil || e.online || e.node != node || e.cause != causeLost || e.epoch != was.epoch {
		return false
	}
	e.online, e.cause, e.since = true, was.cause, was.since
	if x := s.expected[device]; x != nil {
		x.silent = was.silent
	}
	return true
}
