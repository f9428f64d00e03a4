package devices_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
)

// Whoever shows a token elsewhere is counted together with those who connect here, and refused alike.
func TestAdmitIsAsAConnect(t *testing.T) {
	h := startHub(t, func(o *options) {
		o.cfg.Devices.ConnectsPerMinute, o.cfg.Devices.AddressConnectsPerMinute, o.cfg.Devices.DrainFor = 3, 6, 0
	})
	endpoint, from := h.handler.(*devices.Handler), netip.MustParseAddr("127.0.0.1")
	admit := func(token string, from netip.Addr) string {
		claims, p := endpoint.Admit(t.Context(), token, from)
		if p != nil {
			return p.Code
		}
		return claims.Device
	}
	first, second := h.device("pump-7"), h.device("pump-8")
	for want, token := range map[string]string{
		"pump-8": second, "token_malformed": "no token", "token_not_verified": second[:len(second)-8] + "AAAAAAAA",
	} {
		if got := admit(token, netip.MustParseAddr("192.0.2.1")); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	h.connect(first)
	for i, want := range []string{"pump-7", "pump-7", "connects_too_often"} {
		if got := admit(first, from); got != want {
			t.Errorf("after a connect, %d: %s, want %s", i, got, want)
		}
	}
	for i, want := range []string{"pump-8", "pump-8", "address_connects_too_often"} {
		if got := admit(second, from); got != want {
			t.Errorf("of the same address, %d: %s, want %s", i, got, want)
		}
	}
	if _, err := h.records.Update(t.Context(), "pump-8", 0, func(r *devices.Record) (bool, error) {
		r.Disabled = true
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := admit(second, netip.MustParseAddr("192.0.2.1")); got != "device_disabled" {
		t.Errorf("disabled: %s", got)
	}
	for _, code := range []string{"token_malformed", "token_not_verified", "connects_too_often", "address_connects_too_often", "device_disabled"} {
		if n := h.metric("fairlead_devices_refusals_total", "code", code); n != 1 {
			t.Errorf("%s was counted %v times", code, n)
		}
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if got := admit(first, netip.MustParseAddr("192.0.2.2")); got != "draining" {
		t.Errorf("when the node stops: %s", got)
	}
}

// A hub that wants a device's certificate takes no token without one.
func TestAdmitShowsNoCertificate(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.BindCertificate = configs.BindRequire })
	if _, p := h.handler.(*devices.Handler).Admit(t.Context(), h.device("pump-7"), netip.Addr{}); p == nil || p.Code != "certificate_missing" {
		t.Errorf("%+v", p)
	}
}
