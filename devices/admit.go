package devices

import (
	"context"
	"net/netip"

	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// Admit decides about a client that shows a device's token at another listener of the node, without a certificate: by the same
// limits and the same verifier as a connect, with the same refusals, counted together with those. It blocks while too many
// are looked at.
func (h *Handler) Admit(ctx context.Context, token string, from netip.Addr) (*auth.Claims, *problem.Document) {
	claims, p := h.admit(ctx, token, from)
	if p != nil {
		h.metrics.refuse(p.Code)
	}
	return claims, p
}

func (h *Handler) admit(ctx context.Context, token string, from netip.Addr) (*auth.Claims, *problem.Document) {
	if h.draining() {
		return nil, refuse503(refuseDraining, "this node is shutting down")
	}
	if p := h.rush(from); p != nil {
		return nil, p
	}
	if !h.turn(ctx) {
		return nil, refuse503(refuseBusy, "this node has too many connects to answer at once")
	}
	defer func() { <-h.turns }()
	claims, err := h.verifier.Verify(token)
	if err != nil {
		return nil, refuseToken(err)
	}
	if p := h.binding.check(nil, claims.Device); p != nil {
		return nil, p
	}
	if !h.connects.allow(claims.Device, shardOf(claims.Device), h.now()) {
		return nil, refuse429(refuseOften, "this device connects too often")
	}
	return claims, nil
}
