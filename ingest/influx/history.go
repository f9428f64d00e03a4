package influx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/ingest"
)

// HistoryRequest asks for the past of one device. Zero From and To mean the last hour; empty Measurement and Fields mean
// all; Every 0 lets the store choose, so that no series is longer than MaxValues.
type HistoryRequest struct {
	Device      string
	Measurement string
	Fields      []string
	From, To    time.Time
	Every       time.Duration
	Fn          string // mean, min, max, sum, count, first, last, median; "" chooses mean, or raw points if they fit
}

// Series is the past of one field. Values are numbers, booleans or strings as JSON.
type Series struct {
	Measurement string            `json:"measurement"`
	Field       string            `json:"field"`
	Tags        map[string]string `json:"tags"`
	Times       []int64           `json:"times"` // Unix milliseconds
	Values      []json.RawMessage `json:"values"`
}

// History is the answer; Every is 0 for raw points.
type History struct {
	Series []Series
	Every  time.Duration
	Fn     string
}

// MaxValues is the longest series of an answer.
const MaxValues = 10_000

// maxSeries is the most series of an answer; more is a sign that the question was too wide.
const maxSeries = 500

// ErrBadRequest says that a history request makes no sense; the text says which part.
var ErrBadRequest = errors.New("history request")

// ErrNoHistory says that the store takes points and cannot be asked for them in InfluxQL.
var ErrNoHistory = errors.New("this store has no InfluxQL, so the hub cannot read history from it")

var functions = map[string]bool{
	"mean": true, "min": true, "max": true, "sum": true, "count": true, "first": true, "last": true, "median": true,
	"spread": true, "stddev": true,
}

// numeric functions do not take booleans and strings.
var numeric = map[string]bool{"mean": true, "sum": true, "median": true, "min": true, "max": true, "spread": true, "stddev": true}

// History reads the past of a device by InfluxQL.
func (s *Store) History(ctx context.Context, r HistoryRequest) (History, error) {
	if r.To.IsZero() {
		r.To = time.Now()
	}
	if r.From.IsZero() {
		r.From = r.To.Add(-time.Hour)
	}
	if !r.From.Before(r.To) {
		return History{}, fmt.Errorf("%w: from must be before to", ErrBadRequest)
	}
	if r.Fn != "" && !functions[r.Fn] {
		return History{}, fmt.Errorf("%w: fn %q is not known; use mean, min, max, sum, count, first, last, median, spread or stddev", ErrBadRequest, r.Fn)
	}
	if !s.speaksInfluxQL() {
		return History{}, ErrNoHistory
	}
	fields, err := s.fields(ctx, r)
	if err != nil || len(fields) == 0 {
		return History{}, err
	}
	if r.Every == 0 && r.Fn == "" {
		h, err := s.raw(ctx, r, fields)
		if err == nil || !errors.Is(err, errTooLong) {
			return h, err
		}
	}
	return s.grouped(ctx, r, fields)
}

// field is a field that InfluxDB knows, and its type.
type field struct{ measurement, name, kind string }

// fields finds which fields the request means. Types decide which functions apply.
func (s *Store) fields(ctx context.Context, r HistoryRequest) ([]field, error) {
	q := "SHOW FIELD KEYS"
	if r.Measurement != "" {
		q += " FROM " + quoteIdent(r.Measurement)
	}
	rows, err := s.query(ctx, http.MethodGet, s.bucket, q)
	if err != nil {
		return nil, err
	}
	present, err := s.measurements(ctx, r)
	if err != nil {
		return nil, err
	}
	want := make(map[string]bool, len(r.Fields))
	for _, f := range r.Fields {
		want[f] = true
	}
	var out []field
	for _, row := range rows {
		if !present[row.Name] {
			continue
		}
		for _, v := range row.Values {
			var name, kind string
			if len(v) < 2 || json.Unmarshal(v[0], &name) != nil || json.Unmarshal(v[1], &kind) != nil {
				continue
			}
			if len(want) == 0 || want[name] {
				out = append(out, field{row.Name, name, kind})
			}
		}
	}
	if len(out) > maxSeries {
		return nil, fmt.Errorf("%w: %d fields; name measurement or fields", ErrBadRequest, len(out))
	}
	return out, nil
}

