package influx

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/influxdata/influxdb-client-go/v2/domain"
)

// Prepare finds out what serves the URL and makes the bucket if it may. It returns the version that answered. A store
// that does not answer is an error; the hub goes on without it and tries again, for the log holds what comes meanwhile.
func (s *Store) Prepare(ctx context.Context, retention time.Duration) (version string, err error) {
	resp, err := s.get(ctx, http.MethodGet, "/ping", nil)
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	version = resp.Header.Get("X-Influxdb-Version")
	if strings.HasPrefix(strings.TrimPrefix(version, "v"), "2.") {
		return version, s.makeBucket(ctx, retention)
	}
	return version, s.makeDatabase(ctx, retention)
}

// makeDatabase creates the database of an InfluxDB 1.x.
func (s *Store) makeDatabase(ctx context.Context, retention time.Duration) error {
	db, _, _ := strings.Cut(s.bucket, "/")
	q := "CREATE DATABASE " + quoteIdent(db)
	if retention > 0 {
		q += fmt.Sprintf(" WITH DURATION %ds", int(retention.Seconds()))
	}
	_, err := s.query(ctx, http.MethodPost, "", q)
	return err
}

// makeBucket creates the bucket of an InfluxDB 2.x, unless it is there.
func (s *Store) makeBucket(ctx context.Context, retention time.Duration) error {
	buckets := s.client.BucketsAPI()
	if _, err := buckets.FindBucketByName(ctx, s.bucket); err == nil {
		return nil
	}
	org, err := s.client.OrganizationsAPI().FindOrganizationByName(ctx, s.org)
	if err != nil {
		return fmt.Errorf("organization %q: %w", s.org, err)
	}
	rule := domain.RetentionRule{EverySeconds: int64(retention.Seconds())}
	if _, err := buckets.CreateBucketWithName(ctx, org, s.bucket, rule); err != nil {
		return fmt.Errorf("create bucket %q: %w", s.bucket, err)
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
	if db != "" {
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
		return nil, fmt.Errorf("influx answered %s: %s", resp.Status, bytes.TrimSpace(raw[:min(len(raw), 200)]))
	}
	if r.Error != "" {
		return nil, fmt.Errorf("influx: %s", r.Error)
	}
	if len(r.Results) == 0 {
		return nil, nil
	}
	if e := r.Results[0].Error; e != "" {
		return nil, fmt.Errorf("influx: %s", e)
	}
	return r.Results[0].Series, nil
}

// quoteIdent quotes a name for InfluxQL.
func quoteIdent(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(name) + `"`
}

// quoteString quotes a value for InfluxQL.
func quoteString(v string) string {
	return `'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(v) + `'`
}
