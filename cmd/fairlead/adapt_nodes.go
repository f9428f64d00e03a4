package main

import (
	"context"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/devices"
)

// nodes is the cluster as the API sees it. What a node is built from and since when it runs only that node tells.
type nodes struct {
	presence *devices.Presence
	started  time.Time
}

func (n nodes) Nodes(context.Context) ([]api.Node, error) {
	var out []api.Node
	for _, s := range n.presence.Nodes() {
		node := api.Node{Name: s.Name, Self: s.Self, Seen: s.Seen.UnixMilli(), Sessions: s.Online}
		if s.Self {
			node.Version, node.Started = version(), n.started.UnixMilli()
		}
		out = append(out, node)
	}
	return out, nil
}
