package api

import (
	"net/http"
	"net/url"
	"time"
)

// defaultEnrollTTL is how long an enrollment is good unless asked otherwise.
const defaultEnrollTTL = 7 * 24 * time.Hour

type enrollmentBody struct {
	Labels     map[string]string `json:"labels"`
	Prefix     string            `json:"prefix"`
	MaxDevices int               `json:"max_devices"`
	TTL        string            `json:"ttl"`
	Approve    bool              `json:"approve"`
}

type madeEnrollment struct {
	Enrollment Enrollment `json:"enrollment"`
	Secret     string     `json:"secret"`
}

type enrollmentList struct {
	Enrollments []Enrollment `json:"enrollments"`
}

func (a *API) postEnrollment(c *call) (*reply, error) {
	var b enrollmentBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	n := NewEnrollment{
		Labels: b.Labels, Prefix: b.Prefix, MaxDevices: b.MaxDevices, TTL: defaultEnrollTTL, Approve: b.Approve, Actor: c.who.name,
	}
	for key, value := range b.Labels {
		if err := checkLabel(key, &value); err != nil {
			return nil, err
		}
	}
	if b.TTL != "" {
		var err error
		if n.TTL, err = duration("ttl", b.TTL); err != nil {
			return nil, err
		}
	}
	e, secret, err := a.opts.Enrollments.Create(c.Context(), n)
	if err != nil {
		return nil, err
	}
	c.audit.Target = e.ID
	return &reply{
		status: http.StatusCreated, header: http.Header{"Location": {root + "/enrollments/" + url.PathEscape(e.ID)}},
		body: madeEnrollment{e, secret},
	}, nil
}

func (a *API) getEnrollments(c *call) (*reply, error) {
	list, err := a.opts.Enrollments.List(c.Context())
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = []Enrollment{}
	}
	return ok(enrollmentList{list}), nil
}

func (a *API) deleteEnrollment(c *call) (*reply, error) {
	if err := a.opts.Enrollments.Delete(c.Context(), c.PathValue("id")); err != nil {
		return nil, err
	}
	return &reply{status: http.StatusNoContent}, nil
}

func (a *API) getPending(c *call) (*reply, error) {
	p, err := page(c.URL.Query())
	if err != nil {
		return nil, err
	}
	found, err := a.opts.Enrollments.Pending(c.Context(), p)
	if err != nil {
		return nil, err
	}
	out := deviceList{Devices: make([]Device, len(found.Devices)), Cursor: found.Cursor}
	for i, d := range found.Devices {
		out.Devices[i] = tidy(d)
	}
	return ok(out), nil
}

func (a *API) postDeviceApproval(c *call) (*reply, error) {
	id, device := c.PathValue("id"), c.PathValue("device")
	c.audit.Target, c.audit.Detail = device, "enrollment "+id
	d, err := a.opts.Enrollments.Approve(c.Context(), id, device)
	if err != nil {
		return nil, err
	}
	return ok(tidy(d)), nil
}
