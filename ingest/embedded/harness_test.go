package embedded_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/ingest/embedded"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

const (
	token  = "a-token-for-tests"
	bucket = "telemetry"
)

// hub is a running store and how to talk to it.
type hub struct {
	tb    testing.TB
	store *embedded.Store
	url   string
	stop  func() // waits for Run
}

func options(dir string) embedded.Options {
	return embedded.Options{
		Dir: dir, Listen: "127.0.0.1:0", Token: token, Bucket: bucket,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// start opens and runs a store until the test ends or stop is called.
func start(tb testing.TB, o embedded.Options) *hub {
	tb.Helper()
	s, err := embedded.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Open(); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	h := &hub{tb: tb, store: s, url: s.URL()}
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("run: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	}
	tb.Cleanup(h.stop)
	return h
}

func (h *hub) query(q string) []influxtest.Series {
	h.tb.Helper()
	series, err := query(h.url, q)
	if err != nil {
		h.tb.Fatalf("query %s: %v", q, err)
	}
	return series
}

func query(base, q string) ([]influxtest.Series, error) {
	form := url.Values{"db": {bucket}, "q": {q}, "epoch": {"ns"}}
	req, err := http.NewRequest(http.MethodPost, base+"/query", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Token "+token)
	return influxtest.Do(req)
}

func (h *hub) wantCount(q string, want int64) {
	h.tb.Helper()
	if got := influxtest.Total(h.tb, h.query(q)); got != want {
		h.tb.Errorf("%s = %d, want %d", q, got, want)
	}
}

// write sends line protocol in nanoseconds.
func (h *hub) write(lines string) (int, string) {
	h.tb.Helper()
	status, body, err := write(h.url, lines)
	if err != nil {
		h.tb.Fatal(err)
	}
	return status, body
}

func write(base, lines string) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, base+"/api/v2/write?bucket="+bucket, strings.NewReader(lines))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Token "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

func (h *hub) wantWritten(lines string) {
	h.tb.Helper()
	if status, body := h.write(lines); status != http.StatusNoContent {
		h.tb.Fatalf("write: %d %s", status, body)
	}
}