// FieldTypes lists the fields that the store holds, with their types.
func (s *Store) FieldTypes(ctx context.Context) ([]ingest.FieldType, error) {
	if !s.speaksInfluxQL() {
		return nil, nil
	}
	rows, err := s.query(ctx, http.MethodGet, s.bucket, "SHOW FIELD KEYS")
	if err != nil {
		return nil, err
	}
	var out []ingest.FieldType
	for _, row := range rows {
		for _, v := range row.Values {
			f := ingest.FieldType{Measurement: row.Name}
			if len(v) > 1 && json.Unmarshal(v[0], &f.Field) == nil && json.Unmarshal(v[1], &f.Type) == nil {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

// measurements finds which ones the device has.
func (s *Store) measurements(ctx context.Context, r HistoryRequest) (map[string]bool, error) {
	q := `SHOW MEASUREMENTS WHERE "device"::tag = ` + quoteString(r.Device)
	if s.isCore() {
		// InfluxDB 3 looks at the last day only, unless it is told when, and at the files of every measurement that is not
		// excluded. InfluxDB 1.8 refuses a time here.
		q = "SHOW MEASUREMENTS"
		if r.Measurement != "" {
			q += " WITH MEASUREMENT = " + quoteIdent(r.Measurement)
		}
		q += r.where()
	}
	rows, err := s.query(ctx, http.MethodGet, s.bucket, q)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool)
	for _, row := range rows {
		for _, v := range row.Values {
			var name string
			if len(v) > 0 && json.Unmarshal(v[0], &name) == nil {
				out[name] = true
			}
		}
	}
	return out, nil
}

var errTooLong = errors.New("more points than fit")

func (r HistoryRequest) where() string {
	return fmt.Sprintf(` WHERE "device"::tag = %s AND time >= %d AND time < %d`, quoteString(r.Device), r.From.UnixNano(), r.To.UnixNano())
}

// raw returns the points as they are, or errTooLong.
func (s *Store) raw(ctx context.Context, r HistoryRequest, fields []field) (History, error) {
	h := History{}
	for _, m := range byMeasurement(fields) {
		names := make([]string, len(m))
		for i, f := range m {
			names[i] = quoteIdent(f.name)
		}
		q := "SELECT " + strings.Join(names, ",") + " FROM " + quoteIdent(m[0].measurement) + r.where() +
			fmt.Sprintf(" GROUP BY * LIMIT %d", MaxValues+1)
		rows, err := s.query(ctx, http.MethodGet, s.bucket, q)
		if err != nil {
			return h, err
		}
		for _, row := range rows {
			if len(row.Values) > MaxValues {
				return h, errTooLong
			}
			h.Series = append(h.Series, row.series(m)...)
		}
	}
	return h, nil
}

// grouped returns one value per Every.
func (s *Store) grouped(ctx context.Context, r HistoryRequest, fields []field) (History, error) {
	span := r.To.Sub(r.From)
	least := (span/MaxValues + time.Second).Truncate(time.Second)
	if r.Every == 0 {
		r.Every = max((span / 500).Truncate(time.Second), least)
	}
	r.Every = max(r.Every, least)
	fn := r.Fn
	if fn == "" {
		fn = "mean"
	}
	h := History{Every: r.Every, Fn: fn}
	for _, m := range byMeasurement(fields) {
		names := make([]string, 0, len(m))
		for _, f := range m {
			use := fn
			if numeric[fn] && f.kind != "float" && f.kind != "integer" && f.kind != "unsigned" {
				use = "last"
			}
			names = append(names, use+"("+quoteIdent(f.name)+") AS "+quoteIdent(f.name))
		}
		q := "SELECT " + strings.Join(names, ",") + " FROM " + quoteIdent(m[0].measurement) + r.where() +
			fmt.Sprintf(" GROUP BY time(%dms),* fill(none)", r.Every.Milliseconds())
		rows, err := s.query(ctx, http.MethodGet, s.bucket, q)
		if err != nil {
			return h, err
		}
		for _, row := range rows {
			h.Series = append(h.Series, row.series(m)...)
		}
	}
	return h, nil
}

// series turns the columns of a row into series, without the nulls.
func (row row) series(fields []field) []Series {
	var out []Series
	for col := 1; col < len(row.Columns) && col-1 < len(fields); col++ {
		s := Series{Measurement: row.Name, Field: fields[col-1].name, Tags: map[string]string{}}
		for k, v := range row.Tags {
			if k != "device" && v != "" {
				s.Tags[k] = v
			}
		}
		for _, v := range row.Values {
			var at int64
			if len(v) <= col || string(v[col]) == "null" || json.Unmarshal(v[0], &at) != nil {
				continue
			}
			s.Times = append(s.Times, at)
			s.Values = append(s.Values, v[col])
		}
		if len(s.Times) > 0 {
			out = append(out, s)
		}
	}
	return out
}

func byMeasurement(fields []field) [][]field {
	sort.SliceStable(fields, func(i, j int) bool { return fields[i].measurement < fields[j].measurement })
	var out [][]field
	for i, f := range fields {
		if i == 0 || fields[i-1].measurement != f.measurement {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], f)
	}
	return out
}
