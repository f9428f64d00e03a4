package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
)

// FieldTypes knows the settled types of fields, and changes them for all nodes.
type FieldTypes interface {
	// List returns the types of one measurement, or of all (""), by name, beyond the one named by the cursor.
	List(ctx context.Context, measurement string, after string, limit int) (types []FieldType, more bool, err error)
	// Find tells beside the type what InfluxDB holds; ErrTypeNotFound if nobody has sent such a field.
	Find(ctx context.Context, measurement, field string) (FieldType, error)
	// Set refuses what InfluxDB would refuse, unless forced.
	Set(ctx context.Context, t FieldType, force bool) (FieldType, error)
	Forget(ctx context.Context, measurement, field string, force bool) error
}

// FieldType is the type with which a field is stored.
type FieldType struct {
	Measurement string   `json:"measurement"`
	Field       string   `json:"field"`
	Type        string   `json:"type"`
	Stored      []string `json:"stored,omitempty"`       // types that InfluxDB holds of it
	StoredUntil int64    `json:"stored_until,omitempty"` // points of another type before that time are refused by InfluxDB
	Note        string   `json:"note,omitempty"`
}

type typeList struct {
	Types  []FieldType `json:"types"`
	Cursor string      `json:"cursor,omitempty"`
}

type typeBody struct {
	Type  string `json:"type"`
	Force bool   `json:"force"`
}

func (a *API) getTypes(c *call) (*reply, error) {
	q := c.URL.Query()
	p, err := page(q)
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil {
		return nil, ErrInvalidCursor
	}
	types, more, err := a.opts.Types.List(c.Context(), q.Get("measurement"), string(after), p.Limit)
	if err != nil {
		return nil, err
	}
	list := typeList{Types: types}
	if more {
		last := types[len(types)-1]
		list.Cursor = base64.RawURLEncoding.EncodeToString([]byte(last.Measurement + "/" + last.Field))
	}
	if list.Types == nil {
		list.Types = []FieldType{}
	}
	return ok(list), nil
}

func (a *API) getType(c *call) (*reply, error) {
	t, err := a.opts.Types.Find(c.Context(), c.PathValue("measurement"), c.PathValue("field"))
	if err != nil {
		return nil, err
	}
	return ok(t), nil
}

func (a *API) patchType(c *call) (*reply, error) {
	var b typeBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	t := FieldType{Measurement: c.PathValue("measurement"), Field: c.PathValue("field"), Type: b.Type}
	c.audit.Detail = "type " + b.Type
	if b.Force {
		c.audit.Detail += ", forced"
	}
	t, err := a.opts.Types.Set(c.Context(), t, b.Force)
	if err != nil {
		return nil, err
	}
	return ok(t), nil
}

func (a *API) deleteType(c *call) (*reply, error) {
	force, err := forced(c.URL.Query())
	if err != nil {
		return nil, err
	}
	if force {
		c.audit.Detail = "forced"
	}
	if err := a.opts.Types.Forget(c.Context(), c.PathValue("measurement"), c.PathValue("field"), force); err != nil {
		return nil, err
	}
	return &reply{status: http.StatusNoContent}, nil
}

func forced(q url.Values) (bool, error) {
	s := q.Get("force")
	if s == "" {
		return false, nil
	}
	force, err := strconv.ParseBool(s)
	if err != nil {
		return false, &Invalid{Code: "invalid_parameter", Path: "force", Detail: "force " + strconv.Quote(s) + ": want true or false"}
	}
	return force, nil
}
