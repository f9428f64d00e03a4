package influx_test

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest/influx"
)

// coreAnswers answers queries in the form of core/iox_v1_query_api/src/response.rs and value.rs: tags in a map, a tag that a
// series has not is empty, whole floats are written as integers.
func coreAnswers(q string) (int, string) {
	switch {
	case strings.HasPrefix(q, "SHOW FIELD KEYS"):
		return 200, `{"results":[{"statement_id":0,"series":[{"name":"env","columns":["fieldKey","fieldType"],"values":[["n","unsigned"],["on","boolean"],["temp","float"]]},` +
			`{"name":"other","columns":["fieldKey","fieldType"],"values":[["x","integer"]]}]}]}`
	case strings.HasPrefix(q, "SHOW MEASUREMENTS"):
		return 200, `{"results":[{"statement_id":0,"series":[{"name":"measurements","columns":["name"],"values":[["env"]]}]}]}`
	case strings.Contains(q, "mean("):
		return 200, `{"results":[{"statement_id":0,"series":[{"name":"env","tags":{"device":"pump-7","site":""},"columns":["time","n","on","temp"],"values":[[1700000000000,2.5,null,20.25]]}]}]}`
	}
	return 200, `{"results":[{"statement_id":0,"series":[{"name":"env","tags":{"device":"pump-7","site":"north"},"columns":["time","n","on","temp"],"values":[[1700000000000,2,null,20],[1700000001000,3,true,20.5]]}]}]}`
}

