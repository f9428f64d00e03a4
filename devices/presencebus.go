package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

const (
	nodeKey      = "node."     // + node: its lease
	lastSeenKey  = "lastseen." // + node.shard: when the devices of the shard were last seen
	leaseEvery   = 5 * time.Second
	leaseFor     = 3 * leaseEvery
	storeEvery   = time.Second // one shard of last seen times each
	stopStore    = 5 * time.Second
	maxUntold    = 512 // presence messages that the bus has not acknowledged
	causeLost    = "node_lost"
	causeRestart = "node_restarted"
)

// presenceValue is one device in the bucket.
type presenceValue struct {
	Status  Status `json:"status"`
	Node    string `json:"node"`
	Session string `json:"session,omitempty"`
	Epoch   uint64 `json:"epoch"`
	Link    string `json:"link"`
	Cause   string `json:"cause"`
	Since   int64  `json:"since"`
	Seen    int64  `json:"seen"`
}

// presenceEvent is the live event of a change.
type presenceEvent struct {
	Event  string `json:"event"`
	Device string `json:"device"`
	Status Status `json:"status"`
	Cause  string `json:"cause"`
	Link   string `json:"link,omitempty"`
	Node   string `json:"node,omitempty"`
	Since  int64  `json:"since"`
}

// Run tells other nodes and listeners about changes, hears theirs, and stores when devices were last seen, until ctx
// ends. It then stores what it has not stored yet.
func (p *Presence) Run(ctx context.Context) error {
	if err := p.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	heard := make(chan struct{})
	if p.opts.Shared {
		g.Go(func() error { return p.hear(ctx, heard) })
		g.Go(func() error { return p.lease(ctx) })
	} else {
		close(heard)
	}
	g.Go(func() error { return p.tell(ctx) })
	g.Go(func() error { return p.keep(ctx) })
	select {
	case <-heard:
		close(p.ready)
	case <-ctx.Done():
	}
	return g.Wait()
}

// tell publishes changes.
func (p *Presence) tell(ctx context.Context) error {
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			p.tellChanged(context.WithoutCancel(ctx))
			return nil
		}
		p.tellChanged(ctx)
	}
}

func (p *Presence) tellChanged(ctx context.Context) {
	p.mu.Lock()
	changed := p.changed
	p.changed = make(map[string]struct{})
	p.mu.Unlock()
	for device := range changed {
		st := p.State(device)
		if st.Status == Never {
			continue
		}
		if err := p.tellOne(ctx, st); err != nil {
			p.opts.Log.Warn("presence not told", "device_id", device, "err", err)
		}
	}
}

func (p *Presence) tellOne(ctx context.Context, st State) error {
	subject, err := bus.PresenceEvent(st.Device)
	if err != nil {
		return err
	}
	event, err := json.Marshal(presenceEvent{
		Event: "presence", Device: st.Device, Status: st.Status, Cause: st.Cause, Link: st.Link, Node: st.Node,
		Since: st.Since.UnixMilli(),
	})
	if err != nil {
		return err
	}
	if err := p.opts.Events.Publish(subject, event); err != nil {
		return err
	}
	if !p.opts.Shared || st.Node != p.opts.Node {
		return nil
	}
	return p.put(ctx, st)
}

// put stores the state in the bucket without waiting for the answer, unless too many are outstanding.
func (p *Presence) put(ctx context.Context, st State) error {
	key, err := bus.DeviceKey(st.Device)
	if err != nil {
		return err
	}
	value, err := json.Marshal(presenceValue{
		Status: st.Status, Node: st.Node, Session: st.Session, Epoch: st.Epoch, Link: st.Link, Cause: st.Cause,
		Since: st.Since.UnixMilli(), Seen: st.LastSeen.UnixMilli(),
	})
	if err != nil {
		return err
	}
	if p.opts.Stream.PublishAsyncPending() >= maxUntold {
		select {
		case <-p.opts.Stream.PublishAsyncComplete():
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leaseEvery):
			return errors.New("the bus does not acknowledge")
		}
	}
	_, err = p.opts.Stream.PublishAsync("$KV."+bus.BucketPresence+"."+key, value)
	return err
}

// hear follows what other nodes say, and starts again when the watch ends.
func (p *Presence) hear(ctx context.Context, heard chan<- struct{}) error {
	for {
		err := p.watch(ctx, &heard)
		if ctx.Err() != nil {
			return nil
		}
		p.opts.Log.Warn("presence: watch ended, trying again", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatchWait):
		}
	}
}

func (p *Presence) watch(ctx context.Context, heard *chan<- struct{}) error {
	w, err := p.opts.Bucket.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch presence: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				return errors.New("watch presence: closed")
			}
			if e == nil {
				if *heard != nil {
					close(*heard)
					*heard = nil
				}
				continue
			}
			p.take(e)
		}
	}
}

