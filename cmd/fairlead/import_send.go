package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// The bounds of an import.
const (
	importRows   = 8000 // sent between two reports of how far the file is stored
	importLanes  = 4    // devices at a time
	frameRows    = 1000
	frameBody    = 60 << 10
	retryFloor   = 200 * time.Millisecond
	retryCeiling = 30 * time.Second
)

// sender sends rows as their devices would.
type sender struct {
	c        *client
	create   bool          // devices that the hub does not know
	patience time.Duration // with a hub that takes nothing
	refused  func(*rowFault)
	met      atomic.Bool // the hub has answered

	mu     sync.Mutex
	tokens map[string]string
	stored int64
}

// window sends rows of many devices and returns when all are stored or refused. Rows of one device go in order.
func (s *sender) window(ctx context.Context, all []row) error {
	byDevice := make(map[string][]row)
	for _, r := range all {
		byDevice[r.device] = append(byDevice[r.device], r)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(importLanes)
	for device, rows := range byDevice {
		g.Go(func() error {
			for len(rows) > 0 {
				n := frameOf(rows)
				if err := s.frame(ctx, device, rows[:n]); err != nil {
					return fmt.Errorf("device %s: %w", device, err)
				}
				rows = rows[n:]
			}
			return nil
		})
	}
	return g.Wait()
}

// frameOf is how many of the rows fit into one body.
func frameOf(rows []row) int {
	size := 0
	for i, r := range rows {
		if size += len(r.point) + 1; i > 0 && (i == frameRows || size > frameBody) {
			return i
		}
	}
	return len(rows)
}

// frame stores rows of one device. What the hub refuses it is sent without.
func (s *sender) frame(ctx context.Context, device string, rows []row) error {
	for len(rows) > 0 {
		p, err := s.post(ctx, device, rows)
		if err != nil {
			return err
		}
		if p == nil {
			s.mu.Lock()
			s.stored += int64(len(rows))
			s.mu.Unlock()
			return nil
		}
		tooMuch := p.Status == http.StatusRequestEntityTooLarge || p.Code == string(wire.TooManyPoints)
		bad, known := refusedPoint(p.Path, len(rows))
		switch {
		case len(rows) == 1:
			s.refuse(rows[0], p)
			return nil
		case known && !tooMuch:
			s.refuse(rows[bad], p)
			rows = append(rows[:bad:bad], rows[bad+1:]...)
		default:
			half := len(rows) / 2
			if err := s.frame(ctx, device, rows[:half]); err != nil {
				return err
			}
			rows = rows[half:]
		}
	}
	return nil
}

func (s *sender) refuse(r row, p *problem.Document) {
	what := p.Detail
	if _, rest, ok := strings.Cut(what, "]"); ok && strings.HasPrefix(what, "points[") {
		what = strings.TrimLeft(rest, ".: ")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused(&rowFault{r.line, what + " (" + p.Code + ")"})
}

// refusedPoint reads the index of a path such as points[3].fields.temp.
func refusedPoint(path string, n int) (int, bool) {
	rest, ok := strings.CutPrefix(path, "points[")
	if !ok {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, "]")
	i, err := strconv.Atoi(digits)
	return i, err == nil && i >= 0 && i < n
}