// History is read with the bounds that InfluxDB 3 needs, from the database that the writes go to.
func TestCoreHistory(t *testing.T) {
	c := &core3{query: coreAnswers}
	s := openCore(t, c, func(i *configs.Influx) { i.Bucket = "fleet/week" })
	r := influx.HistoryRequest{Device: "pump-7", Measurement: "env", From: time.UnixMilli(1700000000000), To: time.UnixMilli(1700000060000)}
	h, err := s.History(t.Context(), r)
	if err != nil || len(h.Series) != 3 || string(h.Series[2].Values[0]) != "20" || len(h.Series[1].Values) != 1 || h.Series[0].Times[1] != 1700000001000 {
		t.Fatalf("%+v, %v", h, err)
	}
	if tags := map[string]string{"site": "north"}; !reflect.DeepEqual(h.Series[0].Tags, tags) {
		t.Errorf("tags %v, want %v", h.Series[0].Tags, tags)
	}
	const within = `WHERE "device"::tag = 'pump-7' AND time >= 1700000000000000000 AND time < 1700000060000000000`
	for i, want := range []string{
		`SHOW FIELD KEYS FROM "env"`,                           // of the schema, without a time
		`SHOW MEASUREMENTS WITH MEASUREMENT = "env" ` + within, // else of the last day only (influxql_metadata_cutoff)
		`SELECT "n","on","temp" FROM "env" ` + within + ` GROUP BY * LIMIT 10001`,
	} {
		q := c.asked[i].URL.Query()
		if q.Get("q") != want || q.Get("db") != "fleet/week" || q.Has("rp") || q.Get("epoch") != "ms" { // rp changes no database there
			t.Errorf("asked %v, want %s", q, want)
		}
	}
	r.Every, r.Fn = time.Minute, "mean"
	if _, err := s.History(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if q := c.asked[len(c.asked)-1].URL.Query().Get("q"); !strings.Contains(q, `mean("n") AS "n",last("on") AS "on",mean("temp")`) {
		t.Errorf("asked %s", q)
	}
	// Elsewhere, InfluxDB 1.8 knows policies, and refuses a time in SHOW MEASUREMENTS.
	other := &core3{query: coreAnswers}
	one := open(t, scripted(t, map[string]http.HandlerFunc{"/query": other.ServeHTTP}), "", func(i *configs.Influx) {
		i.Bucket, i.Flavor = "fleet/week", configs.FlavorInflux1
	})
	if _, err := one.History(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if q := other.asked[1].URL.Query(); q.Get("db") != "fleet" || q.Get("rp") != "week" || strings.Contains(q.Get("q"), "time") {
		t.Errorf("asked InfluxDB 1.8 %v", q)
	}
}

// The first write makes the database: until then there is nothing, which is no error.
func TestCoreWithoutDatabase(t *testing.T) {
	for name, answer := range map[string]func(string) (int, string){
		"now": func(string) (int, string) {
			return 200, `{"results":[{"statement_id":0,"error":"Cannot retrieve database: External error: database not found: telemetry"}]}`
		},
		"before": func(string) (int, string) {
			return 404, `{"error":"query error: database not found: telemetry","data":null}`
		}, // e8951468
	} {
		t.Run(name, func(t *testing.T) {
			s := openCore(t, &core3{query: answer})
			if types, err := s.FieldTypes(t.Context()); err != nil || len(types) != 0 {
				t.Errorf("types %v, %v", types, err)
			}
			if h, err := history(t, s, "pump-7"); err != nil || len(h.Series) != 0 {
				t.Errorf("history %v, %v", h, err)
			}
			if h, err := s.Held(t.Context(), "env", "temp"); err != nil || len(h.Types) != 0 {
				t.Errorf("held %v, %v", h, err)
			}
		})
	}
	s := openCore(t, &core3{query: func(string) (int, string) { return 401, `{"error":"unauthorized access"}` }})
	if _, err := s.FieldTypes(t.Context()); err == nil || !strings.Contains(s.Hint(err), "influx.token") {
		t.Errorf("a token that may not read: %v", err)
	}
}

// A query that reaches over too many files is refused by Core; who asks learns to ask for less.
func TestCoreOpensSoManyFiles(t *testing.T) {
	const (
		now = `{"results":[{"statement_id":0,"error":"datafusion error: External error: Query would scan 432 Parquet files, exceeding the file limit. ` +
			`InfluxDB 3 Core caps file access to prevent performance degradation and memory issues."}]}`
		before = "query error: error while planning query: External error: Query would exceed file limit of 432 parquet files. Please specify a smaller time range for your query."
		other  = `{"results":[{"statement_id":0,"error":"datafusion error: Error during planning: no such function"}]}`
	)
	for body, status := range map[string]int{now: 200, before: 500} { // e8951468
		s := openCore(t, &core3{query: func(q string) (int, string) {
			if strings.HasPrefix(q, "SELECT") {
				return status, body
			}
			return coreAnswers(q)
		}})
		_, err := history(t, s, "pump-7")
		if !errors.Is(err, influx.ErrBadRequest) || !strings.Contains(err.Error(), "shorter time") || !strings.Contains(err.Error(), "--query-file-limit") {
			t.Errorf("%d: %v", status, err)
		}
	}
	s := openCore(t, &core3{query: func(string) (int, string) { return 200, other }})
	if _, err := history(t, s, "pump-7"); err == nil || errors.Is(err, influx.ErrBadRequest) {
		t.Errorf("another fault: %v", err)
	}
}

// A check of an InfluxDB 3 Core writes and reads back.
func TestCoreCheck(t *testing.T) {
	c := &core3{query: func(q string) (int, string) {
		return 200, `{"results":[{"statement_id":0,"series":[{"name":"fairlead_check","columns":["time","last"],"values":[[1700000000000,true]]}]}]}`
	}}
	s := openCore(t, c)
	got := s.Check(t.Context(), 0)
	if !got.OK() || got.Make != nil || got.Query != nil || got.Found.Name() != "InfluxDB 3.9.0 Core" || got.Found.History() != "InfluxQL" {
		t.Errorf("%+v", got)
	}
	if len(c.stored) != 1 || c.calls["/api/v3/write_lp"] != 1 {
		t.Errorf("stored %q, calls %v", c.stored, c.calls)
	}
}
