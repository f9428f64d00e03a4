package influx

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Held is what the store has of one field.
type Held struct {
	Types []string // as InfluxDB names them; several if the type was changed once
	// Until is when the newest shard ends: InfluxDB 1.8 and 2.x hold a field's type for each shard, so that a point of
	// another type is refused if its time is before. Zero where the store does not tell.
	Until time.Time
	// ForGood says that the store never takes another type (InfluxDB 3: the type is the column's).
	ForGood bool
	// Untyped says that the store holds numbers only and minds no type (VictoriaMetrics).
	Untyped bool
}

// Held asks what the store has of a field. A field that it does not have has no types.
func (s *Store) Held(ctx context.Context, measurement, field string) (h Held, err error) {
	if !s.speaksInfluxQL() {
		return Held{Untyped: true}, nil
	}
	rows, err := s.query(ctx, http.MethodGet, s.bucket, "SHOW FIELD KEYS FROM "+quoteIdent(measurement))
	if err != nil {
		return h, err
	}
	for _, row := range rows {
		for _, v := range row.Values {
			var name, kind string
			if len(v) > 1 && json.Unmarshal(v[0], &name) == nil && json.Unmarshal(v[1], &kind) == nil && name == field {
				h.Types = append(h.Types, kind)
			}
		}
	}
	if len(h.Types) == 0 {
		return h, nil
	}
	if s.isCore() {
		h.ForGood = true
		return h, nil
	}
	h.Until = s.lastShardEnd(ctx)
	return h, nil
}

// lastShardEnd is when the newest shard of the bucket ends; zero if the store does not say, as to a user who is no admin.
func (s *Store) lastShardEnd(ctx context.Context) (end time.Time) {
	rows, err := s.query(ctx, http.MethodGet, "", "SHOW SHARDS")
	if err != nil {
		return end
	}
	db, _, _ := strings.Cut(s.bucket, "/")
	for _, row := range rows {
		in, at := slices.Index(row.Columns, "database"), slices.Index(row.Columns, "end_time")
		for _, v := range row.Values {
			var name, text string
			if in < 0 || at < 0 || max(in, at) >= len(v) || json.Unmarshal(v[in], &name) != nil || name != db || json.Unmarshal(v[at], &text) != nil {
				continue
			}
			if t, err := time.Parse(time.RFC3339, text); err == nil && t.After(end) {
				end = t
			}
		}
	}
	return end
}
