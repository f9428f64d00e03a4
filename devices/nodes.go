package devices

import (
	"cmp"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// NodeState is a node of the hub, as this one knows it.
type NodeState struct {
	Name   string
	Self   bool
	Seen   time.Time // when it was last heard
	Online int       // devices on line at it
}

// Nodes lists this node and those it hears, by name. One that was not heard for leaseFor is none any more.
func (p *Presence) Nodes() []NodeState {
	nodes := []NodeState{{Name: p.opts.Node, Self: true, Seen: p.opts.Now()}}
	p.mu.Lock()
	for key, heard := range p.nodes {
		if node, err := bus.KeyDevice(key); err == nil && node != p.opts.Node {
			nodes = append(nodes, NodeState{Name: node, Seen: heard})
		}
	}
	p.mu.Unlock()
	online := map[string]int{}
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		for _, e := range s.m {
			if e.online {
				online[e.node]++
			}
		}
		s.mu.RUnlock()
	}
	for i := range nodes {
		nodes[i].Online = online[nodes[i].Name]
	}
	slices.SortFunc(nodes, func(a, b NodeState) int { return cmp.Compare(a.Name, b.Name) })
	return nodes
}
