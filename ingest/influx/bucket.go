package influx

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// makeBucket creates the bucket of an InfluxDB 2.x, unless it is there. What is there stays as its owner made it; note tells
// if that keeps points for another time than was asked for. The client library has calls for it, whose errors do not tell a
// wrong token from one that may not make buckets.
func (s *Store) makeBucket(ctx context.Context, retention time.Duration) (note string, err error) {
	type rule struct {
		Type         string `json:"type"`
		EverySeconds int64  `json:"everySeconds"`
	}
	var found struct {
		Buckets []struct {
			RetentionRules []rule `json:"retentionRules"`
		}
	}
	err = s.call(ctx, http.MethodGet, "/api/v2/buckets?"+url.Values{"name": {s.bucket}, s.orgParam(): {s.org}}.Encode(), nil, &found)
	if err == nil && len(found.Buckets) > 0 {
		kept := time.Duration(0)
		for _, r := range found.Buckets[0].RetentionRules {
			kept = time.Duration(r.EverySeconds) * time.Second
		}
		if retention > 0 && kept != retention {
			note = s.keptOtherwise(kept)
		}
		return note, nil
	}
	if s.takesWrites(ctx) { // a token that may only write sees no bucket and no organization
		return "", nil
	}
	orgID, err := s.organization(ctx)
	if err != nil {
		return "", err
	}
	body := struct {
		OrgID          string `json:"orgID"`
		Name           string `json:"name"`
		RetentionRules []rule `json:"retentionRules"`
	}{orgID, s.bucket, []rule{{"expire", int64(retention.Seconds())}}}
	if err := s.call(ctx, http.MethodPost, "/api/v2/buckets", body, nil); err != nil {
		return "", fmt.Errorf("create bucket %q: %w", s.bucket, err)
	}
	return "", nil
}

// idForm is what an id of InfluxDB 2.x looks like.
var idForm = regexp.MustCompile("^[0-9a-f]{16}$")

// orgParam says whether influx.org names the organization or is its id; a write takes both in one place.
func (s *Store) orgParam() string {
	if idForm.MatchString(s.org) {
		return "orgID"
	}
	return "org"
}

// organization finds the id of the organization.
func (s *Store) organization(ctx context.Context) (id string, err error) {
	var found struct {
		Orgs []struct{ ID string }
	}
	err = s.call(ctx, http.MethodGet, "/api/v2/orgs?"+url.Values{s.orgParam(): {s.org}}.Encode(), nil, &found)
	if err == nil && len(found.Orgs) == 0 {
		err = &queryError{http.StatusNotFound, "not found"}
	}
	if err != nil {
		return "", fmt.Errorf("organization %q: %w", s.org, err)
	}
	return found.Orgs[0].ID, nil
}

// takesWrites reports whether a write gets as far as its body, which has no points: InfluxDB 2.x looks for the bucket and for
// leave to write there before it reads.
func (s *Store) takesWrites(ctx context.Context) bool {
	resp, err := s.send(ctx, http.MethodPost, "/api/v2/write?"+url.Values{"org": {s.org}, "bucket": {s.bucket}}.Encode(),
		"text/plain; charset=utf-8", strings.NewReader(""))
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusNoContent
}

// call asks InfluxDB 2's management API; body and into may be nil.
func (s *Store) call(ctx context.Context, method, path string, body, into any) error {
	var text io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("ask influx: %w", err)
		}
		text = bytes.NewReader(raw)
	}
	resp, err := s.send(ctx, method, path, "application/json", text)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("read the answer of influx: %w", err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		var fault struct{ Message string }
		if json.Unmarshal(raw, &fault) != nil || fault.Message == "" {
			fault.Message = http.StatusText(resp.StatusCode)
		}
		return &queryError{resp.StatusCode, fault.Message}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read the answer of influx: %w", err)
	}
	return nil
}
