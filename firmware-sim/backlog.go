package sim

import "math"

// firstRing is the size of a backlog's ring before it has to grow.
const firstRing = 16

// backlog holds the points of one device until the hub has acked or rejected them. Points are numbered from 0 in the
// order they were made; a number never changes, so frames name the points they carry by it.
type backlog struct {
	width int // values of a point
	limit int // most points held

	times  []int64   // ring: Unix nanoseconds of each point
	values []float64 // ring: width values of each point; NaN: the field is absent
	gone   []bool    // ring: settled, but an older one is not yet

	base uint64 // oldest point held
	next uint64 // next to send in this session
	end  uint64 // after the newest
	high uint64 // every point below was sent at least once
}

func newBacklog(width, limit int) *backlog { return &backlog{width: width, limit: limit} }

func (b *backlog) len() int   { return int(b.end - b.base) }
func (b *backlog) full() bool { return b.len() >= b.limit }

// pending reports whether there is a point that this session has not sent.
func (b *backlog) pending() bool { return b.next < b.end }

// add takes a point in. When the backlog is full the oldest point makes room; if that one is on its way to the hub, the
// new point is not taken. It returns how many points were lost, 0 or 1.
func (b *backlog) add(at int64, row []float64) (lost int) {
	if b.full() {
		if b.next > b.base || b.limit == 0 {
			return 1
		}
		b.base++
		b.next = b.base
		b.high = max(b.high, b.base)
		lost = 1
	}
	if b.len() == len(b.times) {
		b.grow()
	}
	i := b.slot(b.end)
	b.times[i], b.gone[i] = at, false
	copy(b.values[i*b.width:(i+1)*b.width], row)
	b.end++
	return lost
}

func (b *backlog) slot(n uint64) int { return int(n % uint64(len(b.times))) }

func (b *backlog) grow() {
	old := *b
	size := min(max(2*len(b.times), firstRing), b.limit)
	b.times, b.gone, b.values = make([]int64, size), make([]bool, size), make([]float64, size*b.width)
	for n := b.base; n < b.end; n++ {
		from, to := old.slot(n), b.slot(n)
		b.times[to], b.gone[to] = old.times[from], old.gone[from]
		copy(b.values[to*b.width:(to+1)*b.width], old.values[from*b.width:(from+1)*b.width])
	}
}

// point returns the point of number n, which must be held.
func (b *backlog) point(n uint64) (at int64, row []float64, gone bool) {
	i := b.slot(n)
	return b.times[i], b.values[i*b.width : (i+1)*b.width], b.gone[i]
}

// settle lets go of the points first to before, whatever became of them, and returns how many it still held.
func (b *backlog) settle(first, before uint64) (count int) {
	for n := max(first, b.base); n < min(before, b.end); n++ {
		if i := b.slot(n); !b.gone[i] {
			b.gone[i] = true
			count++
		}
	}
	for b.base < b.end && b.gone[b.slot(b.base)] {
		b.base++
	}
	b.next = max(b.next, b.base)
	if b.base == b.end && len(b.times) > firstRing {
		b.times, b.values, b.gone = nil, nil, nil // a long outage is over: give the memory back
	}
	return count
}

// rewind makes every point held pending again: a new session begins.
func (b *backlog) rewind() { b.next = b.base }

// held counts the points that are not settled.
func (b *backlog) held() (count int) {
	for n := b.base; n < b.end; n++ {
		if !b.gone[b.slot(n)] {
			count++
		}
	}
	return count
}

// absent is the value of a field that a point does not have.
func absent() float64 { return math.NaN() }
