package influx_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/ingest/influx"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// A shard keeps the type of a field: until it ends, another type is refused, and the next one takes it. That is what an
// operator who changes a type is told.
func TestHeldSaysUntilWhenAnotherTypeIsRefused(t *testing.T) {
	named := func(i *configs.Influx) { i.Bucket = "telemetry/autogen" }
	for name, s := range map[string]*influx.Store{
		"influxd 1.8":    open(t, influxtest.Start(t).URL, ""),
		"influxd, named": open(t, influxtest.Start(t).URL, "", named),
		"embedded":       open(t, openEmbedded(t).URL(), "secret"),
	} {
		t.Run(name, func(t *testing.T) {
			held := func() influx.Held {
				t.Helper()
				h, err := s.Held(t.Context(), "m", "temp")
				if err != nil {
					t.Fatal(err)
				}
				return h
			}
			write := func(value string, at time.Time) error {
				return s.Write(t.Context(), fmt.Appendf(nil, "m,device=d temp=%s,other=true %d\n", value, at.UnixNano()))
			}
			if h := held(); len(h.Types) != 0 {
				t.Errorf("%+v before anything was written", h)
			}
			now := time.Now()
			if err := write("21.5", now); err != nil {
				t.Fatal(err)
			}
			h := held()
			if !slices.Equal(h.Types, []string{"float"}) || !h.Until.After(now) || h.ForGood || h.Untyped {
				t.Fatalf("%+v", h)
			}
			var refused *ingest.StoreError
			if err := write("22i", h.Until.Add(-time.Second)); !errors.As(err, &refused) || refused.Verdict != ingest.Refused {
				t.Errorf("another type in the old shard: %v", err)
			}
			if err := write("22i", h.Until); err != nil {
				t.Errorf("another type in the next shard: %v", err)
			}
			after := held()
			slices.Sort(after.Types)
			if !slices.Equal(after.Types, []string{"float", "integer"}) || !after.Until.After(h.Until) {
				t.Errorf("%+v after both", after)
			}
		})
	}
}

func TestHeldByVictoriaMetricsHasNoTypes(t *testing.T) {
	s := open(t, openVictoria(t), "")
	if _, err := s.Detect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, err := s.Held(t.Context(), "m", "temp"); err != nil || !h.Untyped || len(h.Types) != 0 {
		t.Errorf("%+v %v", h, err)
	}
}

// InfluxQL reads a field of two types as the first of float, integer, string, boolean, and each by its cast.
func TestFieldOfTwoTypesIsReadByCast(t *testing.T) {
	db := influxtest.Start(t)
	now := time.Now()
	for i, v := range []string{"21.5", "22i"} {
		if code, body, err := db.Write(t.Context(), fmt.Sprintf("m temp=%s %d", v, now.Add(time.Duration(i)*14*24*time.Hour).UnixNano())); err != nil || code != 204 {
			t.Fatal(code, body, err)
		}
	}
	for q, want := range map[string]int64{"temp": 2, "temp::integer": 2, "temp::float": 2} {
		series := db.MustQuery("SELECT " + q + " FROM m WHERE time < now() + 30d")
		n := int64(0)
		for _, s := range series {
			n += int64(len(s.Values))
		}
		t.Log(q, n, series)
		if n != want {
			t.Errorf("%s: %d values, want %d", q, n, want)
		}
	}
}
