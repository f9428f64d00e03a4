package devices_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/auth"
)

// A live session ends when the key that its token was signed with is withdrawn; with another token the device is back.
func TestSessionEndsWithItsKey(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	if _, err := h.keys.Add(time.Now()); err != nil {
		t.Fatal(err)
	}
	fresh := h.connect(h.device("pump-8"))
	if err := h.keys.Remove(h.keys.List()[1].KID); err != nil {
		t.Fatal(err)
	}
	c.wantClose(devices.CloseToken)
	c = h.connect(h.token("pump-7"))
	for _, live := range []*client{c, fresh} {
		live.send(`{"type":"telemetry","seq":1,"fields":{"n":1}}`)
		live.wantAck(1)
	}
}

// changing does once what a test wants between a look at the record and what follows from it.
type changing struct {
	auth.Accounts
	then atomic.Pointer[func()]
}

func (c *changing) Account(device string) (auth.Account, bool) {
	a, ok := c.Accounts.Account(device)
	if fn := c.then.Swap(nil); fn != nil {
		(*fn)()
	}
	return a, ok
}

// A key that goes while a token that it signed is taken in-band ends the session all the same.
func TestKeyGoesDuringRenewal(t *testing.T) {
	var accounts changing
	h := startHub(t, func(o *options) {
		o.accounts = func(a auth.Accounts) auth.Accounts { accounts.Accounts = a; return &accounts }
	})
	device := h.signer(t, "pump-7")
	c := h.connect(h.token("pump-7"))
	remove := func() {
		_, err := h.records.Update(context.Background(), "pump-7", 0, func(r *devices.Record) (bool, error) { r.Keys = nil; return true, nil })
		if err != nil {
			t.Error(err)
		}
	}
	accounts.then.Store(&remove)
	c.send(`{"type":"token","token":"` + device.sign(time.Now(), time.Hour) + `"}`)
	c.wantClose(devices.CloseRevoked)
}

// A device that waits for approval is refused, and once it is approved it is not; disabling it again ends its session.
func TestPendingDevicesAreNotLetIn(t *testing.T) {
	h := startHub(t)
	if _, err := h.records.Create(t.Context(), &devices.Record{ID: "new", Pending: true}); err != nil {
		t.Fatal(err)
	}
	_, resp, err := dial(h.url, h.token("new"))
	if err == nil || resp == nil || resp.StatusCode != 403 {
		t.Fatalf("%v, %+v", err, resp)
	}
	if n := h.metric("fairlead_devices_refusals_total", "code", "device_pending"); n != 1 {
		t.Fatalf("counted %v", n)
	}
	set := func(pending bool) {
		t.Helper()
		_, err := h.records.Update(t.Context(), "new", 0, func(r *devices.Record) (bool, error) { r.Pending = pending; return true, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	set(false)
	c := h.connect(h.token("new"))
	set(true)
	c.wantClose(devices.CloseRevoked)
}
