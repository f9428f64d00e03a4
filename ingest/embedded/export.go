package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxql"
)

// deviceTag is the tag that the hub adds to every point.
const deviceTag = "device"

// Range says what to export. The zero value is everything in the configured bucket.
type Range struct {
	Bucket   string    // "db" for its default policy, or "db/rp"; empty is Options.Bucket
	From, To time.Time // From is included, To is not; zero is open
	Device   string    // only series with this tag device; "" is all
}

// Export writes the points as line protocol with times in nanoseconds, shard group by shard group, in each by series
// and time, all fields of a time on one line. It returns the number of lines. Memory is one block of each field of one
// series, and the keys of one measurement's series. Points that arrive meanwhile may or may not be in it.
func (s *Store) Export(ctx context.Context, w io.Writer, r Range) (int64, error) {
	e, done, err := s.use()
	if err != nil {
		return 0, err
	}
	defer done()
	if r.Bucket == "" {
		r.Bucket = s.opt.Bucket
	}
	n, err := e.export(ctx, w, r)
	if err != nil {
		return n, fmt.Errorf("export %s: %w", r.Bucket, err)
	}
	return n, nil
}

func (h *handler) export(w http.ResponseWriter, r *http.Request) {
	req, err := parseRange(r, h.opt.Bucket)
	if err != nil {
		respondError(w, http.StatusBadRequest, err)
		return
	}
	if _, err := h.engine.groups(req); err != nil {
		respondError(w, http.StatusNotFound, err)
		return
	}
	if err := h.queries.take(r.Context()); err != nil {
		respondError(w, http.StatusServiceUnavailable, err)
		return
	}
	defer h.queries.give()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if _, err := h.engine.export(r.Context(), &patient{w, http.NewResponseController(w)}, req); err != nil {
		h.opt.Log.Warn("export broken off", "bucket", req.Bucket, "err", err)
		panic(http.ErrAbortHandler) // so that the client sees a broken answer, not a short one
	}
}

// patient gives each piece of a long answer its own deadline.
type patient struct {
	io.Writer
	rc *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.rc.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	return p.Writer.Write(b)
}

func parseRange(r *http.Request, bucket string) (Range, error) {
	q := r.URL.Query()
	out := Range{Bucket: bucket, Device: q.Get("device")}
	if b := q.Get("bucket"); b != "" {
		out.Bucket = b
	}
	for key, t := range map[string]*time.Time{"from": &out.From, "to": &out.To} {
		text := q.Get(key)
		if text == "" {
			continue
		}
		var err error
		if *t, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return Range{}, fmt.Errorf("%s is not an RFC 3339 time: %q", key, text)
		}
	}
	return out, nil
}

// groups returns the range's shard groups from the oldest on.
func (e *engine) groups(r Range) ([]meta.ShardGroupInfo, error) {
	db, rp, err := splitBucket(r.Bucket)
	if err != nil {
		return nil, err
	}
	info := e.meta.Database(db)
	if info == nil {
		return nil, fmt.Errorf("%w: %q", errUnknownDatabase, db)
	}
	if rp == "" {
		rp = info.DefaultRetentionPolicy
	}
	policy := info.RetentionPolicy(rp)
	if policy == nil {
		return nil, fmt.Errorf("%w: %s", errUnknownPolicy, rp)
	}
	var out []meta.ShardGroupInfo
	for _, g := range policy.ShardGroups {
		after := !r.To.IsZero() && !g.StartTime.Before(r.To)
		before := !r.From.IsZero() && !g.EndTime.After(r.From)
		if !g.Deleted() && !after && !before {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b meta.ShardGroupInfo) int { return a.StartTime.Compare(b.StartTime) })
	return out, nil
}

