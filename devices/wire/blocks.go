package wire

import (
	"math"
	"strconv"
	"time"
)

// mostPoints bounds the points of a message where the decoder is told nothing.
const mostPoints = 10_000

const tooMany = "more points than a frame may hold"

// add appends an empty point, or returns nil if there are as many as may be.
func (d *Decoder) add() *Point {
	most := d.MaxPoints
	if most <= 0 {
		most = mostPoints
	}
	if len(d.Telemetry.Points) >= most {
		return nil
	}
	return d.Telemetry.AddPoint()
}

// head is what the rows of a block share.
type head struct {
	Point       // Time is the first row's
	step  int64 // nanoseconds from row to row; 0: not read
	block int32
	first int // index of the first row among the points
}

// Keys of a block beside those of a point, as bits of seen.
const (
	keyStart = 1 << (iota + 8)
	keyStep
)

// maxStep is the longest way from row to row.
const maxStep = 24 * time.Hour

func blockKey(name []byte) uint16 {
	switch string(name) {
	case "start":
		return keyStart
	case "step_us":
		return keyStep
	case "time":
		return 0 // unknown here
	}
	return uint16(pointKey(name))
}

// blocks reads the columns of signals of a high rate; each row becomes a point.
func (d *Decoder) blocks() *Reject {
	s := &d.s
	if s.peek() != '[' {
		return &Reject{Code: InvalidFrame, Message: "blocks: must be an array", Path: "blocks"}
	}
	s.pos++
	for b := 0; ; b++ {
		another, ok := s.more(']', b)
		if !ok {
			return d.syntax()
		}
		if !another {
			return nil
		}
		d.begin(b)
		if rej := d.oneBlock(); rej != nil {
			return rej.moved(under(blockPath(b), rej.Path))
		}
	}
}

func (d *Decoder) begin(b int) {
	d.head = head{
		Point: Point{Measurement: defaultMeasurement, Tags: d.head.Tags[:0]},
		block: int32(b + 1), first: len(d.Telemetry.Points),
	}
}

func (d *Decoder) oneBlock() *Reject {
	s := &d.s
	if s.peek() != '{' {
		return reject(InvalidFrame, -1, "", "must be an object")
	}
	s.pos++
	var seen uint16
	columns := 0
	for n := 0; ; n++ {
		another, ok := s.more('}', n)
		if !ok {
			return d.syntax()
		}
		if !another {
			break
		}
		name, ok := s.key()
		if !ok {
			return d.syntax()
		}
		key := blockKey(name)
		if seen&key != 0 {
			return reject(InvalidFrame, -1, string(name), "is there twice")
		}
		seen |= key
		if key == keyFields {
			columns = s.pos // read last, since rows need what the other members say
			if rej := d.skipColumns(); rej != nil {
				return rej
			}
			continue
		}
		if rej := d.blockMember(key); rej != nil {
			return rej
		}
	}
	if rej := missing(seen); rej != nil {
		return rej
	}
	end := s.pos
	s.pos = columns
	rej := d.columns()
	s.pos = end
	return rej
}

// skipColumns passes over the columns. What is not JSON there, such as NaN, is refused with its place.
func (d *Decoder) skipColumns() *Reject {
	s := &d.s
	from := s.pos
	if s.skip(3) {
		return nil
	}
	s.pos, s.why = from, ""
	if rej := d.columns(); rej != nil {
		return rej
	}
	return d.syntax()
}

func (d *Decoder) blockMember(key uint16) *Reject {
	switch key {
	case keyStart:
		if rej := d.time(&d.head.Point, -1); rej != nil {
			return rej.moved(blockPlace(rej.Path))
		}
	case keyStep:
		if c := d.s.peek(); c != '-' && c-'0' > 9 {
			return badStep()
		}
		lit, _, ok := d.s.number()
		if !ok {
			return d.syntax()
		}
		v, err := strconv.ParseFloat(string(lit), 64)
		if err != nil {
			return badStep()
		}
		return d.setStep(v)
	case keyMeasurement, keyTags:
		return d.member(&d.head.Point, uint8(key), -1)
	default:
		if !d.s.skip(3) {
			return d.syntax()
		}
	}
	return nil
}

