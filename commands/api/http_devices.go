package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// tidy writes "none" as empty, never as null.
func tidy(d Device) Device {
	if d.Labels == nil {
		d.Labels = map[string]string{}
	}
	if d.Keys == nil {
		d.Keys = []Key{}
	}
	if d.Commands == nil {
		d.Commands = []CommandSpec{}
	}
	if d.Status == "" {
		d.Status = Never
	}
	return d
}

type deviceList struct {
	Devices []Device `json:"devices"`
	Cursor  string   `json:"cursor,omitempty"`
}

func (a *API) getDevices(c *call) (*reply, error) {
	q := c.URL.Query()
	p, err := page(q)
	if err != nil {
		return nil, err
	}
	sel, err := selectorOf(q)
	if err != nil {
		return nil, err
	}
	status := Status(q.Get("status"))
	if status != "" && status != Online && status != Offline && status != Never {
		return nil, &Invalid{Code: "invalid_parameter", Path: "status", Detail: fmt.Sprintf("status %q is not one of online, offline, never", status)}
	}
	silent, err := optionalBool(q, "silent")
	if err != nil {
		return nil, err
	}
	text := q.Get("q")
	if len(text) > maxText {
		return nil, &Invalid{Code: "invalid_parameter", Path: "q", Detail: fmt.Sprintf("q has more than %d bytes", maxText)}
	}
	found, err := a.opts.Devices.List(c.Context(), DeviceQuery{
		Selector: joinSelectors(append([]selector.Selector{sel}, c.who.bind...)),
		Match:    func(labels map[string]string) bool { return sel.Match(labels) && c.who.sees(labels) },
		Status:   status, Text: text, Silent: silent, Page: p,
	})
	if err != nil {
		return nil, err
	}
	out := deviceList{Devices: make([]Device, len(found.Devices)), Cursor: found.Cursor}
	for i, d := range found.Devices {
		out.Devices[i] = tidy(d)
	}
	return ok(out), nil
}

