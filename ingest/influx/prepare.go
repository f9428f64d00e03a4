package influx

import (
	"bytes"
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
		err = s.makeBucket(ctx, retention)
	case configs.FlavorInflux3:
		found.Note, err = s.prepareCore(retention)
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
		note = fmt.Sprintf("the bucket %s is there already and keeps points for %s (0s: for ever); influx.retention does not change it", s.bucket, kept)
	}
	return note, nil
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

// makeBucket creates the bucket of an InfluxDB 2.x, unless it is there. The client library has calls for it, whose
// errors do not tell a wrong token from one that may not make buckets.
func (s *Store) makeBucket(ctx context.Context, retention time.Duration) error {
	var found struct {
		Buckets []struct{ Name string }
	}
	err := s.call(ctx, http.MethodGet, "/api/v2/buckets?"+url.Values{"name": {s.bucket}, "org": {s.org}}.Encode(), nil, &found)
	if err == nil && len(found.Buckets) > 0 {
		return nil
	}
	var orgs struct {
		Orgs []struct{ ID string }
	}
	if err := s.call(ctx, http.MethodGet, "/api/v2/orgs?"+url.Values{"org": {s.org}}.Encode(), nil, &orgs); err != nil {
		return fmt.Errorf("organization %q: %w", s.org, err)
	}
	if len(orgs.Orgs) == 0 {
		return fmt.Errorf("organization %q: %w", s.org, &queryError{http.StatusNotFound, "not found"})
	}
	type rule struct {
		Type         string `json:"type"`
		EverySeconds int64  `json:"everySeconds"`
	}
	body := struct {
		OrgID          string `json:"orgID"`
		Name           string `json:"name"`
		RetentionRules []rule `json:"retentionRules"`
	}{orgs.Orgs[0].ID, s.bucket, []rule{{"expire", int64(retention.Seconds())}}}
	if err := s.call(ctx, http.MethodPost, "/api/v2/buckets", body, nil); err != nil {
		return fmt.Errorf("create bucket %q: %w", s.bucket, err)
	}
	return nil
}

// call asks InfluxDB 2's management API; body and into may be nil.
func (s *Store) call(ctx context.Context, method, path string, body, into any) error {
	var text io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("ask influx: %w", err)
		}
		text = bytes.NewReader(raw)
	}
	resp, err := s.send(ctx, method, path, "application/json", text)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("read the answer of influx: %w", err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		var fault struct{ Message string }
		if json.Unmarshal(raw, &fault) != nil || fault.Message == "" {
			fault.Message = http.StatusText(resp.StatusCode)
		}
		return &queryError{resp.StatusCode, fault.Message}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read the answer of influx: %w", err)
	}
	return nil
}

// result is the reply of an InfluxQL query [InfluxDB 1.8 API, /query].
type result struct {
	Results []struct {
		Series []row  `json:"series"`
		Error  string `json:"error"`
	} `json:"results"`
	Error string `json:"error"`
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
	if resp.StatusCode >= http.StatusMultipleChoices || r.Error != "" {
		return nil, &queryError{resp.StatusCode, r.Error}
	}
	if len(r.Results) == 0 {
		return nil, nil
	}
	if e := r.Results[0].Error; e != "" {
		return nil, fmt.Errorf("influx: %s", e)
	}
	return r.Results[0].Series, nil
}

// queryError is an answer that is no result.
type queryError struct {
	status int
	text   string
}

// Error tells status and what the store said.
func (e *queryError) Error() string { return fmt.Sprintf("influx answered %d: %s", e.status, e.text) }

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
