package embedded

import (
	"time"

	"github.com/influxdata/influxdb/query"
)

// collector joins the pieces in which the query layer delivers an answer.
type collector struct {
	results []*query.Result
	left    int // rows that still fit
}

// add joins res to what there is. When no row is left the collector wants no more.
func (c *collector) add(res *query.Result) {
	c.cut(res)
	last := len(c.results) - 1
	if last < 0 || c.results[last].StatementID != res.StatementID {
		c.results = append(c.results, res)
		return
	}
	if res.Err != nil { // an error voids what the statement has said before
		c.results[last] = res
		return
	}
	whole := c.results[last]
	rows := res.Series
	if n := len(whole.Series); n > 0 {
		tail := whole.Series[n-1]
		for len(rows) > 0 && tail.SameSeries(rows[0]) {
			tail.Values = append(tail.Values, rows[0].Values...)
			tail.Partial = rows[0].Partial
			rows = rows[1:]
		}
	}
	whole.Series = append(whole.Series, rows...)
	whole.Messages = append(whole.Messages, res.Messages...)
	whole.Partial = res.Partial
}

// cut takes off the rows that do not fit and marks their series partial.
func (c *collector) cut(res *query.Result) {
	for i, row := range res.Series {
		if len(row.Values) < c.left {
			c.left -= len(row.Values)
			continue
		}
		row.Partial = row.Partial || res.Partial || len(row.Values) > c.left || i < len(res.Series)-1
		row.Values = row.Values[:c.left]
		res.Series, res.Partial = res.Series[:i+1], false // no further piece will come
		c.left = 0
		return
	}
}

var epochUnits = map[string]time.Duration{
	"u": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
}

// toEpoch turns times into numbers of the unit; an unknown unit is nanoseconds, as in InfluxDB.
func toEpoch(res *query.Result, epoch string) {
	if epoch == "" {
		return
	}
	unit, ok := epochUnits[epoch]
	if !ok {
		unit = time.Nanosecond
	}
	for _, row := range res.Series {
		for _, v := range row.Values {
			if t, ok := v[0].(time.Time); ok {
				v[0] = t.UnixNano() / int64(unit)
			}
		}
	}
}
