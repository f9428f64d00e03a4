package sim

import (
	"math"
	"strconv"
	"sync"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// column is one field of a device's points.
type column struct {
	key  []byte
	kind wire.Kind // Number, or Bool with values 0 and 1
}

func columns(bools string, keys ...string) []column {
	out := make([]column, len(keys))
	for i, k := range keys {
		out[i] = column{key: []byte(k), kind: wire.Number}
		if k == bools {
			out[i].kind = wire.Bool
		}
	}
	return out
}

// frame is a telemetry frame on its way: which points it carries. Points in between that were settled before it was made
// are not in it.
type frame struct {
	seq           uint64
	first, before uint64
	points        int
	again         int  // points that an earlier session had sent
	cut           bool // it was too big in bytes with all the points it might have had
	done          bool
}

// room is what a frame may hold.
type room struct{ points, bytes int }

// composer turns points into telemetry frames. It is big and short-lived, so devices share a pool of them.
type composer struct {
	points  []wire.Point
	fields  []wire.Field
	scratch []byte
	out     []byte
}

var composers = sync.Pool{New: func() any { return new(composer) }}

// shape is what every point of a device has in common.
type shape struct {
	measurement []byte
	columns     []column
	codec       wire.Codec
}

// compose encodes the next unsent points of b as one frame of at most the given size. The frame has no points if even a
// single one is too big: that one is then first to before. The bytes live until the next compose.
func (c *composer) compose(b *backlog, sh *shape, seq uint64, most room) (frame, []byte, error) {
	for limit, cut := most.points, false; ; limit, cut = limit/2, true {
		f := c.gather(b, sh, seq, limit)
		f.cut = cut
		if f.points == 0 {
			return f, nil, nil
		}
		out, err := wire.Append(c.out[:0], sh.codec, &wire.Telemetry{Seq: seq, Points: c.points})
		if err != nil {
			return f, nil, err
		}
		c.out = out
		if len(out) <= most.bytes {
			return f, out, nil
		}
		if f.points == 1 {
			f.points = 0
			return f, nil, nil
		}
		limit = min(limit, f.points)
	}
}

func (c *composer) gather(b *backlog, sh *shape, seq uint64, limit int) frame {
	c.points, c.fields, c.scratch = c.points[:0], c.fields[:0], c.scratch[:0]
	f := frame{seq: seq, first: b.next, before: b.next}
	for n := b.next; n < b.end && f.points < max(limit, 1); n++ {
		f.before = n + 1
		at, row, gone := b.point(n)
		if gone {
			continue
		}
		start := len(c.fields)
		for i, v := range row {
			if !math.IsNaN(v) {
				c.fields = append(c.fields, c.field(sh.columns[i], v))
			}
		}
		c.points = append(c.points, wire.Point{
			Measurement: sh.measurement, Time: at, HasTime: true, Fields: c.fields[start:len(c.fields):len(c.fields)],
		})
		f.points++
		if n < b.high {
			f.again++
		}
	}
	return f
}

var wordTrue, wordFalse = []byte("true"), []byte("false")

func (c *composer) field(col column, v float64) wire.Field {
	f := wire.Field{Key: col.key, Kind: col.kind}
	switch {
	case col.kind != wire.Bool:
		start := len(c.scratch)
		c.scratch = strconv.AppendFloat(c.scratch, v, 'g', -1, 64)
		f.Value = c.scratch[start:]
	case v != 0:
		f.Value = wordTrue
	default:
		f.Value = wordFalse
	}
	return f
}
