package devices

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/fairlead-hub/fairlead/devices/wire"

	"github.com/fairlead-hub/fairlead/internal/selector"
)

// Bounds of a page of devices.
const (
	DefaultPage = 50
	MaxPage     = 1000
)

// Query chooses records. Zero values choose everything.
type Query struct {
	Selector selector.Selector
	Status   Status // online, offline, never, or empty
	Search   string // part of an id, model, firmware or label value, in any case
	Cursor   string // of the page before
	Limit    int    // DefaultPage if zero

	Silent func(device string) bool // if not nil: must hold too
}

// Page is one page of records, by id. Cursor is empty on the last one.
type Page struct {
	Records []*Record
	Cursor  string
}

// List returns a page of the records that fit. status tells a device's presence; it is asked only if the query does.
func (r *Records) List(q Query, status func(device string) Status) (Page, error) {
	after, err := parseCursor(q.Cursor)
	if err != nil {
		return Page{}, err
	}
	if q.Limit == 0 {
		q.Limit = DefaultPage
	}
	if q.Limit < 0 || q.Limit > MaxPage {
		return Page{}, fmt.Errorf("%w: limit is %d, want 1 to %d", ErrInvalid, q.Limit, MaxPage)
	}
	switch q.Status {
	case "", Online, Offline, Never:
	default:
		return Page{}, fmt.Errorf("%w: status is %q, want online, offline or never", ErrInvalid, q.Status)
	}
	search := strings.ToLower(q.Search)
	var page Page
	for _, rec := range r.ordered(after) {
		if search != "" && !strings.Contains(rec.search, search) || !q.Selector.Match(rec.Labels) {
			continue
		}
		if q.Status != "" && status(rec.ID) != q.Status {
			continue
		}
		if q.Silent != nil && !q.Silent(rec.ID) {
			continue
		}
		if len(page.Records) == q.Limit {
			page.Cursor = cursorAfter(page.Records[q.Limit-1].ID)
			break
		}
		page.Records = append(page.Records, rec)
	}
	return page, nil
}

func cursorAfter(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

func parseCursor(c string) (string, error) {
	if c == "" {
		return "", nil
	}
	id, err := base64.RawURLEncoding.DecodeString(c)
	if err != nil || wire.CheckID(string(id)) != nil {
		return "", fmt.Errorf("%w: cursor is not one of ours", ErrInvalid)
	}
	return string(id), nil
}
