package embedded

import (
	"strconv"

	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/pkg/escape"
	"github.com/influxdata/influxdb/tsdb"
)

// column reads one field of one series in time order.
type column struct {
	key    []byte // "name=" as line protocol has it
	cursor tsdb.Cursor
	times  []int64 // of the values not yet taken of the block; empty at the end
	taken  int     // values taken of the block
	next   func() []int64
	append func(dst []byte, i int) []byte
}

func newColumn(field string, cursor tsdb.Cursor) column {
	c := column{key: append(escape.Bytes([]byte(field)), '='), cursor: cursor}
	switch cur := cursor.(type) {
	case tsdb.FloatArrayCursor:
		var block *tsdb.FloatArray
		c.next = func() []int64 { block = cur.Next(); return block.Timestamps }
		c.append = func(dst []byte, i int) []byte { return strconv.AppendFloat(dst, block.Values[i], 'g', -1, 64) }
	case tsdb.IntegerArrayCursor:
		var block *tsdb.IntegerArray
		c.next = func() []int64 { block = cur.Next(); return block.Timestamps }
		c.append = func(dst []byte, i int) []byte { return append(strconv.AppendInt(dst, block.Values[i], 10), 'i') }
	case tsdb.UnsignedArrayCursor:
		var block *tsdb.UnsignedArray
		c.next = func() []int64 { block = cur.Next(); return block.Timestamps }
		c.append = func(dst []byte, i int) []byte { return append(strconv.AppendUint(dst, block.Values[i], 10), 'u') }
	case tsdb.BooleanArrayCursor:
		var block *tsdb.BooleanArray
		c.next = func() []int64 { block = cur.Next(); return block.Timestamps }
		c.append = func(dst []byte, i int) []byte { return strconv.AppendBool(dst, block.Values[i]) }
	case tsdb.StringArrayCursor:
		var block *tsdb.StringArray
		c.next = func() []int64 { block = cur.Next(); return block.Timestamps }
		c.append = func(dst []byte, i int) []byte {
			return append(append(append(dst, '"'), models.EscapeStringField(block.Values[i])...), '"')
		}
	}
	return c
}

// load reads the next block.
func (c *column) load() error {
	c.times, c.taken = c.next(), 0
	return c.cursor.Err()
}

// value appends the first value not yet taken.
func (c *column) value(dst []byte) []byte { return c.append(dst, c.taken) }

// step takes it.
func (c *column) step() error {
	c.times, c.taken = c.times[1:], c.taken+1
	if len(c.times) == 0 {
		return c.load()
	}
	return nil
}
