package commands

import (
	"context"
	"slices"
	"strconv"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Filter chooses commands. Empty fields choose all.
type Filter struct {
	Device string
	State  State
	Actor  string
	// Awaiting chooses those that wait for a second operator.
	Awaiting bool
	Cursor   string // of the page before
	Limit    int    // 0 is 50; at most 1000
}

// Page is a part of a list, newest first. An empty Cursor says that it is the last one; a page may be short, even
// empty, and yet not the last: each looks at a bounded part of the log.
type Page struct {
	Commands []Command
	Cursor   string
}

const (
	defaultPage = 50
	maxPage     = 1000
	listWindow  = 512    // sequences of the first look; each next one is wider
	listSpread  = 4      // times
	listWidest  = 65_536 // sequences of one look
	listReads   = 16_384 // messages of one page
)

// List returns commands without their events, newest first: open ones from memory, past ones from the log.
func (r *Router) List(ctx context.Context, f Filter) (Page, error) {
	if err := r.awaitReady(ctx); err != nil {
		return Page{}, err
	}
	if f.State != "" && !f.State.Valid() {
		return Page{}, invalid("state", "is none of the states of a command")
	}
	if f.Limit <= 0 {
		f.Limit = defaultPage
	}
	f.Limit = min(f.Limit, maxPage)
	below, skip, ok := parseCursor(f.Cursor)
	if !ok {
		return Page{}, invalid("cursor", "is not a cursor of this list")
	}
	if f.Awaiting || f.State != "" && !f.State.Final() {
		return r.listOpen(&f, below, skip), nil
	}
	return r.listLog(ctx, &f, below, skip)
}

// A cursor names the last command of a page: its sequence, and how many commands of that message were returned.
func parseCursor(s string) (below uint64, skip int, ok bool) {
	if s == "" {
		return 1<<64 - 1, 0, true
	}
	for i := range len(s) {
		if s[i] == '.' {
			seq, err1 := strconv.ParseUint(s[:i], 36, 64)
			n, err2 := strconv.ParseUint(s[i+1:], 36, 16)
			return seq, int(n), err1 == nil && err2 == nil && seq > 0
		}
	}
	return 0, 0, false
}

func formatCursor(below uint64, skip int) string {
	return strconv.FormatUint(below, 36) + "." + strconv.FormatUint(uint64(skip), 36)
}

func (f *Filter) fits(c *command) bool {
	return (f.Device == "" || c.device == f.Device) && (f.State == "" || c.state == f.State) && (f.Actor == "" || c.actor == f.Actor) &&
		(!f.Awaiting || c.state == Queued && c.awaiting())
}

// page gathers a list. seen counts the commands of the message that was looked at last.
type page struct {
	Page
	f    *Filter
	seq  uint64
	seen int
}

// full is told the place of each command looked at, fitting or not, and reports whether the page ends before it.
func (p *page) full(seq uint64) bool {
	if len(p.Commands) == p.f.Limit {
		p.Cursor = formatCursor(p.seq, p.seen)
		return true
	}
	if seq != p.seq {
		p.seq, p.seen = seq, 0
	}
	p.seen++
	return false
}

// past reports whether the command numbered n of the message at seq was on an earlier page.
func past(seq uint64, n int, below uint64, skip int) bool {
	return seq > below || seq == below && n < skip
}

func (r *Router) listOpen(f *Filter, below uint64, skip int) Page {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := page{f: f}
	n, seq := 0, uint64(0)
	for e := r.ledger.order.Back(); e != nil; e = e.Prev() {
		t := e.Value.(*tracked)
		if t.seq != seq {
			n, seq = 0, t.seq
		}
		n++
		if past(t.seq, n-1, below, skip) {
			if t.seq == below {
				p.seq, p.seen = t.seq, n
			}
			continue
		}
		if !f.fits(&t.command) {
			continue
		}
		if p.full(t.seq) {
			break
		}
		p.seen = n
		p.Commands = append(p.Commands, t.view(false))
	}
	return p.Page
}

// listLog looks back through the log, window by window.
func (r *Router) listLog(ctx context.Context, f *Filter, below uint64, skip int) (Page, error) {
	subject := ""
	if f.Device != "" {
		s, err := bus.CommandSubject(f.Device)
		if err != nil {
			return Page{}, ErrUnknownDevice
		}
		subject = s
	}
	first, last, err := r.history.bounds(ctx)
	if err != nil {
		return Page{}, err
	}
	p := page{f: f}
	high, width, reads := min(last, below), uint64(listWindow), 0
	for high >= max(first, 1) {
		low := max(first, 1)
		if high > low+width {
			low = high - width
		}
		found, n, err := r.createdIn(ctx, subject, low, high)
		if err != nil {
			return Page{}, err
		}
		done, err := r.fill(ctx, &p, found, below, skip)
		if err != nil || done {
			return p.Page, err
		}
		if reads += n; reads >= listReads && low > first {
			p.Cursor = formatCursor(low-1, 0)
			return p.Page, nil
		}
		if low == 1 {
			break
		}
		if high = low - 1; n < readBatch {
			width = min(width*listSpread, listWidest)
		}
	}
	return p.Page, nil
}

// createdIn returns the commands created between two sequences, as young as they were then, and how many messages
// it read.
func (r *Router) createdIn(ctx context.Context, subject string, low, high uint64) (found []*command, n int, err error) {
	err = r.history.read(ctx, subject, low, high, func(l *logged) error {
		n++
		for i := range l.Events {
			if e := &l.Events[i]; e.Kind == created && e.Order != nil {
				found = append(found, begin(l.device, l.seq, e))
			}
		}
		return nil
	})
	return found, n, err
}

// fill adds what fits, the youngest first, and reports whether the page is full.
func (r *Router) fill(ctx context.Context, p *page, found []*command, below uint64, skip int) (bool, error) {
	n, seq := 0, uint64(0)
	for _, young := range slices.Backward(found) {
		if young.seq != seq {
			n, seq = 0, young.seq
		}
		n++
		if past(young.seq, n-1, below, skip) {
			continue
		}
		if p.full(young.seq) {
			return true, nil
		}
		p.seen = n
		if p.f.Actor != "" && young.actor != p.f.Actor {
			continue
		}
		c, ok, err := r.grown(ctx, young)
		if err != nil {
			return false, err
		}
		if ok && (p.f.State == "" || c.State == p.f.State) {
			p.Commands = append(p.Commands, c)
		}
	}
	return false, nil
}

// grown is the command as it is today; ok is false for one that never came to be, because its key was taken.
func (r *Router) grown(ctx context.Context, young *command) (c Command, ok bool, err error) {
	r.mu.Lock()
	t, last := r.ledger.lookup(young.id), r.ledger.applied
	if t != nil {
		c = t.view(false)
	}
	r.mu.Unlock()
	if t != nil {
		return c, true, nil
	}
	if err := r.history.grow(ctx, young, last); err != nil {
		return Command{}, false, err
	}
	return young.view(false), young.state.Final(), nil
}
