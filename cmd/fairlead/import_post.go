package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// bodyIncomplete is what the hub says of a body that came too slowly.
const bodyIncomplete = "body_incomplete"

// notHubs begins the codes of answers that were not the hub's own, but of something before it.
const notHubs = "http_"

// passing is an error that says nothing about what was sent: the same may be taken later.
type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

// passes reports whether a refusal is passing.
func passes(status int, code string) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError || code == bodyIncomplete || strings.HasPrefix(code, notHubs)
}

// post sends one body until the hub says what became of it: stored (nil), or refused for what its rows are.
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
	for wait := retryFloor; ; wait = min(2*wait, retryCeiling) {
		token, fresh, err := s.token(ctx, device)
		var p *problem.Document
		var after time.Duration
		if err == nil {
			p, after, err = s.try(ctx, token, body)
		}
		switch {
		case err == nil && (p == nil || aboutRows(p, len(rows))):
			return p, nil
		case err == nil && p.Status == http.StatusUnauthorized && !fresh: // it may have ended meanwhile
			s.forget(device, token)
			continue
		case err == nil:
			err = refusalOf(p)
		}
		var pass passing
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.As(err, &pass):
			return nil, err
		case time.Now().After(deadline):
			return nil, pass.error
		}
		if !sleep(ctx, max(wait, min(after, retryCeiling))) {
			return nil, ctx.Err()
		}
	}
}

// aboutRows reports whether fewer or other rows would fare better than the n that were refused.
func aboutRows(p *problem.Document, n int) bool {
	switch {
	case p.Status == http.StatusRequestEntityTooLarge:
		return true
	case p.Code == bodyIncomplete:
		return n > 1 // half of it comes in half the time
	}
	return p.Status == http.StatusBadRequest && slices.Contains(wire.Codes, wire.Code(p.Code))
}

func refusalOf(p *problem.Document) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return p
	}
	err = hubRefusal(p.Status, raw)
	if passes(p.Status, p.Code) {
		return passing{err}
	}
	return err
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
		return nil, 0, s.unanswered(s.c.unreachable(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRow))
	if err != nil {
		return nil, 0, s.unanswered(s.c.unreachable(err))
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil, 0, nil
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		after = time.Duration(seconds) * time.Second
	}
	return answerOf(resp.StatusCode, raw), after, nil
}

// unanswered says whether a call that was not answered may be made again: one that never was is told at once, for the
// address may be wrong.
func (s *sender) unanswered(err error) error {
	var unknown x509.UnknownAuthorityError
	if !s.met.Load() || errors.As(err, &unknown) {
		return err
	}
	return passing{err}
}

// answerOf reads a refusal.
func answerOf(status int, raw []byte) *problem.Document {
	p := new(problem.Document)
	if json.Unmarshal(raw, p) != nil || p.Code == "" {
		p = problem.New(status, notHubs+strconv.Itoa(status), http.StatusText(status))
	}
	p.Status = status
	return p
}

// token mints a device's token, once for many bodies. It is fresh if it was minted just now.
func (s *sender) token(ctx context.Context, device string) (token string, fresh bool, err error) {
	s.mu.Lock()
	have := s.tokens[device]
	s.mu.Unlock()
	if have != "" {
		return have, false, nil
	}
	var got struct {
		Token string `json:"token"`
	}
	mint := request{method: http.MethodPost, path: "/devices/" + escape(device) + "/tokens", body: struct{}{}}
	status, err := s.ask(ctx, mint, &got)
	if status == http.StatusNotFound && !passed(err) {
		if !s.create {
			return "", false, errors.Join(err, errors.New("add it first, or give --create"))
		}
		status, err = s.ask(ctx, request{method: http.MethodPost, path: "/devices", body: map[string]string{"id": device}}, &got)
		if status == http.StatusConflict {
			_, err = s.ask(ctx, mint, &got)
		}
	}
	if err != nil {
		return "", false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[device] = got.Token
	return got.Token, true, nil
}

func passed(err error) bool {
	var pass passing
	return errors.As(err, &pass)
}

// ask makes a call of the operator's API. An error is passing if the same call may do better later.
func (s *sender) ask(ctx context.Context, q request, v any) (status int, err error) {
	status, raw, err := s.c.do(ctx, q, v)
	switch {
	case status == 0 && err != nil:
		return 0, s.unanswered(err)
	case err == nil:
		s.met.Store(true)
	case status >= http.StatusBadRequest && passes(status, answerOf(status, raw).Code):
		err = passing{err}
	}
	return status, err
}

// forget drops a token, unless another took its place.
func (s *sender) forget(device, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens[device] == token {
		delete(s.tokens, device)
	}
}
