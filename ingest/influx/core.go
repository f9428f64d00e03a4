package influx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
)

// isCore reports whether the store is an InfluxDB 3, by what was configured or found.
func (s *Store) isCore() bool {
	f := s.found.Load()
	return s.flavor == configs.FlavorInflux3 || f != nil && f.Flavor == configs.FlavorInflux3
}

// coreVersion reads the version in the body of InfluxDB 3's /ping; 3.0 has it nowhere else.
func coreVersion(body io.Reader) string {
	var answer struct{ Version string }
	if json.NewDecoder(io.LimitReader(body, maxReply)).Decode(&answer) != nil || !strings.HasPrefix(answer.Version, "3.") {
		return ""
	}
	return answer.Version
}

// coreNameMost is the longest name of a database of InfluxDB 3.
const coreNameMost = 64

// coreNameFault says why InfluxDB 3 has no database of that name, or "". One slash is a part of the name, in versions that
// take it at all [influxdb3_server/src/http.rs, validate_db_name].
func coreNameFault(name string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	switch {
	case name == "" || len(name) > coreNameMost:
		return fmt.Sprintf("must have 1 to %d characters", coreNameMost)
	case !strings.Contains(letters, name[:1]):
		return "must start with a letter or digit"
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(letters+"_-/", r) }):
		return "may hold A-Z a-z 0-9 _ - only, and one slash"
	case strings.Count(name, "/") > 1 || strings.HasSuffix(name, "/"):
		return "may hold one slash, and not at its end"
	}
	return ""
}

// prepareCore makes the database, if it is to keep points for so long: the first write makes one that keeps them for ever
// [influxdb3_types/src/http.rs, CreateDatabaseRequest]. What is there stays as its owner made it.
func (s *Store) prepareCore(ctx context.Context, retention time.Duration) (note string, err error) {
	if fault := coreNameFault(s.bucket); fault != "" {
		return "", fmt.Errorf("%w: influx.bucket %q %s", errCoreName, s.bucket, fault)
	}
	if retention <= 0 {
		return "", nil
	}
	keep := fmt.Sprintf("%ds", int64(retention.Seconds()))
	err = s.call(ctx, http.MethodPost, "/api/v3/configure/database", map[string]string{"db": s.bucket, "retention_period": keep}, nil)
	var answer *queryError
	switch {
	case err == nil || !errors.As(err, &answer):
		return "", err
	case answer.status == http.StatusConflict:
		return fmt.Sprintf("the database %s is there already, and influx.retention does not change for how long it keeps points: "+
			"influxdb3 update database --database %s --retention-period %s", s.bucket, s.bucket, keep), nil
	}
	return fmt.Sprintf("the database was not made with influx.retention (%v); the first write makes it, to keep points for ever: "+
		"influxdb3 update database --database %s --retention-period %s", err, s.bucket, keep), nil
}

// errCoreName says that there can be no such database.
var errCoreName = errors.New("InfluxDB 3 takes no such name of a database")

// coreHint is Hint for an InfluxDB 3.
func (s *Store) coreHint(err error, status int) string {
	text := err.Error()
	var write *ingest.StoreError
	switch {
	case errors.Is(err, errTooManyFiles):
		return ""
	case errors.Is(err, errCoreName):
		return "choose another influx.bucket"
	case strings.Contains(text, coreBadHeader):
		return "the token holds a space or another character that no token has: influx.token, influx.token_file or FAIRLEAD_INFLUX_TOKEN"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "the token is missing or wrong, or may not write to the database: influxdb3 create token; influx.token, influx.token_file or FAIRLEAD_INFLUX_TOKEN"
	case strings.Contains(text, coreFull):
		return "it has as many databases as it takes: delete one, or name one that is there; influx.bucket"
	case errors.As(err, &write) && write.Verdict == ingest.Misconfigured && status == http.StatusNotFound:
		return "nothing at influx.url takes /api/v3/write_lp: a proxy may not pass it on"
	case errors.As(err, &write) && write.Verdict == ingest.Misconfigured:
		return fmt.Sprintf("it takes no database named %q: choose another influx.bucket, of A-Z a-z 0-9 _ - only", s.bucket)
	}
	return ""
}
