package devices

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// silenceEvery is how often those who should have sent telemetry are looked for.
const silenceEvery = time.Second

// expectation is how often a device should send telemetry, and whether it does. There is one for each device of which
// anything is expected, whatever its link is; the node that has the device keeps it. Times are Unix milliseconds.
type expectation struct {
	every  int64 // 0: the record is not known yet
	point  int64 // when telemetry last came; 0: not known
	from   int64 // since when this node expects some
	silent bool
}

func (x *expectation) due() int64 { return max(x.point, x.from) + x.every }

// last is when the device was last heard, as far as this node knows.
func (x *expectation) last() int64 {
	if x.point != 0 {
		return x.point
	}
	return x.from
}

func (x *expectation) isSilent() bool { return x != nil && x.silent }

func (x *expectation) tell(st *State) {
	if x == nil || x.every == 0 {
		return
	}
	st.Expect = time.Duration(x.every) * time.Millisecond
	if x.silent {
		st.Silent, st.SilentSince = true, time.UnixMilli(x.last())
	}
}

// expectRule is one entry of the configuration.
type expectRule struct {
	selector selector.Selector
	every    time.Duration
}

func parseExpect(list []configs.Expectation) ([]expectRule, error) {
	rules := make([]expectRule, 0, len(list))
	for _, e := range list {
		sel, err := selector.Parse(e.Selector)
		if err != nil {
			return nil, fmt.Errorf("devices.expect: %w", err)
		}
		rules = append(rules, expectRule{sel, e.Every})
	}
	return rules, nil
}

// expectOf is how often a device should send: as its record says, or the first rule that fits it. Zero is never.
func (r *Registry) expectOf(rec *Record) time.Duration {
	if rec == nil || rec.Disabled || rec.ExpectEvery < 0 {
		return 0
	}
	if rec.ExpectEvery > 0 {
		return rec.ExpectEvery
	}
	for _, rule := range r.expects {
		if rule.selector.Match(rec.Labels) {
			return rule.every
		}
	}
	return 0
}

// expect sets how often a device should send telemetry; zero is never.
func (p *Presence) expect(device string, every time.Duration) {
	s := p.shard(device)
	s.mu.Lock()
	x := s.expected[device]
	if x == nil && every == 0 || x != nil && x.every == every.Milliseconds() {
		s.mu.Unlock()
		return
	}
	now, was := p.opts.Now().UnixMilli(), x != nil && x.silent
	if every == 0 {
		delete(s.expected, device)
	} else {
		x = s.expecting(device)
		fresh := x.every == 0
		if fresh {
			x.from = now
		}
		x.every = every.Milliseconds()
		if !fresh && x.due() > now {
			x.silent = false
		}
		was = was && !x.silent
	}
	s.dirty = true
	s.mu.Unlock()
	if was {
		p.note(device)
	}
}

// expecting returns the device's expectation, making it. Called with mu held.
func (s *presenceShard) expecting(device string) *expectation {
	x := s.expected[device]
	if x == nil {
		if s.expected == nil {
			s.expected = make(map[string]*expectation)
		}
		x = &expectation{}
		s.expected[device] = x
	}
	return x
}

// Pointed records that telemetry of a device came by another way than its session: from a bridge, or posted.
func (p *Presence) Pointed(device string) { p.pointedAt(device, p.opts.Now().UnixMilli()) }

// pointedAt records when telemetry came, and ends the device's silence. If another node has the device on line, that one is
// told instead.
func (p *Presence) pointedAt(device string, at int64) {
	s := p.shard(device)
	s.mu.RLock()
	x, e := s.expected[device], s.m[device]
	elsewhere := ""
	if e != nil && e.online && e.node != p.opts.Node {
		elsewhere = e.node
	}
	s.mu.RUnlock()
	if x == nil {
		return
	}
	if elsewhere != "" {
		p.passPoint(device, elsewhere)
		return
	}
	s.mu.Lock()
	x.point = max(x.point, at)
	was := x.silent && x.due() > p.opts.Now().UnixMilli()
	if was {
		x.silent, s.dirty = false, true
	}
	moved := e != nil && !e.online && e.node != p.opts.Node
	if moved {
		e.node = p.opts.Node // who posts may do so at any node; the newest keeps the count
	}
	s.mu.Unlock()
	if was || moved {
		p.note(device)
	}
}

// Silent reports whether no telemetry has come of a device for longer than it should take.
func (p *Presence) Silent(device string) bool {
	s := p.shard(device)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.expected[device].isSilent()
}

// silentHere counts the silent devices that this node keeps the count of.
func (p *Presence) silentHere() int {
	n := 0
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		for device, x := range s.expected {
			if e := s.m[device]; x.silent && e != nil && e.node == p.opts.Node {
				n++
			}
		}
		s.mu.RUnlock()
	}
	return n
}

// overdue returns the devices of which telemetry should have come by now. What a device was never heard of is not
// expected yet.
func (p *Presence) overdue(now int64) (devices []string) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for device, x := range s.expected {
			e := s.m[device]
			x.point, x.from = min(x.point, now), min(x.from, now) // the clock may have been set back
			switch {
			case x.every == 0 || x.silent:
			case e == nil || e.seen == 0:
				x.from = now
			case e.node != p.opts.Node && (e.online || e.cause != causeLost):
				x.from = now // another node looks after it
			case x.due() <= now:
				devices = append(devices, device)
			}
		}
		s.mu.Unlock()
	}
	return devices
}

// silence makes a device silent that is still overdue.
func (p *Presence) silence(device string, now int64) bool {
	s := p.shard(device)
	s.mu.Lock()
	x, e := s.expected[device], s.m[device]
	if x == nil || x.silent || x.due() > now {
		s.mu.Unlock()
		return false
	}
	x.silent, s.dirty = true, true
	here := e != nil && e.node == p.opts.Node
	s.mu.Unlock()
	if here || p.eldest("") {
		p.note(device)
	}
	return true
}

// eldest reports whether this node is the one that speaks for lost ones: the first by name of those that live, apart from
// the one of whom it speaks.
func (p *Presence) eldest(of string) bool {
	self, err := bus.DeviceKey(p.opts.Node)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for node := range p.nodes {
		if node < self && node != of {
			return false
		}
	}
	return true
}

// watchSilence looks for devices that have gone silent, and for conflicts that are over, until ctx ends.
func (r *Registry) watchSilence(ctx context.Context) {
	select {
	case <-r.presence.Ready():
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(silenceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := r.now().UnixMilli()
		for _, device := range r.presence.overdue(now) {
			r.silence(device, now)
		}
		r.presence.settleFlaps(now)
	}
}

// silence asks the device's session, if there is one, whether it has really sent nothing.
func (r *Registry) silence(device string, now int64) {
	s := r.session(device)
	if s != nil {
		r.presence.pointedAt(device, s.pointed())
	}
	if !r.presence.silence(device, now) || s == nil {
		return
	}
	s.quiet.Store(true)
	r.presence.pointedAt(device, s.pointed()) // in case one came just now
}

// pointed is when the session's device last sent telemetry that was taken, in Unix milliseconds; it may be a second late.
func (s *Session) pointed() int64 {
	at := s.point.Load()
	if at == 0 {
		return 0
	}
	return s.host.started.Add(time.Duration(at) * time.Second).UnixMilli()
}

// spoke ends the device's silence.
func (s *Session) spoke() {
	s.quiet.Store(false)
	s.host.presence.Pointed(s.device)
}
