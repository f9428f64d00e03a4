package wire

import "strconv"

// NewNumber returns a number field. v must be finite.
func NewNumber(key string, v float64) Field {
	return Field{Key: []byte(key), Kind: Number, Value: strconv.AppendFloat(nil, v, 'g', -1, 64)}
}

// NewBool returns a boolean field.
func NewBool(key string, v bool) Field {
	return Field{Key: []byte(key), Kind: Bool, Value: strconv.AppendBool(nil, v)}
}

// NewText returns a string field.
func NewText(key, v string) Field {
	return Field{Key: []byte(key), Kind: Text, Value: []byte(v)}
}

// AddPoint appends an empty point to t and returns it, reusing the room of earlier frames.
func (t *Telemetry) AddPoint() *Point {
	if len(t.Points) < cap(t.Points) {
		t.Points = t.Points[:len(t.Points)+1]
		p := &t.Points[len(t.Points)-1]
		*p = Point{Tags: room(p.Tags), Fields: room(p.Fields)}
		return p
	}
	t.Points = append(t.Points, Point{})
	return &t.Points[len(t.Points)-1]
}

// mostRoom is how many tags or fields a point keeps room for. One that had more was refused, and a thousand of them would be
// kept for ever.
const mostRoom = 128

func room[T any](of []T) []T {
	if cap(of) > mostRoom {
		return nil
	}
	return of[:0]
}

// Reset empties t and keeps its room.
func (t *Telemetry) Reset() {
	t.Seq, t.form = 0, formPoints
	t.Points = t.Points[:0]
}
