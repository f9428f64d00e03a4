package wire

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
)

// at is the record's time; 0 is now.
func (m *senml) at() (int64, *Reject) {
	ns := m.time
	if m.has(senMLTime) {
		t, ok := seconds(m.items[senMLTime].text)
		if !ok {
			return 0, m.reject(InvalidTime, "t", "is out of range for seconds")
		}
		ns += t
	}
	if ns != 0 && ns < senMLAbsolute {
		ns += m.now
	}
	if ns > maxSeconds*int64(time.Second) || ns < -maxSeconds*int64(time.Second) {
		return 0, m.reject(InvalidTime, "t", "is out of range")
	}
	return ns, nil
}

// maxSeconds bounds times on both sides of 1970, so that two add up in 64 bits of nanoseconds.
const maxSeconds = 4_600_000_000

// seconds reads a number of seconds: what is written with digits and a point to the nanosecond, what has an exponent
// to the microsecond, which is what a float holds.
func seconds(lit []byte) (ns int64, ok bool) {
	v, err := strconv.ParseFloat(string(lit), 64)
	if err != nil || math.Abs(v) > maxSeconds {
		return 0, false
	}
	if len(lit) > plainDigits || bytes.ContainsAny(lit, "eE") {
		return int64(math.Round(v*1e6)) * 1e3, true
	}
	whole, frac, _ := strings.Cut(strings.TrimPrefix(string(lit), "-"), ".")
	frac = (frac + "000000000")[:9]
	s, err1 := strconv.ParseInt(whole, 10, 64)
	f, err2 := strconv.ParseInt(frac, 10, 64)
	if err1 != nil || err2 != nil {
		return 0, false
	}
	ns = s*int64(time.Second) + f
	if lit[0] == '-' {
		ns = -ns
	}
	return ns, true
}
