package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
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

// post sends one body until the hub says what became of it: stored (nil), or refused.
func (s *sender) post(ctx context.Context, device string, rows []row) (*problem.Document, error) {
	body := []byte(`{"points":[`)
	for i, r := range rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, r.point...)
	}
	body = append(body, "]}"...)
	deadline := time.Now().Add(s.patience)
	renewed := false
	for wait := retryFloor; ; wait = min(2*wait, retryCeiling) {
		token, err := s.token(ctx, device)
		if err != nil {
			return nil, err
		}
		p, after, err := s.try(ctx, token, body)
		switch {
		case err == nil && p == nil:
			return nil, nil
		case err == nil && p.Status == http.StatusUnauthorized && !renewed:
			renewed = true
			s.forget(device)
			continue
		case err == nil && (p.Status == http.StatusBadRequest || p.Status == http.StatusRequestEntityTooLarge):
			return p, nil
		case err == nil && p.Status != http.StatusTooManyRequests && p.Status < http.StatusInternalServerError:
			return nil, refusalOf(p)
		case err == nil:
			err = refusalOf(p)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		if !sleep(ctx, max(wait, min(after, retryCeiling))) {
			return nil, ctx.Err()
		}
	}
}

func refusalOf(p *problem.Document) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return p
	}
	return hubRefusal(p.Status, raw)
}

// try sends one body once.
func (s *sender) try(ctx context.Context, token string, body []byte) (p *problem.Document, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.c.base.JoinPath("v1", "device", "telemetry").String(), bytes.NewReader(body))
	if err != nil {
		return nil, 0, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.c.http.Do(req)
	if err != nil {
		return nil, 0, s.c.unreachable(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRow))
	if err != nil {
		return nil, 0, s.c.unreachable(err)
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil, 0, nil
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		after = time.Duration(seconds) * time.Second
	}
	p = new(problem.Document)
	if json.Unmarshal(raw, p) != nil || p.Code == "" {
		p = problem.New(resp.StatusCode, "http_"+strconv.Itoa(resp.StatusCode), resp.Status)
	}
	p.Status = resp.StatusCode
	return p, after, nil
}

// token mints a device's token, once for many bodies.
func (s *sender) token(ctx context.Context, device string) (string, error) {
	s.mu.Lock()
	have := s.tokens[device]
	s.mu.Unlock()
	if have != "" {
		return have, nil
	}
	var got struct {
		Token string `json:"token"`
	}
	mint := request{method: http.MethodPost, path: "/devices/" + escape(device) + "/tokens", body: struct{}{}}
	status, _, err := s.c.do(ctx, mint, &got)
	if status == http.StatusNotFound {
		if !s.create {
			return "", errors.Join(err, errors.New("add it first, or give --create"))
		}
		if status, _, err = s.c.do(ctx, request{method: http.MethodPost, path: "/devices", body: map[string]string{"id": device}}, &got); status == http.StatusConflict {
			_, _, err = s.c.do(ctx, mint, &got)
		}
	}
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[device] = got.Token
	return got.Token, nil
}

func (s *sender) forget(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, device)
}
