package api

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/internal/selector"
)

const (
	defaultLimit = 50
	maxLimit     = 1000
	maxText      = 256 // of a search text or a name in a query
)

// page reads cursor and limit.
func page(q url.Values) (Page, error) {
	p := Page{Cursor: q.Get("cursor"), Limit: defaultLimit}
	if len(p.Cursor) > maxText {
		return p, ErrInvalidCursor
	}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxLimit {
			return p, &Invalid{Code: "invalid_parameter", Path: "limit", Detail: fmt.Sprintf("limit %q: want 1 to %d", s, maxLimit)}
		}
		p.Limit = n
	}
	return p, nil
}

// optionalBool reads true or false; absent is nil.
func optionalBool(q url.Values, name string) (*bool, error) {
	s := q.Get(name)
	if s == "" {
		return nil, nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return nil, &Invalid{Code: "invalid_parameter", Path: name, Detail: fmt.Sprintf("%s %q is neither true nor false", name, s)}
	}
	return &b, nil
}

// duration reads 90s, 1h30m or 30d.
func duration(path, s string) (time.Duration, error) {
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		if d = time.Duration(n * float64(24*time.Hour)); n > 36_500 || n < -36_500 || n != n {
			err = fmt.Errorf("out of range")
		}
	} else if s == "0" {
		return 0, nil
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil {
		return 0, &Invalid{Code: "invalid_duration", Path: path, Detail: fmt.Sprintf("%s %q is not a duration; write 30s, 5m, 1h or 7d", path, s)}
	}
	return d, nil
}

// What has a time lies between these, which Unix nanoseconds can say. Other times of a request mean the nearer of them.
var earliest, latest = time.Unix(0, math.MinInt64).UTC().AddDate(1, 0, 0), time.Unix(0, math.MaxInt64).UTC().AddDate(-1, 0, 0)

// instant reads now, -1h, Unix milliseconds, or RFC 3339.
func instant(path, s string, now time.Time) (time.Time, error) {
	t, err := anyInstant(path, s, now)
	switch {
	case t.Before(earliest):
		t = earliest
	case t.After(latest):
		t = latest
	}
	return t, err
}

func anyInstant(path, s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 {
		return time.UnixMilli(ms), nil
	}
	if strings.HasPrefix(s, "-") {
		d, err := duration(path, s)
		return now.Add(d), err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, &Invalid{Code: "invalid_time", Path: path, Detail: fmt.Sprintf("%s %q is not a time; write now, -1h, Unix milliseconds or RFC 3339", path, s)}
	}
	return t, nil
}

func selectorOf(q url.Values) (selector.Selector, error) {
	s, err := selector.Parse(q.Get("selector"))
	if err != nil {
		return s, &Invalid{Code: "invalid_selector", Path: "selector", Detail: err.Error()}
	}
	return s, nil
}

// label bounds, as a device record may have them.
const (
	maxLabels     = 32
	maxLabelKey   = 64
	maxLabelValue = 256
)

func checkLabel(key string, value *string) error {
	path := "labels." + key
	if key == "" || len(key) > maxLabelKey || strings.ContainsAny(key, "=!, \t\r\n") || !printable(key) {
		return &Invalid{Code: "invalid_label", Path: path, Detail: fmt.Sprintf("label %q: want 1 to %d characters without space = ! or comma", key, maxLabelKey)}
	}
	if value != nil && (len(*value) > maxLabelValue || strings.ContainsAny(*value, ",=") || !printable(*value)) {
		return &Invalid{Code: "invalid_label", Path: path, Detail: fmt.Sprintf("the value of label %s: at most %d printable characters without = or comma", key, maxLabelValue)}
	}
	return nil
}

// printable reports whether s is valid UTF-8 without control characters.
func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return false
		}
	}
	return true
}
