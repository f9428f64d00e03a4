package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

const causeRestart = "node_restarted"

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
	Address string `json:"address,omitempty"`
	Silent  int64  `json:"silent,omitempty"` // since when
	Flap    *flap  `json:"flap,omitempty"`
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

	Address     string `json:"address,omitempty"`
	Flaps       int    `json:"flaps,omitempty"`
	Conflict    bool   `json:"conflict,omitempty"`
	Silent      bool   `json:"silent,omitempty"`
	SilentSince int64  `json:"silent_since,omitempty"`
}

// unixMS is a time for others; zero stays zero.
func unixMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Run tells other nodes and listeners about changes, hears theirs, and stores when devices were last seen, until ctx
// ends. It then stores what it has not stored yet.
func (p *Presence) Run(ctx context.Context) error {
	select {
	case <-p.opts.Records.Ready(): // only of devices that are known is anything remembered
	case <-ctx.Done():
		return nil
	}
	if err := p.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	heard := make(chan struct{})
	if p.opts.Shared {
		stop, err := p.hearPoints()
		if err != nil {
			return err
		}
		defer stop()
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

// hear follows what other nodes say, and starts again when the watch ends.
func (p *Presence) hear(ctx context.Context, heard chan<- struct{}) error {
	for {
		err := p.watch(ctx, &heard)
		if ctx.Err() != nil {
			return nil
		}
		p.opts.Log.Warn("presence: watch ended, trying again", "err", err)
		p.noteHere()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatchWait):
		}
	}
}

// noteHere tells again who is on line here: the bucket may have been emptied.
func (p *Presence) noteHere() {
	for i := range p.shards {
		s := &p.shards[i]
		var here []string
		s.mu.RLock()
		for device, e := range s.m {
			if e.online && e.node == p.opts.Node {
				here = append(here, device)
			}
		}
		s.mu.RUnlock()
		for _, device := range here {
			p.note(device)
		}
	}
}

func (p *Presence) watch(ctx context.Context, heard *chan<- struct{}) error {
	var renewed <-chan struct{}
	if p.opts.Renewed != nil {
		renewed = p.opts.Renewed()
	}
	w, err := p.opts.Bucket.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch presence: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-renewed:
			return errors.New("watch presence: the bucket was made anew")
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
		p.beat(e.Key()[len(nodeKey):])
		return
	}
	device, err := bus.KeyDevice(e.Key())
	if err != nil || len(e.Value()) == 0 { // a key that no hub took away
		return
	}
	var v presenceValue
	if err := json.Unmarshal(e.Value(), &v); err != nil {
		p.opts.Log.Warn("presence: unreadable", "device_id", device, "err", err)
		return
	}
	if e.Operation() != jetstream.KeyValuePut {
		p.drop(device, v.Epoch)
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
	// What posts at several nodes holds no link, and so no epoch: the node that saw it last has it.
	older := v.Epoch == e.epoch && e.node == p.opts.Node && !e.online && v.Status != Online && v.Seen <= e.seen
	if v.Epoch < e.epoch || v.Epoch == e.epoch && v.Node == p.opts.Node || older {
		s.mu.Unlock()
		return
	}
	was, own := e.epoch, e.online && e.node == p.opts.Node
	if own && was == v.Epoch {
		s.mu.Unlock()
		p.note(device) // it was taken for lost there
		return
	}
	*e = presenceEntry{
		epoch: v.Epoch, since: v.Since, seen: max(v.Seen, e.seen), session: v.Session, node: v.Node, cause: v.Cause,
		link: v.Link, online: v.Status == Online, address: v.Address, flap: v.Flap,
	}
	if x := s.expected[device]; x != nil {
		if x.silent = v.Silent != 0; x.silent {
			x.point = max(x.point, v.Silent)
		}
	}
	stale := e.online && v.Node == p.opts.Node
	if stale {
		e.online, e.cause = false, causeRestart
	}
	s.mu.Unlock()
	p.mu.Lock()
	if v.Flap != nil {
		p.flapping[device] = struct{}{}
	}
	replaced := p.replaced
	p.mu.Unlock()
	if own && was < v.Epoch && replaced != nil {
		replaced(device, was)
	}
	if stale {
		p.note(device)
	}
}

// shardOf places a device the same way in every run, since shards are stored.
func shardOf(device string) uint32 {
	h := uint32(2166136261) // FNV-1a
	for i := range len(device) {
		h = (h ^ uint32(device[i])) * 16777619
	}
	return h % presenceShards
}