// blockPlace is the place that reading a time as start has found at fault.
func blockPlace(path string) string {
	if path == "time" {
		return "start"
	}
	return path
}

func badStep() *Reject {
	return reject(InvalidTime, -1, "step_us", "must be a number of microseconds above 0, at most a day, in whole nanoseconds")
}

func (d *Decoder) setStep(us float64) *Reject {
	ns := math.Round(us * 1e3)
	if !(ns >= 1 && ns <= float64(maxStep)) || math.Abs(us*1e3-ns) > 1e-3 {
		return badStep()
	}
	d.head.step = int64(ns)
	return nil
}

func missing(seen uint16) *Reject {
	switch {
	case seen&keyStart == 0:
		return reject(InvalidTime, -1, "start", "is missing")
	case seen&keyStep == 0:
		return reject(InvalidTime, -1, "step_us", "is missing")
	case seen&keyFields == 0:
		return reject(InvalidField, -1, "fields", "is missing")
	}
	return nil
}

func (d *Decoder) columns() *Reject {
	s := &d.s
	if s.peek() != '{' {
		return reject(InvalidField, -1, "fields", "must be an object of arrays")
	}
	s.pos++
	for n := 0; ; n++ {
		another, ok := s.more('}', n)
		if !ok {
			return d.syntax()
		}
		if !another {
			return d.finishRows()
		}
		key, ok := s.key()
		if !ok {
			return d.syntax()
		}
		if rej := d.column(key, n == 0); rej != nil {
			return rej
		}
	}
}

// column reads one column; the first makes the rows.
func (d *Decoder) column(key []byte, first bool) *Reject {
	s := &d.s
	if s.peek() != '[' {
		return reject(InvalidField, -1, "fields."+string(key), "must be an array of values")
	}
	s.pos++
	for row := 0; ; row++ {
		another, ok := s.more(']', row)
		if !ok {
			return d.syntax()
		}
		if !another {
			return d.endColumn(key, row)
		}
		p, rej := d.row(key, row, first)
		if rej != nil {
			return rej
		}
		n := len(p.Fields)
		if rej := d.field(p, key, -1); rej != nil {
			return rej.moved(valuePath(rej.Path, row))
		}
		p.mark(n, row)
	}
}

func valuePath(column string, row int) string { return column + "[" + strconv.Itoa(row) + "]" }

// mark notes where the field was found, if there is one more than n.
func (p *Point) mark(n, at int) {
	if len(p.Fields) > n {
		p.Fields[n].at = int32(at)
	}
}

func (d *Decoder) row(key []byte, row int, first bool) (*Point, *Reject) {
	h := &d.head
	if !first {
		if h.first+row >= len(d.Telemetry.Points) {
			return nil, uneven(key)
		}
		return &d.Telemetry.Points[h.first+row], nil
	}
	p := d.add()
	if p == nil {
		return nil, reject(TooManyPoints, -1, "", tooMany)
	}
	p.Measurement, p.Time, p.HasTime, p.block = h.Measurement, h.Time+int64(row)*h.step, true, h.block
	p.Tags = append(p.Tags, h.Tags...)
	if p.Time < h.Time {
		return nil, reject(InvalidTime, -1, "start", "is out of range")
	}
	return p, nil
}

func uneven(key []byte) *Reject {
	return reject(InvalidField, -1, "fields."+string(key), "must have as many values as the block's first column")
}

func (d *Decoder) endColumn(key []byte, rows int) *Reject {
	if d.head.first+rows != len(d.Telemetry.Points) {
		return uneven(key)
	}
	return nil
}

// finishRows leaves out rows in which every column is null.
func (d *Decoder) finishRows() *Reject {
	points, keep := d.Telemetry.Points, d.head.first
	for i := keep; i < len(points); i++ {
		if len(points[i].Fields) == 0 {
			continue
		}
		if i != keep {
			points[keep], points[i] = points[i], points[keep] // what is left out keeps its room
		}
		keep++
	}
	d.Telemetry.Points = points[:keep]
	if keep == d.head.first {
		return reject(InvalidField, -1, "fields", "no value that is not null")
	}
	return nil
}
