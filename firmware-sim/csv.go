package sim

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Bounds of a CSV file.
const (
	maxColumns = 64
	maxName    = 64 // bytes of a field key
)

// reader reads the rows of a CSV file one at a time: a time, and a number for each column that has one.
type reader struct {
	csv     *csv.Reader
	name    string // of the file, for errors
	columns []column
	row     []float64
	ignored int // cells that are not numbers
}

func newReader(in io.Reader, name string) (*reader, error) {
	r := &reader{csv: csv.NewReader(in), name: name}
	r.csv.ReuseRecord, r.csv.TrimLeadingSpace = true, true
	head, err := r.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is empty; want a header such as time,value", name)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if err := r.header(head); err != nil {
		return nil, fmt.Errorf("%s: header: %w", name, err)
	}
	r.row = make([]float64, len(r.columns))
	return r, nil
}

func (r *reader) header(head []string) error {
	first := strings.ToLower(strings.TrimSpace(strings.TrimPrefix(head[0], "\ufeff")))
	if first != "timestamp" && first != "time" && first != "ts" {
		return fmt.Errorf("the first column is %q, want timestamp, time or ts", head[0])
	}
	if len(head) < 2 {
		return errors.New("there is no column beside the time")
	}
	if len(head)-1 > maxColumns {
		return fmt.Errorf("%d columns beside the time, at most %d fit into a point", len(head)-1, maxColumns)
	}
	seen := map[string]string{}
	for i, name := range head[1:] {
		key := fieldKey(strings.TrimSpace(name), i+1)
		if other, twice := seen[key]; twice {
			return fmt.Errorf("columns %q and %q are the same field %q", other, name, key)
		}
		seen[key] = name
		r.columns = append(r.columns, column{key: []byte(key), kind: wire.Number})
	}
	return nil
}

// fieldKey makes a column's name a name of the protocol.
func fieldKey(name string, column int) string {
	switch name {
	case "":
		return "column_" + strconv.Itoa(column)
	case "time", "_time", "_measurement", "_field", "_start", "_stop":
		return "value_" + strings.TrimLeft(name, "_")
	}
	out := []byte(name)
	for i, c := range out {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 && !(c >= '0' && c <= '9') || i > 0 && !(c >= '0' && c <= '9' || c == '.' || c == '-')) {
			out[i] = '_'
		}
	}
	if out[0] >= '0' && out[0] <= '9' {
		out = append([]byte("_"), out...)
	}
	return string(out[:min(len(out), maxName)])
}

// read returns the next row; io.EOF after the last. The row lives until the next read. values is how many cells of it
// are numbers.
func (r *reader) read() (at time.Time, row []float64, values int, err error) {
	cells, err := r.csv.Read()
	if errors.Is(err, io.EOF) {
		return at, nil, 0, io.EOF
	}
	if err != nil {
		return at, nil, 0, fmt.Errorf("read %s: %w", r.name, err)
	}
	if at, err = parseTime(strings.TrimSpace(cells[0])); err != nil {
		line, _ := r.csv.FieldPos(0)
		return at, nil, 0, fmt.Errorf("%s: line %d: %w", r.name, line, err)
	}
	for i, cell := range cells[1:] {
		v, ok := parseNumber(strings.TrimSpace(cell))
		switch {
		case ok:
			values++
		case cell != "":
			r.ignored++
		}
		r.row[i] = v
	}
	return at, r.row, values, nil
}

// parseNumber reads a finite decimal number.
func parseNumber(s string) (float64, bool) {
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return absent(), false // ParseFloat also takes inf, nan and hexadecimal
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return absent(), false
	}
	return v, true
}

var timeLayouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04"}

// Unix times below are seconds, from there on milliseconds: 5138 AD the one, 1973 the other.
const millisFrom = 1e11

// parseTime reads RFC 3339, a date and time of day in UTC, or a Unix time in seconds or milliseconds.
func parseTime(s string) (time.Time, error) {
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, time.UTC); err == nil {
			if y := t.Year(); y < 1678 || y > 2261 {
				return t, fmt.Errorf("time %q is out of range", s)
			}
			return t.UTC(), nil
		}
	}
	v, ok := parseNumber(s)
	if !ok {
		return time.Time{}, fmt.Errorf("time %q: want RFC 3339, 2006-01-02 15:04:05 (UTC), or Unix seconds or milliseconds", s)
	}
	if math.Abs(v) < millisFrom {
		v *= 1000
	}
	if math.Abs(v) > 9.2e12 {
		return time.Time{}, fmt.Errorf("time %q is out of range; Unix times are seconds or milliseconds", s)
	}
	// A float64 of this size is exact to the microsecond and no further.
	return time.UnixMicro(int64(math.Round(v * 1000))).UTC(), nil
}
