package load

import (
	"math/bits"
	"time"
)

// subBits makes the buckets of a histogram at most 1/32 of their value wide.
const subBits = 5

// Histogram counts durations; its buckets are a 32nd of their value wide.
type Histogram struct {
	Counts []uint32 `json:"counts"`
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0)) >> 10 // about a microsecond
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)<<subBits + int(v>>shift)&(1<<subBits-1)
}

// upper is the largest duration of a bucket.
func upper(bucket int) time.Duration {
	if bucket < 1<<subBits {
		return time.Duration(bucket+1) << 10
	}
	shift := bucket>>subBits - 1
	v := uint64(bucket&(1<<subBits-1) | 1<<subBits)
	return time.Duration((v+1)<<shift) << 10
}

func (h *Histogram) record(d time.Duration) {
	b := bucketOf(d)
	for len(h.Counts) <= b {
		h.Counts = append(h.Counts, make([]uint32, b+1-len(h.Counts))...)
	}
	h.Counts[b]++
}

// Add counts what o counted as well.
func (h *Histogram) Add(o *Histogram) {
	if len(h.Counts) < len(o.Counts) {
		h.Counts = append(h.Counts, make([]uint32, len(o.Counts)-len(h.Counts))...)
	}
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
}

// Quantile is the duration that the share q of all does not exceed; 0 of none.
func (h *Histogram) Quantile(q float64) time.Duration {
	var all uint64
	for _, n := range h.Counts {
		all += uint64(n)
	}
	want, seen := uint64(q*float64(all)), uint64(0)
	for b, n := range h.Counts {
		if seen += uint64(n); n > 0 && seen >= want {
			return upper(b)
		}
	}
	return 0
}
