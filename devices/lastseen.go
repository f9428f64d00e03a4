package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

const (
	lastSeenKey = "lastseen." // + node.shard: when the devices of the shard were last seen
	storeEvery  = time.Second // one shard of last seen times each
	stopStore   = 5 * time.Second
)

// seenValue is how one device's last seen time is stored: Unix milliseconds, then the cause.
type seenValue struct {
	Seen    int64  `json:"t"`
	Cause   string `json:"c,omitempty"`
	Link    string `json:"l,omitempty"`
	Epoch   uint64 `json:"e,omitempty"`
	Address string `json:"a,omitempty"`
	Point   int64  `json:"p,omitempty"` // when telemetry last came, of those that are expected to send some
	Silent  bool   `json:"s,omitempty"`
	Online  bool   `json:"o,omitempty"` // still then: what ended that, if not the hub's own end, nobody saw
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
		v := seenValue{Seen: e.seen, Cause: e.cause, Link: e.link, Epoch: e.epoch, Address: e.address}
		if x := s.expected[device]; x != nil {
			if v.Point, v.Silent = x.point, x.silent; x.silent {
				v.Point = x.last() // since when it is
			}
		}
		if e.online {
			v.Seen, v.Online, live = now, true, true
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

// remember takes over what was stored of a device, unless it was of another one: of a device that was deleted while this
// node, or the one that stored it, could not hear of that.
func (p *Presence) remember(device string, v seenValue) {
	rec, known := p.opts.Records.Record(device)
	s := p.shard(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !known || v.Seen < rec.Created.UnixMilli() {
		s.dirty = true // and stored no more
		return
	}
	e := s.entry(device)
	if e.online || e.seen >= v.Seen {
		return
	}
	e.seen, e.since, e.cause, e.link, e.epoch, e.node = v.Seen, v.Seen, v.Cause, v.Link, max(e.epoch, v.Epoch), p.opts.Node
	e.address = v.Address
	if v.Online {
		e.cause = causeRestart
	}
	if x := s.expected[device]; x != nil {
		x.point, x.silent = max(x.point, v.Point), v.Silent
	}
}
