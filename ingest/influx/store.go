// Package influx is the store as somebody's InfluxDB, or the embedded one: writes by influxdb-client-go's blocking API,
// history by InfluxQL. The hub renders, batches and repeats itself; the client's own retries lose points quietly.
package influx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api"
	influxhttp "github.com/influxdata/influxdb-client-go/v2/api/http"
	influxlog "github.com/influxdata/influxdb-client-go/v2/log"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
)

// Store is an InfluxDB with one bucket for all telemetry.
type Store struct {
	url    string
	token  string
	org    string
	bucket string
	gzip   bool
	http   *http.Client
	core   *http.Client // writes to an InfluxDB 3
	client influxdb2.Client
	write  api.WriteAPIBlocking
	flavor string
	found  atomic.Pointer[Found]

	silence silence
}

var _ ingest.Store = (*Store)(nil)

// maxReply bounds what is read of an error reply.
const maxReply = 64 << 10

// New returns the store that c names. Nothing is sent before the first write.
func New(c configs.Influx) *Store {
	influxlog.Log = nil // the client would write to the standard logger; every error comes back to us
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConnsPerHost: ingest.Lanes + 2,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
	}
	client := &http.Client{Transport: bounded{transport}, Timeout: c.Timeout}
	writer := &http.Client{Transport: stored{client.Transport}, Timeout: c.Timeout}
	opts := influxdb2.DefaultOptions().SetHTTPClient(writer).SetUseGZip(c.Gzip).SetPrecision(time.Nanosecond)
	s := &Store{
		url: strings.TrimSuffix(c.URL, "/"), token: string(c.Token), org: c.Org, bucket: c.Bucket, flavor: c.Flavor, gzip: c.Gzip,
		http: client, core: &http.Client{Transport: stored{transport}, Timeout: c.Timeout},
	}
	s.client = influxdb2.NewClientWithOptions(c.URL, s.token, opts)
	s.write = s.client.WriteAPIBlocking(c.Org, c.Bucket)
	return s
}

// Close lets go of idle connections.
func (s *Store) Close() {
	s.client.Close()
	s.http.CloseIdleConnections()
}

// Write stores lines of line protocol with nanosecond times; it fails with a *ingest.StoreError.
func (s *Store) Write(ctx context.Context, lines []byte) error {
	if s.isCore() {
		return s.writeCore(ctx, lines)
	}
	err := s.written(ctx, func(ctx context.Context) error { return s.write.WriteRecord(ctx, string(lines)) })
	if err == nil {
		return nil
	}
	refused := classify(err)
	if isCoreRefusal(refused) {
		return s.writeCore(ctx, lines)
	}
	return refused
}

// classify turns the client's error into what the writer has to do.
func classify(err error) *ingest.StoreError {
	out := &ingest.StoreError{Verdict: ingest.Unavailable, Err: err}
	var e *influxhttp.Error
	if !errors.As(err, &e) || e.StatusCode == 0 {
		return out
	}
	out.Status, out.RetryAfter = e.StatusCode, retryAfter(e.Header)
	if text := e.Header.Get("X-Influxdb-Error"); e.Message == "" && text != "" {
		out.Err = errors.New(text)
	}
	switch e.StatusCode {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		if ofStore(e.Header) {
			out.Verdict = ingest.Refused
		}
	case http.StatusRequestEntityTooLarge:
		out.Verdict = ingest.TooLarge
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		out.Verdict = ingest.Misconfigured
	}
	return out
}

// ofStore reports whether an error is a store's own. A proxy, or a server that expects TLS, answers 400 as well, to
// whatever is written: it says nothing of the lines, and they wait.
func ofStore(h http.Header) bool {
	for _, name := range []string{"X-Influxdb-Error", "X-Influxdb-Version", "X-Influxdb-Build", "X-Server-Hostname"} { // the last is VictoriaMetrics'
		if h.Get(name) != "" {
			return true
		}
	}
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && media == "application/json"
}

// maxRetryAfter bounds what a store may ask for.
const maxRetryAfter = 10 * time.Minute

// retryAfter reads both forms of the header [RFC9110 10.2.3].
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if s, err := strconv.Atoi(v); err == nil {
		return min(max(time.Duration(s)*time.Second, 0), maxRetryAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(at), 0), maxRetryAfter)
	}
	return 0
}

// stored lets pass only what a store answers to a write: 204, or an error. A proxy that answers 200 by itself, or sends the
// write elsewhere, which makes a GET without lines of it, has stored nothing.
type stored struct{ next http.RoundTripper }

func (s stored) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	if err != nil || resp.StatusCode == http.StatusNoContent || resp.StatusCode >= http.StatusBadRequest {
		return resp, err
	}
	resp.Body.Close()
	what := resp.Status
	if to := resp.Header.Get("Location"); to != "" {
		what += " (to " + to + ")"
	}
	return nil, fmt.Errorf("a write was answered by %q, which is not InfluxDB's answer; correct influx.url", what)
}

// bounded cuts error replies, which the client reads whole.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil || resp.StatusCode < http.StatusMultipleChoices {
		return resp, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxReply), resp.Body}
	return resp, nil
}

// get asks InfluxDB something by HTTP, with the token that writes carry.
func (s *Store) get(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	return s.send(ctx, method, path, "application/x-www-form-urlencoded", body)
}

func (s *Store) send(ctx context.Context, method, path, media string, body io.Reader) (*http.Response, error) {
	req, err := s.request(ctx, method, path, media, body)
	if err != nil {
		return nil, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask influx: %w", err)
	}
	return resp, nil
}

func (s *Store) request(ctx context.Context, method, path, media string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask influx: %w", err)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Token "+s.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", media)
	}
	return req, nil
}
