package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// row is one line of a file, as the hub will be sent it.
type row struct {
	line   int // of the file, from 1
	device string
	point  []byte // JSON
}

// rowFault says why a row cannot be sent; the rows after it can.
type rowFault struct {
	line int
	what string
}

// Error names the line.
func (f *rowFault) Error() string { return "line " + strconv.Itoa(f.line) + ": " + f.what }

// rows reads a file. next returns io.EOF at the end, and a *rowFault for a row to be left out.
type rows interface{ next() (row, error) }

// rowOptions say how a file is read.
type rowOptions struct {
	device      string        // of all rows; "" takes it from each
	deviceKey   string        // tag or column that names it
	drop        []string      // tags or columns that are not sent
	tags        []string      // columns that are tags
	measurement string        // of CSV
	timeColumn  string        // of CSV; "" finds it
	precision   time.Duration // of times that are numbers; 0: nanoseconds in line protocol, by their size in CSV
}

// maxRow is the longest row of a file.
const maxRow = 1 << 20

// openRows chooses the reader by format, or by the file's name.
func openRows(in io.Reader, name, format string, o rowOptions) (rows, error) {
	if format == "" || format == "auto" {
		format = "line"
		if strings.EqualFold(filepath.Ext(name), ".csv") {
			format = "csv"
		}
	}
	in = unmarked(in)
	switch format {
	case "line":
		s := bufio.NewScanner(in)
		s.Buffer(nil, maxRow)
		return &lineRows{in: s, opt: o}, nil
	case "csv":
		return newCSVRows(in, o)
	}
	return nil, usage("--format %s: want line or csv", format)
}

// unmarked is in without the byte order mark that some editors begin a file with.
func unmarked(in io.Reader) io.Reader {
	const mark = "\ufeff"
	r := bufio.NewReader(in)
	if head, err := r.Peek(len(mark)); err == nil && string(head) == mark {
		_, _ = r.Discard(len(mark)) // they are in the buffer
	}
	return r
}

// newRow makes the row of a point, whose memory is not kept.
func (o *rowOptions) newRow(line int, device string, p *wire.Point) (row, error) {
	if o.device != "" {
		device = o.device
	}
	if device == "" {
		return row{}, &rowFault{line, "names no device: " + o.deviceKey + " is missing; give --device"}
	}
	if err := wire.CheckID(device); err != nil {
		return row{}, &rowFault{line, err.Error()}
	}
	if !p.HasTime {
		return row{}, &rowFault{line, "has no time, and a point that is sent again would be stored twice"}
	}
	frame, err := wire.Append(nil, wire.JSON, &wire.Telemetry{Points: []wire.Point{*p}})
	if err != nil {
		return row{}, &rowFault{line, err.Error()}
	}
	from := bytes.IndexByte(frame, '[') + 1
	return row{line, device, frame[from : len(frame)-len("]}")]}, nil
}

// lineRows reads line protocol.
type lineRows struct {
	in   *bufio.Scanner
	line int
	dec  wire.Decoder
	opt  rowOptions
}

func (r *lineRows) next() (row, error) {
	for r.in.Scan() {
		r.line++
		text := bytes.TrimSpace(r.in.Bytes())
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		r.dec.Precision = r.opt.precision
		f, err := r.dec.Decode(wire.Lines, text)
		var rej *wire.Reject
		if errors.As(err, &rej) {
			return row{}, &rowFault{r.line, strings.TrimPrefix(strings.TrimPrefix(rej.Message, "lines[0]"), ": ")}
		}
		if err != nil {
			return row{}, &rowFault{r.line, err.Error()}
		}
		t, ok := f.(*wire.Telemetry)
		if !ok { // a brace begins the frames that devices send beside their lines
			return row{}, &rowFault{r.line, "is not line protocol"}
		}
		p := &t.Points[0]
		device := ""
		p.Tags = slices.DeleteFunc(p.Tags, func(t wire.Tag) bool {
			key := string(t.Key)
			if key == r.opt.deviceKey {
				device = string(t.Value)
			}
			return key == r.opt.deviceKey || slices.Contains(r.opt.drop, key)
		})
		return r.opt.newRow(r.line, device, p)
	}
	if err := r.in.Err(); err != nil {
		return row{}, fmt.Errorf("line %d: %w", r.line+1, err)
	}
	return row{}, io.EOF
}

// csvRows reads CSV with a header.
type csvRows struct {
	in      *csv.Reader
	opt     rowOptions
	columns []csvColumn
}

// csvColumn is what a column becomes.
type csvColumn struct {
	name string
	use  csvUse
}

type csvUse uint8

const (
	csvField csvUse = iota
	csvTag
	csvTime
	csvDevice
	csvDropped
)

// timeColumns are the names by which the column of the time is found.
var timeColumns = []string{"time", "timestamp", "ts", "_time", "date"}

