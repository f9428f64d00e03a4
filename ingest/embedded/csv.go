package embedded

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/query"
)

// csvFormat writes one table per statement and set of columns, with an empty line between tables.
type csvFormat struct {
	w         http.ResponseWriter
	out       *csv.Writer
	statement int
	columns   []string // of the table being written
}

func newCSV(w http.ResponseWriter, contentType string) *csvFormat {
	w.Header().Set("Content-Type", contentType)
	return &csvFormat{w: w, out: csv.NewWriter(w), statement: -1}
}

func (f *csvFormat) fail(status int, err error) {
	errorHeaders(f.w, status, err)
	f.w.WriteHeader(status)
	_ = f.write(response{Error: err.Error()}) // the client may be gone
}

func (f *csvFormat) write(res response) error {
	if res.Error != "" {
		return f.flush(f.out.Write([]string{"error"}), f.out.Write([]string{res.Error}))
	}
	for _, r := range res.Results {
		if err := f.result(r); err != nil {
			return err
		}
	}
	return f.flush()
}

func (f *csvFormat) result(r *query.Result) error {
	for _, row := range r.Series {
		if f.statement != r.StatementID || !slices.Equal(f.columns, row.Columns) {
			if err := f.header(r.StatementID, row.Columns); err != nil {
				return err
			}
		}
		record := []string{row.Name, tagList(row.Tags)}
		for _, values := range row.Values {
			record = record[:2]
			for _, v := range values {
				record = append(record, csvValue(v))
			}
			if err := f.out.Write(record); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *csvFormat) header(statement int, columns []string) error {
	if f.statement >= 0 {
		if err := f.flush(); err != nil {
			return err
		}
		if _, err := f.w.Write([]byte{'\n'}); err != nil {
			return err
		}
	}
	f.statement, f.columns = statement, columns
	return f.out.Write(append([]string{"name", "tags"}, columns...))
}

// flush returns the first error, of errs or its own.
func (f *csvFormat) flush(errs ...error) error {
	f.out.Flush()
	for _, err := range append(errs, f.out.Error()) {
		if err != nil {
			return err
		}
	}
	return nil
}

func tagList(tags map[string]string) string {
	key := models.NewTags(tags).HashKey()
	if len(key) == 0 {
		return ""
	}
	return string(key[1:])
}

func csvValue(v any) string {
	switch v := v.(type) {
	case nil, *float64, *int64, *string, *bool: // no value in this place
		return ""
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		return strconv.FormatInt(v.UnixNano(), 10)
	default:
		return fmt.Sprint(v)
	}
}
