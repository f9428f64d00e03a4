package main

import (
	"context"
	"maps"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/devices"
)

// bridgedPresence tells presence of bridged devices, and the router that one can take commands again.
type bridgedPresence struct{ *hub }

func (p bridgedPresence) Set(device string, online bool, cause, link string) {
	_, was := p.presence.Node(device)
	p.presence.Set(device, online, cause, link)
	if st := p.presence.State(device); online && !was {
		p.router.Attached(commands.Attachment{Device: device, Session: link, Epoch: st.Epoch, Node: p.node})
	}
}

// tellBridge tells the bridge what concerns it of a record that changes.
func tellBridge(b *bridge.Bridge) func(old, now *devices.Record) {
	return func(old, now *devices.Record) {
		if now == nil {
			b.RecordChanged(old.ID, bridge.Change{Relabelled: true, Deleted: true}) // the next record has what the fleet says, and no more
			return
		}
		b.RecordChanged(now.ID, bridge.Change{
			Refused:    now.Disabled || now.Pending,
			Keyed:      len(now.Keys) > 0, // it connects by itself: its id is no bridged device's any more
			Relabelled: old == nil || !maps.Equal(old.Labels, now.Labels),
		})
	}
}

// bridgeStatus is the bridge as the API sees it.
type bridgeStatus struct{ bridge *bridge.Bridge }

func (b bridgeStatus) Status(context.Context) (api.Bridge, error) {
	out := api.Bridge{Connections: []api.BridgeConnection{}}
	for _, s := range b.bridge.Status() {
		c := api.BridgeConnection{
			Name: s.Name, URL: s.URL, Profiles: s.Profiles, State: string(s.State), Since: s.Since, LastError: s.LastError,
			ErrorTime: s.ErrorTime, Received: s.Received, Acked: s.Acked, Published: s.Published, Dropped: s.Dropped,
			MoreTopics: s.MoreTopics, Topics: []api.BridgeTopic{},
		}
		if c.Profiles == nil {
			c.Profiles = []string{}
		}
		for _, t := range s.Topics {
			c.Topics = append(c.Topics, api.BridgeTopic(t))
		}
		out.Connections = append(out.Connections, c)
	}
	return out, nil
}
