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
)

// lease says that this node lives, and finds those that do not.
func (p *Presence) lease(ctx context.Context) error {
	key, err := bus.DeviceKey(p.opts.Node)
	if err != nil {
		return fmt.Errorf("presence: node: %w", err)
	}
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		beat := strconv.FormatInt(p.opts.Now().UnixMilli(), 10)
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

// expireNodes marks the devices of silent nodes off line. Every node does so for itself; nobody publishes it.
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

func (p *Presence) loseNode(node string, now time.Time) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for _, e := range s.m {
			if e.online && e.node == node {
				e.online, e.cause, e.since = false, causeLost, now.UnixMilli()
				s.dirty = true
			}
		}
		s.mu.Unlock()
	}
}
