package influx

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
)

// Prepare finds out what serves the URL and makes the bucket if it may. A store that does not answer is an error; the hub
// goes on without it and tries again, for the log holds what comes meanwhile.
func (s *Store) Prepare(ctx context.Context, retention time.Duration) (Found, error) {
	found, err := s.Detect(ctx)
	if err != nil {
		return found, err
	}
	switch found.Flavor {
	case configs.FlavorInflux1:
		found.Note, err = s.makeDatabase(ctx, retention)
	case configs.FlavorInflux2:
		found.Note, err = s.makeBucket(ctx, retention)
	case configs.FlavorInflux3:
		found.Note, err = s.prepareCore(ctx, retention)
	}
	if errors.Is(err, errForbidden) {
		found.Note = "the bucket could not be made: " + err.Error()
		err = nil // it may be there already; a write tells
	}
	return found, err
}

// errForbidden says that the token is good and does not allow what was asked.
var errForbidden = errors.New("not allowed")

// makeDatabase creates the database of an InfluxDB 1.x and its retention policy, where they are missing. What is there stays
// as its owner made it; note tells if that keeps points for another time than was asked for.
func (s *Store) makeDatabase(ctx context.Context, retention time.Duration) (note string, err error) {
	db, policy, named := strings.Cut(s.bucket, "/")
	duration := " DURATION INF"
	if retention > 0 {
		duration = fmt.Sprintf(" DURATION %ds", int64(retention.Seconds()))
	}
	rows, err := s.query(ctx, http.MethodGet, "", "SHOW RETENTION POLICIES ON "+quoteIdent(db))
	if err != nil && strings.Contains(err.Error(), "database not found") {
		q := "CREATE DATABASE " + quoteIdent(db) + " WITH" + duration
		if named {
			q += " NAME " + quoteIdent(policy)
		}
		_, err = s.query(ctx, http.MethodPost, "", q)
		return "", err
	}
	if err != nil {
		return "", err
	}
	kept, there := keptBy(rows, policy)
	if !there {
		_, err = s.query(ctx, http.MethodPost, "", "CREATE RETENTION POLICY "+quoteIdent(policy)+" ON "+quoteIdent(db)+duration+" REPLICATION 1")
		return "", err
	}
	if retention > 0 && kept != retention {
		note = s.keptOtherwise(kept)
	}
	return note, nil
}

// keptOtherwise is what an operator is told about a bucket that is there, and keeps points for another time than was asked for.
func (s *Store) keptOtherwise(kept time.Duration) string {
	return fmt.Sprintf("the bucket %s is there already and keeps points for %s (0s: for ever); influx.retention does not change it", s.bucket, kept)
}

// keptBy finds for how long a retention policy keeps points; without a name the default one.
func keptBy(policies []row, name string) (kept time.Duration, there bool) {
	for _, r := range policies {
		for _, v := range r.Values { // name, duration, shardGroupDuration, replicaN, default
			var policy, duration string
			var standard bool
			if len(v) < 5 || json.Unmarshal(v[0], &policy) != nil || json.Unmarshal(v[1], &duration) != nil || json.Unmarshal(v[4], &standard) != nil {
				continue
			}
			if policy == name || name == "" && standard {
				kept, err := time.ParseDuration(duration)
				return kept, err == nil
			}
		}
	}
	return 0, false
}

// result is the reply of an InfluxQL query [InfluxDB 1.8 API, /query].
type result struct {
	Results []struct {
		Series []row  `json:"series"`
		Error  string `json:"error"`
	} `json:"results"`
	Error   string `json:"error"`
	Message string `json:"message"` // InfluxDB 2.x says it here
}

type row struct {
	Name    string              `json:"name"`
	Tags    map[string]string   `json:"tags"`
	Columns []string            `json:"columns"`
	Values  [][]json.RawMessage `json:"values"`
}

// maxAnswer bounds the answer to one query.
const maxAnswer = 64 << 20

// query runs one InfluxQL statement. Times come in milliseconds.
func (s *Store) query(ctx context.Context, method, db, q string) ([]row, error) {
	form := url.Values{"q": {q}, "epoch": {"ms"}}
	if db != "" && s.isCore() {
		form.Set("db", db) // the slash is a part of the name there, and rp is not heeded
	} else if db != "" {
		name, rp, _ := strings.Cut(db, "/")
		form.Set("db", name)
		if rp != "" {
			form.Set("rp", rp)
		}
	}
	path, body := "/query?"+form.Encode(), io.Reader(nil)
	if method == http.MethodPost {
		path, body = "/query", strings.NewReader(form.Encode())
	}
	rows, err := s.ask(ctx, method, path, body)
	if err != nil && s.isCore() {
		err = coreQuery(err)
	}
	return rows, err
}

// ask sends a query and reads its answer.
func (s *Store) ask(ctx context.Context, method, path string, body io.Reader) ([]row, error) {
	resp, err := s.get(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of influx: %w", err)
	}
	var r result
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, &queryError{resp.StatusCode, string(bytes.TrimSpace(raw[:min(len(raw), 200)]))}
	}
	if text := cmp.Or(r.Error, r.Message); resp.StatusCode >= http.StatusMultipleChoices || text != "" {
		return nil, &queryError{resp.StatusCode, text}
	}
	if len(r.Results) == 0 {
		return nil, nil
	}
	if e := r.Results[0].Error; e != "" {
		return nil, &queryError{resp.StatusCode, e}
	}
	return r.Results[0].Series, nil
}

// queryError is an answer that is no result.
type queryError struct {
	status int
	text   string
}

// Error tells status and what the store said; a statement's own error comes with 200.
func (e *queryError) Error() string {
	if e.status == http.StatusOK {
		return "influx: " + e.text
	}
	return fmt.Sprintf("influx answered %d: %s", e.status, e.text)
}

// Is makes a 403 what the token does not allow.
func (e *queryError) Is(target error) bool {
	return target == errForbidden && e.status == http.StatusForbidden
}

// quoteIdent quotes a name for InfluxQL.
func quoteIdent(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(name) + `"`
}

// quoteString quotes a value for InfluxQL.
func quoteString(v string) string {
	return `'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(v) + `'`
}