func (e *engine) export(ctx context.Context, w io.Writer, r Range) (int64, error) {
	groups, err := e.groups(r)
	if err != nil {
		return 0, err
	}
	x := &exporter{out: bufio.NewWriterSize(w, 64<<10), from: math.MinInt64, to: math.MaxInt64, device: r.Device}
	// A time that nanoseconds cannot tell would come out as any other; it is before or after all points.
	if !r.From.IsZero() {
		x.from = nanoseconds(r.From)
	}
	if !r.To.IsZero() {
		x.to = nanoseconds(r.To) - 1
	}
	for _, g := range groups {
		for _, s := range g.Shards {
			shard := e.tsdb.Shard(s.ID)
			if shard == nil {
				continue // never written to, or dropped meanwhile
			}
			if err := x.shard(ctx, shard); err != nil {
				return x.lines, fmt.Errorf("shard %d: %w", s.ID, err)
			}
		}
	}
	return x.lines, x.out.Flush()
}

func nanoseconds(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, models.MinNanoTime)):
		return models.MinNanoTime
	case t.After(time.Unix(0, models.MaxNanoTime)):
		return models.MaxNanoTime + 1
	}
	return t.UnixNano()
}

// exporter writes series after series.
type exporter struct {
	out      *bufio.Writer
	from, to int64 // both included
	device   string
	lines    int64

	// reused from series to series
	line    []byte
	cursors []tsdb.CursorIterator // one per field, since each holds one cursor of a type
	columns []column
	fields  []string
}

func (x *exporter) shard(ctx context.Context, shard *tsdb.Shard) error {
	series, err := shard.CreateSeriesCursor(ctx, tsdb.SeriesCursorRequest{}, nil)
	if err != nil {
		return err
	}
	defer func() { _ = series.Close() }()
	x.cursors = x.cursors[:0]
	for {
		row, err := series.Next()
		if err != nil || row == nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if x.device != "" && row.Tags.GetString(deviceTag) != x.device {
			continue
		}
		if err := x.series(ctx, shard, row); err != nil {
			return err
		}
	}
}

func (x *exporter) series(ctx context.Context, shard *tsdb.Shard, row *tsdb.SeriesCursorRow) error {
	known := shard.MeasurementFields(row.Name)
	if known == nil {
		return nil
	}
	x.fields = x.fields[:0]
	known.ForEachField(func(name string, _ influxql.DataType) bool {
		x.fields = append(x.fields, name)
		return true
	})
	slices.Sort(x.fields)
	defer x.closeColumns()
	for _, name := range x.fields {
		if err := x.openColumn(ctx, shard, row, name); err != nil {
			return err
		}
	}
	x.line = append(models.AppendMakeKey(x.line[:0], row.Name, row.Tags), ' ')
	return x.merge(len(x.line))
}

func (x *exporter) openColumn(ctx context.Context, shard *tsdb.Shard, row *tsdb.SeriesCursorRow, field string) error {
	n := len(x.columns)
	if n == len(x.cursors) {
		c, err := shard.CreateCursorIterator(ctx)
		if err != nil {
			return err
		}
		x.cursors = append(x.cursors, c)
	}
	cursor, err := x.cursors[n].Next(ctx, &tsdb.CursorRequest{
		Name: row.Name, Tags: row.Tags, Field: field, Ascending: true, StartTime: x.from, EndTime: x.to,
	})
	if err != nil || cursor == nil {
		return err
	}
	col := newColumn(field, cursor)
	x.columns = append(x.columns, col)
	return x.columns[n].load()
}

func (x *exporter) closeColumns() {
	for _, c := range x.columns {
		c.cursor.Close()
	}
	x.columns = x.columns[:0]
}

// merge writes a line per time. The first n bytes of x.line are the series.
func (x *exporter) merge(n int) error {
	for {
		now, some := int64(math.MaxInt64), false
		for i := range x.columns {
			if c := &x.columns[i]; len(c.times) > 0 && c.times[0] <= now {
				now, some = c.times[0], true
			}
		}
		if !some {
			return nil
		}
		x.line = x.line[:n]
		for i := range x.columns {
			c := &x.columns[i]
			if len(c.times) == 0 || c.times[0] != now {
				continue
			}
			if len(x.line) > n {
				x.line = append(x.line, ',')
			}
			x.line = c.value(append(x.line, c.key...))
			if err := c.step(); err != nil {
				return err
			}
		}
		x.line = append(strconv.AppendInt(append(x.line, ' '), now, 10), '\n')
		if _, err := x.out.Write(x.line); err != nil {
			return err
		}
		x.lines++
	}
}
