package commands

import (
	"context"
	"fmt"
	"path"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// Policy says which commands need a second operator.
type Policy struct {
	rules  []rule
	labels func(device string) map[string]string
}

type rule struct {
	selector selector.Selector
	devices  []string
	commands []string
}

// NewPolicy reads the rules of the configuration. labels returns a device's labels; it must not block.
func NewPolicy(rules []configs.Approval, labels func(device string) map[string]string) (*Policy, error) {
	p := &Policy{labels: labels}
	for i, c := range rules {
		s, err := selector.Parse(c.Selector)
		if err != nil {
			return nil, fmt.Errorf("commands.approve[%d].selector: %w", i, err)
		}
		for _, pattern := range append(append([]string(nil), c.Devices...), c.Commands...) {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, fmt.Errorf("commands.approve[%d]: %q: %w", i, pattern, err)
			}
		}
		p.rules = append(p.rules, rule{s, c.Devices, c.Commands})
	}
	return p, nil
}

// Needs reports whether a command to a device needs a second operator. Of one rule everything that is given must hold.
func (p *Policy) Needs(device, command string) bool {
	if p == nil {
		return false
	}
	for _, r := range p.rules {
		if matches(r.devices, device) && matches(r.commands, command) && (r.selector.Empty() || r.selector.Match(p.labels(device))) {
			return true
		}
	}
	return false
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return len(patterns) == 0
}

// checkApproval notes in the order that somebody else must agree first. A command that somebody agreed to already, as
// part of a job, is not asked for again.
func (r *Router) checkApproval(q *Request, o *order) error {
	if !r.policy.Needs(q.Device, q.Name) || q.Approver != "" && q.Approver != q.Actor {
		return nil
	}
	if q.OnlineOnly {
		return invalid("/ttl", "0 means now or never, and this command needs the approval of a second operator")
	}
	o.Approval = true
	return nil
}

// NeedsApproval reports whether a command to a device would wait for a second operator.
func (r *Router) NeedsApproval(device, command string) bool { return r.policy.Needs(device, command) }

// Approve lets a command go that waits for a second operator. Whoever asked for it cannot.
func (r *Router) Approve(ctx context.Context, id, actor string) (Command, error) {
	c, err := r.Command(ctx, id)
	if err != nil {
		return Command{}, err
	}
	switch {
	case c.State.Final():
		return c, ErrFinal
	case !r.awaits(id):
		return c, ErrNotAwaiting
	case r.orphaned(id):
		return c, ErrOtherDevice
	case c.Actor == actor || actor == "":
		return c, ErrSelfApproval
	}
	e := r.entry(approve, id)
	e.Actor = actor
	t, effective, err := r.record(ctx, c.Device, e)
	if err != nil {
		return c, err
	}
	if t == nil {
		return c, ErrNotFound
	}
	c = r.snapshot(t)
	switch {
	case effective:
		return c, nil
	case c.State.Final():
		return c, ErrFinal
	}
	return c, ErrNotAwaiting
}

// orphaned reports whether a command is for a device that was deleted: it is as good as cancelled.
func (r *Router) orphaned(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.ledger.open[id]
	if t == nil {
		return false
	}
	born, known := r.devices.Born(t.device)
	return t.foreign(born, known)
}

func (r *Router) awaits(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.ledger.open[id]
	return t != nil && t.awaiting()
}
