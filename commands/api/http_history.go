package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// maxValues bounds one series of an answer.
	maxValues = 10_000
	// maxFields bounds the series of an answer.
	maxFields = 64
)

// functions are what values can be drawn together by.
var functions = []string{"mean", "min", "max", "first", "last", "sum", "count", "median", "spread", "stddev"}

type seriesList struct {
	Series  []Series `json:"series"`
	EveryMS int64    `json:"every_ms"`
	Fn      string   `json:"fn"`
}

func (a *API) getTelemetry(c *call) (*reply, error) {
	q, err := historyQuery(c.URL.Query(), a.opts.Now())
	if err != nil {
		return nil, err
	}
	q.Device = c.PathValue("id")
	if _, known := a.opts.Devices.Labels(q.Device); !known {
		return nil, ErrDeviceNotFound
	}
	answer, err := a.opts.History.Telemetry(c.Context(), q)
	if err != nil {
		return nil, err
	}
	series := answer.Series
	if series == nil {
		series = []Series{}
	}
	for i := range series {
		s := &series[i]
		if s.Tags == nil {
			s.Tags = map[string]string{}
		}
		if s.Times == nil {
			s.Times, s.Values = []int64{}, []any{}
		}
	}
	return ok(seriesList{Series: series, EveryMS: answer.Every.Milliseconds(), Fn: answer.Fn}), nil
}

// historyQuery reads the parameters. Without from it is the last hour; with every and no fn it is the mean.
func historyQuery(v url.Values, now time.Time) (HistoryQuery, error) {
	q := HistoryQuery{Measurement: v.Get("measurement"), Fn: v.Get("fn"), From: now.Add(-time.Hour), To: now, Limit: maxValues}
	if err := checkStoredName("measurement", q.Measurement); err != nil {
		return q, err
	}
	if s := v.Get("fields"); s != "" {
		q.Fields = strings.Split(s, ",")
	}
	if len(q.Fields) > maxFields {
		return q, &Invalid{Code: "invalid_parameter", Path: "fields", Detail: fmt.Sprintf("%d fields, at most %d", len(q.Fields), maxFields)}
	}
	for _, f := range q.Fields {
		if f == "" {
			return q, &Invalid{Code: "invalid_parameter", Path: "fields", Detail: "fields: a name is empty"}
		}
		if err := checkStoredName("fields", f); err != nil {
			return q, err
		}
	}
	if err := q.span(v, now); err != nil {
		return q, err
	}
	return q, q.steps(v)
}

func (q *HistoryQuery) span(v url.Values, now time.Time) (err error) {
	if s := v.Get("from"); s != "" {
		if q.From, err = instant("from", s, now); err != nil {
			return err
		}
	}
	if s := v.Get("to"); s != "" {
		if q.To, err = instant("to", s, now); err != nil {
			return err
		}
	}
	if !q.From.Before(q.To) {
		return &Invalid{Code: "invalid_parameter", Path: "from", Detail: "from must be before to"}
	}
	return nil
}

func (q *HistoryQuery) steps(v url.Values) (err error) {
	s := v.Get("every")
	if s == "" {
		if q.Fn != "" {
			return &Invalid{Code: "invalid_parameter", Path: "every", Detail: "fn needs every: how much time one value stands for"}
		}
		return nil
	}
	if q.Every, err = duration("every", s); err != nil {
		return err
	}
	if q.Every < time.Millisecond {
		return &Invalid{Code: "invalid_parameter", Path: "every", Detail: "every " + s + ": want at least 1ms"}
	}
	if n := q.To.Sub(q.From) / q.Every; n > maxValues {
		return &Invalid{
			Code: "too_many_values", Path: "every",
			Detail: fmt.Sprintf("%d values a series, at most %d", n, maxValues), Hint: "ask for a larger every or a shorter time",
		}
	}
	if q.Fn == "" {
		q.Fn = "mean"
	}
	if !slices.Contains(functions, q.Fn) {
		return &Invalid{Code: "invalid_parameter", Path: "fn", Detail: fmt.Sprintf("fn %q is not one of %s", q.Fn, strings.Join(functions, ", "))}
	}
	return nil
}

// checkStoredName refuses names that no stored measurement or field has and that a query language could read otherwise.
func checkStoredName(path, name string) error {
	if len(name) > maxText || !printable(name) || strings.ContainsAny(name, "\"'`\\;") {
		return &Invalid{Code: "invalid_parameter", Path: path, Detail: fmt.Sprintf("%q is not the name of a measurement or field", name)}
	}
	return nil
}
