package load

import (
	"math/bits"
	"time"
)

// subBits makes the buckets of a histogram at most 1/32 of their value wide.
const subBits = 5

type histogram struct{ counts []uint32 }

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

func (h *histogram) record(d time.Duration) {
	b := bucketOf(d)
	for len(h.counts) <= b {
		h.counts = append(h.counts, make([]uint32, b+1-len(h.counts))...)
	}
	h.counts[b]++
}

func (h *histogram) add(o *histogram) {
	if len(h.counts) < len(o.counts) {
		h.counts = append(h.counts, make([]uint32, len(o.counts)-len(h.counts))...)
	}
	for i, n := range o.counts {
		h.counts[i] += n
	}
}

func (h *histogram) count() (all uint64) {
	for _, n := range h.counts {
		all += uint64(n)
	}
	return all
}

// quantile is the duration that the share q of all does not exceed; 0 of none.
func (h *histogram) quantile(q float64) time.Duration {
	want, seen := uint64(q*float64(h.count())), uint64(0)
	for b, n := range h.counts {
		if seen += uint64(n); n > 0 && seen >= want {
			return upper(b)
		}
	}
	return 0
}
