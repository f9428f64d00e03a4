package devices_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/internal/bus"
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

// A stolen device is deleted and its id given to the replacement: no token of the stolen one is good for that, at a connect,
// in-band or from the memory of verified tokens. The replacement's own is good at once.
func TestTokensGoWithTheRecord(t *testing.T) {
	h := startHub(t)
	stolen := h.device("pump-7")
	h.connect(stolen) // verified, and remembered
	unseen := h.token("pump-7")
	later(t)
	if _, err := h.records.Revoke(t.Context(), "pump-7", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := h.records.Delete(t.Context(), "pump-7", 0); err != nil {
		t.Fatal(err)
	}
	c := h.connect(h.device("pump-7"))
	for name, token := range map[string]string{"remembered": stolen, "unseen": unseen} {
		_, resp, err := dial(h.url, token)
		if err == nil || resp == nil {
			t.Fatalf("%s: a token of the deleted device was taken (%v)", name, err)
		}
		var told struct{ Code string }
		if err := json.NewDecoder(resp.Body).Decode(&told); err != nil || resp.StatusCode != 403 || told.Code != "token_revoked" {
			t.Errorf("%s: status %d, code %q, %v", name, resp.StatusCode, told.Code, err)
		}
	}
	c.send(`{"type":"telemetry","seq":1,"fields":{"n":1}}`)
	c.wantAck(1)
	c.send(`{"type":"token","token":"` + unseen + `"}`)
	c.wantClose(devices.CloseRevoked)
}

// later returns once the clock shows another millisecond: what was made before is then older by any record.
func later(t *testing.T) {
	t.Helper()
	now := time.Now().UnixMilli()
	eventually(t, "the clock goes on", func() bool { return time.Now().UnixMilli() > now })
}

// A record that is made anew while this node hears of the end alone, as of a deletion overtaken by it, ends the session too.
func TestSessionEndsWithItsRecord(t *testing.T) {
	h := startHub(t)
	token := h.device("pump-7")
	c := h.connect(token)
	later(t)
	old, _ := h.records.Record("pump-7")
	anew := old.Clone()
	anew.Created = time.Now().UTC()
	value, err := json.Marshal(anew)
	if err != nil {
		t.Fatal(err)
	}
	key, err := bus.DeviceKey("pump-7")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket(t, h.bus, bus.BucketDevices).Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
	c.wantClose(devices.CloseRevoked)
}