func newCSVRows(in io.Reader, o rowOptions) (*csvRows, error) {
	r := &csvRows{in: csv.NewReader(in), opt: o}
	r.in.ReuseRecord, r.in.TrimLeadingSpace = true, true
	head, err := r.in.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	timed, fields := false, 0
	for _, name := range head {
		c := csvColumn{name: strings.TrimSpace(name)}
		switch {
		case c.name == o.deviceKey:
			c.use = csvDevice
		case !timed && (c.name == o.timeColumn || o.timeColumn == "" && slices.Contains(timeColumns, strings.ToLower(c.name))):
			c.use, timed = csvTime, true
		case slices.Contains(o.drop, c.name):
			c.use = csvDropped
		case slices.Contains(o.tags, c.name):
			c.use = csvTag
		default:
			fields++
		}
		if c.use == csvField || c.use == csvTag {
			if why := wire.NameFault([]byte(c.name)); why != "" {
				return nil, fmt.Errorf("column %q: %s; rename it, or leave it out with --drop", c.name, why)
			}
		}
		r.columns = append(r.columns, c)
	}
	switch {
	case !timed:
		return nil, errors.New("the header has no column for the time; name it with --time-column")
	case fields == 0:
		return nil, errors.New("the header has no column for a field")
	}
	return r, nil
}

func (r *csvRows) next() (row, error) {
	cells, err := r.in.Read()
	var bad *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return row{}, io.EOF
	case errors.As(err, &bad) && errors.Is(bad.Err, csv.ErrFieldCount):
		return row{}, &rowFault{bad.Line, fmt.Sprintf("%d cells, the header has %d", len(cells), len(r.columns))}
	case errors.As(err, &bad) && bad.StartLine == bad.Line:
		return row{}, &rowFault{bad.Line, fmt.Sprintf("a quote within a cell, at byte %d; write the cell in quotes, and the quote twice", bad.Column)}
	case errors.As(err, &bad): // where this row ends nobody knows, nor what it took along
		return row{}, fmt.Errorf("read CSV: the quoted cell that begins in line %d does not end where one may", bad.StartLine)
	case err != nil:
		return row{}, fmt.Errorf("read CSV: %w", err)
	}
	line, _ := r.in.FieldPos(0)
	p := wire.Point{Measurement: []byte(r.opt.measurement)}
	device := ""
	for i, c := range r.columns {
		cell := strings.TrimSpace(cells[i])
		if cell == "" {
			continue
		}
		switch c.use {
		case csvDevice:
			device = cell
		case csvTag:
			p.Tags = append(p.Tags, wire.Tag{Key: []byte(c.name), Value: []byte(cell)})
		case csvTime:
			if p.Time, err = csvMoment(cell, r.opt.precision); err != nil {
				return row{}, &rowFault{line, fmt.Sprintf("%s %q: %v", c.name, cell, err)}
			}
			p.HasTime = true
		case csvField:
			p.Fields = append(p.Fields, csvValue(c.name, cell))
		}
	}
	if len(p.Fields) == 0 {
		return row{}, &rowFault{line, "has no value"}
	}
	return r.opt.newRow(line, device, &p)
}

// csvValue is a number or a boolean where the cell is written as one, and a string otherwise.
func csvValue(name, cell string) wire.Field {
	// A whole number stays as it is written: a float cannot tell large ones apart, and the field may be an integer.
	if n, err := strconv.ParseInt(cell, 10, 64); err == nil && strconv.FormatInt(n, 10) == cell {
		return wire.Field{Key: []byte(name), Kind: wire.Number, Value: []byte(cell)}
	}
	if v, err := strconv.ParseFloat(cell, 64); err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
		return wire.NewNumber(name, v)
	}
	switch strings.ToLower(cell) {
	case "true":
		return wire.NewBool(name, true)
	case "false":
		return wire.NewBool(name, false)
	}
	return wire.NewText(name, cell)
}

// csvLayouts are the ways in which a time without a zone is written; it is UTC.
var csvLayouts = []string{"2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04", "2006-01-02"}

// csvMoment reads a time in nanoseconds. A number without a precision is of the unit that makes it a time of our age.
func csvMoment(cell string, precision time.Duration) (int64, error) {
	if n, err := strconv.ParseInt(cell, 10, 64); err == nil {
		if precision == 0 {
			precision = unitOf(n)
		}
		if n > math.MaxInt64/int64(precision) || n < math.MinInt64/int64(precision) {
			return 0, errors.New("is out of range; give --precision")
		}
		return n * int64(precision), nil
	}
	t, err := time.Parse(time.RFC3339Nano, cell)
	for i := 0; err != nil && i < len(csvLayouts); i++ {
		t, err = time.Parse(csvLayouts[i], cell)
	}
	if err != nil {
		return 0, errors.New("want RFC 3339, 2026-01-31 12:00:00 (UTC) or a Unix time")
	}
	if t.Year() < 1678 || t.Year() > 2261 {
		return 0, errors.New("is out of range")
	}
	return t.UnixNano(), nil
}

func unitOf(n int64) time.Duration {
	switch n = max(n, -n); {
	case n < 1e11:
		return time.Second
	case n < 1e14:
		return time.Millisecond
	case n < 1e17:
		return time.Microsecond
	}
	return time.Nanosecond
}
