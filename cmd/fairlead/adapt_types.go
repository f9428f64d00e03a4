package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/ingest/influx"
)

// fieldTypes are the settled types as the API sees them, beside what the store holds.
type fieldTypes struct {
	committer *ingest.Committer
	store     *influx.Store
}

func (t fieldTypes) List(_ context.Context, measurement, after string, limit int) (out []api.FieldType, more bool, err error) {
	all := t.committer.FieldTypes()
	from := sort.Search(len(all), func(i int) bool { return all[i].Measurement+"/"+all[i].Field > after })
	for _, f := range all[from:] {
		if measurement != "" && f.Measurement != measurement {
			continue
		}
		if len(out) == limit {
			return out, true, nil
		}
		out = append(out, api.FieldType{Measurement: f.Measurement, Field: f.Field, Type: f.Type})
	}
	return out, false, nil
}

func (t fieldTypes) Find(ctx context.Context, measurement, field string) (api.FieldType, error) {
	f, err := t.committer.FieldType(measurement, field)
	if err != nil {
		return api.FieldType{}, typeError(err)
	}
	held, err := t.store.Held(ctx, measurement, field)
	if err != nil {
		return api.FieldType{Measurement: measurement, Field: field, Type: f.Type, Note: "what InfluxDB holds is not known: " + err.Error()}, nil
	}
	return described(f, held), nil
}

func (t fieldTypes) Set(ctx context.Context, want api.FieldType, force bool) (api.FieldType, error) {
	f := ingest.FieldType{Measurement: want.Measurement, Field: want.Field, Type: want.Type}
	if err := f.Check(); err != nil {
		return api.FieldType{}, typeError(err)
	}
	held, err := t.store.Held(ctx, f.Measurement, f.Field)
	if err != nil && !force {
		return api.FieldType{}, errors.Join(api.ErrUnavailable, err)
	}
	if !force && clashes(f.Type, held) {
		return api.FieldType{}, stored(f, held, f.Type+" points")
	}
	if err := t.committer.SetFieldType(ctx, f); err != nil {
		return api.FieldType{}, typeError(err)
	}
	return described(f, held), nil
}

func (t fieldTypes) Forget(ctx context.Context, measurement, field string, force bool) error {
	f, err := t.committer.FieldType(measurement, field)
	if err != nil {
		return typeError(err)
	}
	held, err := t.store.Held(ctx, measurement, field)
	if err != nil && !force {
		return errors.Join(api.ErrUnavailable, err)
	}
	if !force && len(held.Types) > 0 {
		return stored(f, held, "points of another type")
	}
	return typeError(t.committer.ForgetFieldType(ctx, measurement, field))
}

// clashes reports whether InfluxDB would refuse points of that type now.
func clashes(kind string, h influx.Held) bool {
	return len(h.Types) > 0 && !slices.Equal(h.Types, []string{kind})
}

// described is a type and what becomes of points of it.
func described(f ingest.FieldType, h influx.Held) api.FieldType {
	out := api.FieldType{Measurement: f.Measurement, Field: f.Field, Type: f.Type, Stored: h.Types}
	if !h.Until.IsZero() {
		out.StoredUntil = h.Until.UnixMilli()
	}
	if clashes(f.Type, h) {
		out.Note = fate(f, h, f.Type+" points")
	}
	return out
}

// fate says what InfluxDB does with points whose type is not the one that it holds.
func fate(f ingest.FieldType, h influx.Held, which string) string {
	name := f.Measurement + "." + f.Field
	has := "InfluxDB holds " + name + " as " + strings.Join(h.Types, " and ")
	switch {
	case h.ForGood:
		return has + ", and InfluxDB 3 never changes a column's type: " + which + " are refused for good and become dead letters"
	case h.Until.IsZero():
		return has + ", and keeps a type for each shard (a week, by default): in shards that hold another type, " + which + " are refused and become dead letters"
	}
	return fmt.Sprintf("%s, and keeps a type for each shard: where a shard holds another type, which may be so for times before %s, %s are refused and become dead letters",
		has, h.Until.UTC().Format(time.RFC3339), which)
}

func stored(f ingest.FieldType, h influx.Held, which string) error {
	return &api.Invalid{
		Status: http.StatusConflict, Code: "type_stored", Detail: fate(f, h, which),
		Hint: "let the devices use another field or measurement; or drop what is stored (DROP MEASUREMENT, in InfluxDB); " +
			"or set \"force\" (fairlead types --force) to have it so from the next shard on",
	}
}

func typeError(err error) error {
	switch {
	case errors.Is(err, ingest.ErrNoType):
		return api.ErrTypeNotFound
	case errors.Is(err, ingest.ErrBadType):
		return &api.Invalid{Code: "invalid_type", Path: "type", Detail: err.Error()}
	case err != nil:
		return errors.Join(api.ErrUnavailable, err)
	}
	return nil
}
