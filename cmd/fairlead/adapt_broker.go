package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/broker"
	"github.com/fairlead-hub/fairlead/devices"
)

// letDevicesIn has the embedded broker take devices' tokens, and end sessions as those of sockets end.
func (h *hub) letDevicesIn() {
	h.broker.LetIn(broker.Devices{Admit: h.admitMQTT, Topics: h.bridge, Subscribed: h.bridge.Subscribed, Denied: h.bridge.Denied, Ended: h.bridge.Ended})
	h.records.Observe(func(old, now *devices.Record) {
		if old == nil {
			return
		}
		if now == nil || !now.Created.Equal(old.Created) {
			h.broker.Forget(old.ID)
			return
		}
		h.broker.Recheck(old.ID)
	})
	h.verifier.OnKeysGone(h.broker.RecheckAll)
}

func (h *hub) admitMQTT(ctx context.Context, token string, from netip.Addr) (broker.Identity, error) {
	claims, p := h.handler.Admit(ctx, token, from)
	if p != nil {
		return broker.Identity{}, &broker.Refusal{Status: p.Status, Reason: p.Code + ": " + p.Detail}
	}
	until := claims.Expires
	if !time.Now().Before(until) {
		until = until.Add(h.verifier.Lenient()) // taken within the skew that clocks may have, so it lasts as long as that
	}
	return broker.Identity{Device: claims.Device, Until: until, Still: func() error { return h.verifier.Still(claims) }}, nil
}
