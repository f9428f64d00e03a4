package influx

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
)

// Checked is what a look at the store has shown. Nil errors are well.
type Checked struct {
	Found Found
	Reach error // nothing that is known answers
	Make  error // the bucket is not there and could not be made
	Write error
	Query error // ErrNoHistory where there is no InfluxQL
}

// OK reports whether the hub can write to the store.
func (c Checked) OK() bool { return c.Reach == nil && c.Write == nil }

// The point that a check writes, at the full hour, so that many checks leave one.
const (
	checkMeasurement = "fairlead_check"
	checkDevice      = "fairlead-check"
)

// Check finds out what the store is, makes the bucket if it may, writes one point and reads it back.
func (s *Store) Check(ctx context.Context, retention time.Duration) Checked {
	var c Checked
	if c.Found, c.Reach = s.Detect(ctx); c.Reach != nil {
		return c
	}
	c.Found, c.Make = s.Prepare(ctx, retention)
	at := time.Now().Truncate(time.Hour).UnixNano()
	line := fmt.Sprintf("%s,device=%s ok=true %d\n", checkMeasurement, checkDevice, at)
	if c.Write = s.Write(ctx, []byte(line)); c.Write != nil {
		return c
	}
	if !s.speaksInfluxQL() {
		c.Query = ErrNoHistory
		return c
	}
	rows, err := s.query(ctx, http.MethodGet, s.bucket, `SELECT last("ok") FROM "`+checkMeasurement+`"`)
	switch {
	case err != nil:
		c.Query = err
	case len(rows) == 0:
		c.Query = errors.New("the point that was written is not there")
	}
	return c
}

// Hint says what an operator can do about an error of this store, or "".
func (s *Store) Hint(err error) string {
	flavor := ""
	if f := s.found.Load(); f != nil {
		flavor = f.Flavor
	}
	status := 0
	var query *queryError
	var write *ingest.StoreError
	switch {
	case err == nil, errors.Is(err, ErrNoHistory):
		return ""
	case errors.As(err, &query):
		status = query.status
	case errors.As(err, &write):
		status = write.Status
	}
	var unreached *url.Error
	if flavor == configs.FlavorInflux3 && !errors.As(err, &unreached) {
		return s.coreHint(err, status)
	}
	switch status {
	case 0:
		return "is the address right, and the store up? influx.url"
	case http.StatusUnauthorized:
		if flavor == configs.FlavorInflux1 {
			return "the token is missing or wrong: for InfluxDB 1.8 it is user:password; influx.token, influx.token_file or FAIRLEAD_INFLUX_TOKEN"
		}
		return "the token is missing or wrong: influx.token, influx.token_file or FAIRLEAD_INFLUX_TOKEN"
	case http.StatusForbidden:
		return fmt.Sprintf("the token is good, and not for bucket %q: give it leave to read and write there", s.bucket)
	case http.StatusNotFound:
		if flavor == configs.FlavorInflux1 {
			return fmt.Sprintf("make the database: CREATE DATABASE %s; influx.bucket", quoteIdent(s.bucket))
		}
		return fmt.Sprintf("bucket %q or organization %q is not there, or the token may not see it; influx.bucket, influx.org", s.bucket, s.org)
	}
	if query != nil && flavor == configs.FlavorInflux2 {
		return fmt.Sprintf("history wants a token that may read bucket %q, and of an InfluxDB too old to map buckets itself: influx v1 dbrp create", s.bucket)
	}
	return ""
}