func (p *Presence) take(e jetstream.KeyValueEntry) {
	if len(e.Key()) > len(nodeKey) && e.Key()[:len(nodeKey)] == nodeKey {
		p.mu.Lock()
		p.nodes[e.Key()[len(nodeKey):]] = p.opts.Now()
		p.mu.Unlock()
		return
	}
	device, err := bus.KeyDevice(e.Key())
	if err != nil || e.Operation() != jetstream.KeyValuePut {
		return
	}
	var v presenceValue
	if err := json.Unmarshal(e.Value(), &v); err != nil {
		p.opts.Log.Warn("presence: unreadable", "device_id", device, "err", err)
		return
	}
	p.merge(device, &v)
}

// merge takes over what a node said of a device unless something newer is known. What this node itself said before it
// was restarted is known to be over.
func (p *Presence) merge(device string, v *presenceValue) {
	s := p.shard(device)
	s.mu.Lock()
	e := s.entry(device)
	if v.Epoch < e.epoch || v.Epoch == e.epoch && v.Node == p.opts.Node {
		s.mu.Unlock()
		return
	}
	was, own := e.epoch, e.online && e.node == p.opts.Node
	*e = presenceEntry{
		epoch: v.Epoch, since: v.Since, seen: max(v.Seen, e.seen), session: v.Session, node: v.Node, cause: v.Cause,
		link: v.Link, online: v.Status == Online,
	}
	stale := e.online && v.Node == p.opts.Node
	if stale {
		e.online, e.cause = false, causeRestart
	}
	s.mu.Unlock()
	p.mu.Lock()
	replaced := p.replaced
	p.mu.Unlock()
	if own && was < v.Epoch && replaced != nil {
		replaced(device, was)
	}
	if stale {
		p.note(device)
	}
}

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

// seenValue is how one device's last seen time is stored: Unix milliseconds, then the cause.
type seenValue struct {
	Seen  int64  `json:"t"`
	Cause string `json:"c,omitempty"`
	Link  string `json:"l,omitempty"`
	Epoch uint64 `json:"e,omitempty"`
}

// keep stores last seen times, one shard after another, so that they survive a restart. A crash loses at most one round.
func (p *Presence) keep(ctx context.Context) error {
	tick := time.NewTicker(storeEvery)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % presenceShards {
		select {
		case <-ctx.Done():
			return p.keepAll(context.WithoutCancel(ctx))
		case <-tick.C:
		}
		if err := p.keepShard(ctx, i); err != nil && ctx.Err() == nil {
			p.opts.Log.Warn("last seen times not stored", "err", err)
		}
	}
}

func (p *Presence) keepAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopStore)
	defer cancel()
	for i := range presenceShards {
		if err := p.keepShard(ctx, i); err != nil {
			return fmt.Errorf("store last seen times: %w", err)
		}
	}
	return nil
}

func (p *Presence) keepShard(ctx context.Context, i int) error {
	node, err := bus.DeviceKey(p.opts.Node)
	if err != nil {
		return err
	}
	now := p.opts.Now().UnixMilli()
	s := &p.shards[i]
	s.mu.Lock()
	seen, live := make(map[string]seenValue, len(s.m)), false
	for device, e := range s.m {
		if e.node != p.opts.Node || e.seen == 0 {
			continue
		}
		v := seenValue{Seen: e.seen, Cause: e.cause, Link: e.link, Epoch: e.epoch}
		if e.online {
			v.Seen, live = now, true
		}
		seen[device] = v
	}
	dirty := s.dirty || live
	s.dirty = false
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	value, err := json.Marshal(seen)
	if err == nil {
		_, err = p.opts.Hub.Put(ctx, lastSeenKey+node+"."+strconv.Itoa(i), value)
	}
	if err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
	}
	return err
}

// load reads the last seen times that any node stored.
func (p *Presence) load(ctx context.Context) error {
	w, err := p.opts.Hub.Watch(ctx, lastSeenKey+">", jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("load last seen times: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.Updates():
			if !ok {
				return errors.New("load last seen times: watch closed")
			}
			if e == nil {
				return nil
			}
			var seen map[string]seenValue
			if err := json.Unmarshal(e.Value(), &seen); err != nil {
				p.opts.Log.Warn("last seen times: unreadable", "key", e.Key(), "err", err)
				continue
			}
			for device, v := range seen {
				p.remember(device, v)
			}
		}
	}
}

func (p *Presence) remember(device string, v seenValue) {
	s := p.shard(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(device)
	if e.online || e.seen >= v.Seen {
		return
	}
	e.seen, e.since, e.cause, e.link, e.epoch, e.node = v.Seen, v.Seen, v.Cause, v.Link, max(e.epoch, v.Epoch), p.opts.Node
}

// shardOf places a device the same way in every run, since shards are stored.
func shardOf(device string) uint32 {
	h := uint32(2166136261) // FNV-1a
	for i := range len(device) {
		h = (h ^ uint32(device[i])) * 16777619
	}
	return h % presenceShards
}
