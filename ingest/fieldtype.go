package ingest

import (
	"context"
	"errors"
	"fmt"
	"sort"
)

// FieldType is the type of a field as InfluxDB names it: float, integer, boolean or string.
type FieldType struct{ Measurement, Field, Type string }

// The refusals of a change of types.
var (
	// ErrNoType says that nobody has sent such a field yet.
	ErrNoType = errors.New("no such field has a type")
	// ErrBadType says that something is no name of a field or of a type.
	ErrBadType = errors.New("not the name of a field and a type")
)

// Seed settles the types of fields that the store already holds and the registry does not know. Fields of other programs
// whose names no device may use are left out.
func (c *Committer) Seed(ctx context.Context, stored []FieldType) error {
	var failed error
	for _, f := range stored {
		k, err := f.kind()
		if err != nil || c.types.of([]byte(f.Measurement), []byte(f.Field)) != 0 {
			continue
		}
		if err := c.types.claim(ctx, f.Measurement, f.Field, k); err != nil {
			failed = errors.Join(failed, err) // the others are settled all the same
		}
	}
	return failed
}

// Check returns ErrBadType for names that no field or type can have.
func (f FieldType) Check() error {
	_, err := f.kind()
	return err
}

// kind checks the names.
func (f FieldType) kind() (kind, error) {
	for _, name := range []string{f.Measurement, f.Field} {
		if why := nameFault([]byte(name)); why != "" {
			return 0, fmt.Errorf("%w: %q: %s", ErrBadType, name, why)
		}
	}
	for k, name := range kindNames {
		if name == f.Type {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%w: %q: want float, integer, boolean or string", ErrBadType, f.Type)
}

// FieldTypes lists the settled types of all fields, by name.
func (c *Committer) FieldTypes() []FieldType {
	var out []FieldType
	c.types.mu.RLock()
	for m, fields := range c.types.kinds {
		for f, s := range fields {
			if s.kind != 0 {
				out = append(out, FieldType{m, f, kindNames[s.kind]})
			}
		}
	}
	c.types.mu.RUnlock()
	sort.Slice(out, func(i, j int) bool {
		return typeKey(out[i].Measurement, out[i].Field) < typeKey(out[j].Measurement, out[j].Field)
	})
	return out
}

// FieldType returns the settled type of a field, or ErrNoType.
func (c *Committer) FieldType(measurement, field string) (FieldType, error) {
	k := c.types.of([]byte(measurement), []byte(field))
	if k == 0 {
		return FieldType{}, fmt.Errorf("%s.%s: %w", measurement, field, ErrNoType)
	}
	return FieldType{measurement, field, kindNames[k]}, nil
}

// SetFieldType changes the type of a field for all nodes, or settles it before anybody has sent it. What is in the log
// already keeps the type with which it was acknowledged; what InfluxDB makes of either is between it and the operator.
func (c *Committer) SetFieldType(ctx context.Context, f FieldType) error {
	k, err := f.kind()
	if err != nil {
		return err
	}
	return c.types.set(ctx, f.Measurement, f.Field, k)
}

// ForgetFieldType leaves the type of a field to the device that sends it next. While the store holds the field, the next
// start of a hub settles the type that it has there.
func (c *Committer) ForgetFieldType(ctx context.Context, measurement, field string) error {
	if _, err := c.FieldType(measurement, field); err != nil {
		return err
	}
	return c.types.forget(ctx, measurement, field)
}

// retype lets all devices look again at the type of a field.
func (c *Committer) retype(measurement, field string) {
	c.devMu.RLock()
	all := make([]*device, 0, len(c.devices))
	for _, d := range c.devices {
		all = append(all, d)
	}
	c.devMu.RUnlock()
	for _, d := range all {
		d.unsettle(measurement, field)
	}
}
