package influx

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/fairlead-hub/fairlead/ingest"
)

// InfluxDB 3 Core takes /api/v2/write too, and takes all lines of a body there or none: one bad line is a 400 that does not
// say which line it is, and in some versions not why, in the same words in which it tells of its own troubles. Its own
// /api/v3/write_lp takes the good lines and names each of the others. No answer has a media type or a version in its header,
// so its words have to tell whether lines are refused [influxdb3_server/src/http.rs, V2WriteApiError, PartialLpWrite].

// coreReply bounds what is read of an answer to a write: it repeats every refused line. A longer one is not read to its end;
// then the lines are halved, as if it named none.
const coreReply = 4 << 20

// writeCore stores lines by InfluxDB 3's own way; it fails with a *ingest.StoreError.
func (s *Store) writeCore(ctx context.Context, lines []byte) error {
	var refused *ingest.StoreError
	err := s.written(ctx, func(ctx context.Context) (err error) {
		refused, err = s.postCore(ctx, lines)
		return err
	})
	switch {
	case err != nil:
		return &ingest.StoreError{Verdict: ingest.Unavailable, Err: err}
	case refused != nil:
		return refused
	}
	return nil
}

// postCore fails if there is no answer.
func (s *Store) postCore(ctx context.Context, lines []byte) (refused *ingest.StoreError, err error) {
	query := url.Values{"db": {s.bucket}, "precision": {"nanosecond"}, "accept_partial": {"true"}}
	body := lines
	if s.gzip {
		if body, err = gzipped(lines); err != nil {
			return nil, err
		}
	}
	req, err := s.request(ctx, http.MethodPost, "/api/v3/write_lp?"+query.Encode(), "text/plain; charset=utf-8", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if s.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := s.core.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask influx: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, coreReply))
	if err != nil {
		return nil, fmt.Errorf("read the answer of influx: %w", err)
	}
	out := coreRefusal(resp.StatusCode, answer, bytes.Count(lines, []byte("\n")))
	out.RetryAfter = retryAfter(resp.Header)
	return out, nil
}

func gzipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return out.Bytes(), nil
}

// coreFault is the body of an error: the first two of InfluxDB 3's own, the third of its /api/v2/write. Some are plain text.
type coreFault struct {
	Error   string
	Data    json.RawMessage
	Message string
}

func readCoreFault(body []byte) (f coreFault, text string) {
	if json.Unmarshal(body, &f) != nil {
		f = coreFault{}
	}
	if text = cmp.Or(f.Error, f.Message); text == "" {
		text = strings.ToValidUTF8(string(bytes.TrimSpace(body[:min(len(body), 1000)])), "")
	}
	return f, text
}

// What InfluxDB 3 says of lines, by versions. Whatever else it says is no fault of the lines: they wait.
var (
	coreRefuses = []string{
		"partial write of line protocol occurred",
		"line protocol parse failed", "parsing for line protocol failed", "parsing failed for write_lp endpoint", "line protocol parsing error",
		"body content is not valid utf8", "incoming write was empty",
		// It may say these of a body as a whole, too; lines for which its tables need no change are taken when they stand alone.
		"invalid column type for column", "Field type mismatch on table",
		"Update to schema would exceed", "Schema update for table", "uses explicit schemas",
	}
	coreTooLarge = "max request size ("
	// coreSettings are faults that a setting, here or there, has to mend.
	coreSettings = []string{
		"in database name", "in database or rp name", "db name ", "error validating namespace name", "error validating database name",
		"namespace name ", "database name ", "missing bucket value", coreFull,
		"cannot write to soft-deleted database", "write not allowed on internal database", coreBadHeader,
	}
	coreFull      = "Adding a new database would exceed limit"
	coreBadHeader = "Authorization header was malformed"
)

// coreRefusal turns an error into what the writer has to do with so many lines.
func coreRefusal(status int, body []byte, lines int) *ingest.StoreError {
	fault, text := readCoreFault(body)
	out := &ingest.StoreError{Verdict: ingest.Unavailable, Status: status, Err: errors.New(cmp.Or(text, http.StatusText(status)))}
	switch {
	case holdsOne(text, coreRefuses):
		out.Verdict = ingest.Refused
		out.Lines = coreLines(fault.Data, lines)
		if len(out.Lines) > 0 {
			first := slices.Min(slices.Collect(maps.Keys(out.Lines)))
			out.Err = fmt.Errorf("%s: %d of %d lines, the first of them line %d: %s", text, len(out.Lines), lines, first+1, out.Lines[first])
		}
	case status == http.StatusRequestEntityTooLarge, strings.Contains(text, coreTooLarge): // earlier versions answer 500 to that
		out.Verdict = ingest.TooLarge
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound, holdsOne(text, coreSettings):
		out.Verdict = ingest.Misconfigured
	}
	return out
}

// coreLines reads which lines were refused, of so many. An answer that names one which was not sent is not believed at all.
func coreLines(data json.RawMessage, lines int) map[int]string {
	var refused []struct {
		Number int    `json:"line_number"` // from 1
		Why    string `json:"error_message"`
	}
	if json.Unmarshal(data, &refused) != nil {
		return nil
	}
	out := make(map[int]string, len(refused))
	for _, l := range refused {
		if l.Number < 1 || l.Number > lines {
			return nil
		}
		out[l.Number-1] = l.Why
	}
	return out
}

// isCoreRefusal reports whether an error of /api/v2/write is an InfluxDB 3's word on lines, before anybody found out what
// the store is.
func isCoreRefusal(e *ingest.StoreError) bool {
	return e.Verdict == ingest.Unavailable && e.Status != 0 && holdsOne(e.Error(), coreRefuses)
}

func holdsOne(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
