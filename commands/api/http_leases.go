package api

import (
	"net/http"
	"time"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

const defaultLease = 10 * time.Minute

// leaseBody asks for a device.
type leaseBody struct {
	TTL      string `json:"ttl"`
	Takeover bool   `json:"takeover"`
}

func (a *API) getLease(c *call) (*reply, error) {
	l, err := a.opts.Leases.Lease(c.Context(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return ok(l), nil
}

func (a *API) postLease(c *call) (*reply, error) {
	var b leaseBody
	if err := c.optionalBody(&b); err != nil {
		return nil, err
	}
	q := LeaseRequest{Device: c.PathValue("id"), Actor: c.who.name, TTL: defaultLease, TakeOver: b.Takeover}
	if b.TTL != "" {
		ttl, err := duration("ttl", b.TTL)
		if err != nil || ttl <= 0 {
			return nil, orTooShort(err, "ttl")
		}
		q.TTL = ttl
	}
	c.audit.Detail = "ttl " + q.TTL.String()
	if b.Takeover && !c.who.role.may(Admin) {
		return nil, a.refused("role", problem.New(http.StatusForbidden, "role_too_low",
			"only an admin takes a device over, "+c.who.name+" is "+string(c.who.role)).
			WithHint("ask the holder to release it, or wait until the lease ends"))
	}
	l, from, err := a.opts.Leases.Hold(c.Context(), q)
	if err != nil {
		return nil, err
	}
	if from != "" {
		c.audit.Detail += ", taken over from " + from
	}
	return ok(l), nil
}

func (a *API) deleteLease(c *call) (*reply, error) {
	l, err := a.opts.Leases.Release(c.Context(), c.PathValue("id"), c.who.name, c.who.role.may(Admin))
	if err != nil {
		return nil, err
	}
	c.audit.Detail = "held by " + l.Holder
	return &reply{status: http.StatusNoContent}, nil
}

func (a *API) postApproval(c *call) (*reply, error) {
	cmd, err := a.opts.Approver.Approve(c.Context(), c.PathValue("id"), c.who.name)
	if err != nil {
		return nil, err
	}
	c.audit.Detail = "device " + cmd.Device + ", " + cmd.Name + " of " + cmd.Actor
	return ok(cmd), nil
}