func (a *API) getDevice(c *call) (*reply, error) {
	d, err := a.opts.Devices.Find(c.Context(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	d = tidy(d)
	if a.opts.Leases != nil {
		if l, err := a.opts.Leases.Lease(c.Context(), d.ID); err == nil {
			d.Lease = &l
		}
	}
	return ok(d), nil
}

type madeDevice struct {
	Device Device `json:"device"`
	Token  string `json:"token,omitempty"`
}

func (a *API) postDevice(c *call) (*reply, error) {
	var d NewDevice
	if err := c.body(&d); err != nil {
		return nil, err
	}
	c.audit.Target = d.ID
	if err := checkNewDevice(d); err != nil {
		return nil, err
	}
	if !c.who.sees(d.Labels) {
		return nil, a.outside(c, "a device with these labels")
	}
	made, token, err := a.opts.Devices.Create(c.Context(), d)
	if err != nil {
		return nil, err
	}
	return &reply{
		status: http.StatusCreated, header: http.Header{"Location": {root + "/devices/" + url.PathEscape(d.ID)}},
		body: madeDevice{Device: tidy(made), Token: token},
	}, nil
}

// outside refuses a bound operator what would put a device out of its own sight.
func (a *API) outside(c *call, what string) error {
	return &Invalid{
		Status: http.StatusForbidden, Code: "out_of_scope", Path: "labels",
		Detail: what + " is outside of the part of the fleet that " + c.who.name + " is bound to",
		Hint:   "bound to: " + c.who.boundTo(),
	}
}

func checkNewDevice(d NewDevice) error {
	if err := wire.CheckID(d.ID); err != nil {
		return &Invalid{Code: "invalid_id", Path: "id", Detail: err.Error()}
	}
	if len(d.Labels) > maxLabels {
		return &Invalid{Code: "invalid_label", Path: "labels", Detail: fmt.Sprintf("%d labels, at most %d", len(d.Labels), maxLabels)}
	}
	for key, value := range d.Labels {
		if err := checkLabel(key, &value); err != nil {
			return err
		}
	}
	for i, k := range d.Keys {
		if err := checkKey(fmt.Sprintf("keys[%d].", i), k); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(path string, k NewKey) error {
	if !validKeyName(k.KID) {
		return &Invalid{Code: "invalid_key", Path: path + "kid", Detail: fmt.Sprintf("kid %q: want 1 to 128 of A-Z a-z 0-9 _ . : -", k.KID)}
	}
	if (k.PublicKey == "") == (len(k.JWK) == 0) {
		return &Invalid{Code: "invalid_key", Path: path + "public_key", Detail: "want either public_key (PEM) or jwk"}
	}
	return nil
}

// validKeyName is what a device may call a key of its own.
func validKeyName(kid string) bool {
	return kid != "" && len(kid) <= 128 && !strings.ContainsFunc(kid, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.:-", r)
	})
}

func (a *API) patchDevice(c *call) (*reply, error) {
	var p DevicePatch
	if err := c.body(&p); err != nil {
		return nil, err
	}
	for key, value := range p.Labels {
		if err := checkLabel(key, value); err != nil {
			return nil, err
		}
	}
	var err error
	if p.ExpectEvery, err = expectation(p.ExpectEvery); err != nil {
		return nil, err
	}
	id := c.PathValue("id")
	if c.who.bounded() && !c.who.sees(a.patched(id, p)) {
		return nil, a.outside(c, "the device with these labels")
	}
	d, err := a.opts.Devices.Patch(c.Context(), id, p)
	if err != nil {
		return nil, err
	}
	return ok(tidy(d)), nil
}

// expectation writes what was asked for as Go reads it.
func expectation(every *string) (*string, error) {
	if every == nil || *every == "" || *every == NeverExpected {
		return every, nil
	}
	d, err := duration("expect_every", *every)
	if err != nil {
		return nil, err
	}
	if d < time.Second {
		return nil, &Invalid{Code: "invalid_duration", Path: "expect_every", Detail: "expect_every " + *every + ": want at least 1s, never, or nothing"}
	}
	text := d.String()
	return &text, nil
}

func (a *API) patched(id string, p DevicePatch) map[string]string {
	labels, _ := a.opts.Devices.Labels(id)
	out := make(map[string]string, len(labels)+len(p.Labels))
	for k, v := range labels {
		out[k] = v
	}
	for k, v := range p.Labels {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = *v
		}
	}
	return out
}

func (a *API) deleteDevice(c *call) (*reply, error) {
	if err := a.opts.Devices.Delete(c.Context(), c.PathValue("id")); err != nil {
		return nil, err
	}
	return &reply{status: http.StatusNoContent}, nil
}

// ttlBody is the body of calls that mint something.
type ttlBody struct {
	TTL string `json:"ttl"`
}

type mintedToken struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires"`
}

func (a *API) postDeviceToken(c *call) (*reply, error) {
	var b ttlBody
	if err := c.optionalBody(&b); err != nil {
		return nil, err
	}
	var ttl time.Duration
	if b.TTL != "" {
		var err error
		if ttl, err = duration("ttl", b.TTL); err != nil {
			return nil, err
		}
		if ttl < time.Second {
			return nil, &Invalid{Code: "invalid_ttl", Path: "ttl", Detail: "ttl " + b.TTL + ": want at least 1s"}
		}
	}
	token, expires, err := a.opts.Devices.MintToken(c.Context(), c.PathValue("id"), ttl)
	if err != nil {
		return nil, err
	}
	return &reply{status: http.StatusCreated, body: mintedToken{Token: token, Expires: expires.UnixMilli()}}, nil
}

func (a *API) deleteDeviceTokens(c *call) (*reply, error) {
	if err := a.opts.Devices.RevokeTokens(c.Context(), c.PathValue("id")); err != nil {
		return nil, err
	}
	return &reply{status: http.StatusNoContent}, nil
}

func (a *API) postDeviceKey(c *call) (*reply, error) {
	var k NewKey
	if err := c.body(&k); err != nil {
		return nil, err
	}
	if err := checkKey("", k); err != nil {
		return nil, err
	}
	c.audit.Detail = "kid " + k.KID
	made, err := a.opts.Devices.AddKey(c.Context(), c.PathValue("id"), k)
	if err != nil {
		return nil, err
	}
	return &reply{status: http.StatusCreated, body: made}, nil
}

func (a *API) deleteDeviceKey(c *call) (*reply, error) {
	c.audit.Detail = "kid " + c.PathValue("kid")
	if err := a.opts.Devices.RemoveKey(c.Context(), c.PathValue("id"), c.PathValue("kid")); err != nil {
		return nil, err
	}
	return &reply{status: http.StatusNoContent}, nil
}
