package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// forever is a query that runs for hours: it makes a row for each nanosecond of a day.
const forever = "SELECT mean(v) FROM m WHERE time >= 0s AND time < 1d GROUP BY time(1ns) fill(0)"

func TestQueryEndsWhenTheClientGoes(t *testing.T) {
	o := options(t.TempDir())
	o.MaxQueries = 2
	h := start(t, o)
	h.wantWritten("m v=1 1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		params := url.Values{"db": {bucket}, "q": {"SELECT count(mean) FROM (" + forever + ")"}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/query?"+params.Encode(), nil)
		if err != nil {
			gone <- err
			return
		}
		req.Header.Set("Authorization", "Token "+token)
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		gone <- err
	}()
	running := func() int { return len(h.query("SHOW QUERIES")[0].Values) } // itself is one
	await(t, "the query runs", func() bool { return running() == 2 })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v", err)
	}
	await(t, "the query has ended", func() bool { return running() == 1 })
}

func TestQueryTimeout(t *testing.T) {
	o := options(t.TempDir())
	o.QueryTimeout = 50 * time.Millisecond
	h := start(t, o)
	h.wantWritten("m v=1 1")
	_, err := query(h.url, "SELECT count(mean) FROM ("+forever+")")
	if err == nil || err.Error() != "query-timeout limit exceeded" {
		t.Errorf("got %v", err)
	}
}

func TestStopEndsRunningQueries(t *testing.T) {
	h := start(t, options(t.TempDir()))
	h.wantWritten("m v=1 1")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = query(h.url, "SELECT count(mean) FROM ("+forever+")")
	}()
	await(t, "the query runs", func() bool { return len(h.query("SHOW QUERIES")[0].Values) == 2 })
	h.stop()
	<-ended
}

func TestRowsAreCut(t *testing.T) {
	o := options(t.TempDir())
	o.MaxRows = 25
	h := start(t, o)
	var lines strings.Builder
	for i := range 20 {
		fmt.Fprintf(&lines, "m,d=a v=%d %d\nm,d=b v=%d %d\n", i, i, i, i)
	}
	h.wantWritten(lines.String())
	get := func(q string) string {
		params := url.Values{"db": {bucket}, "q": {q}, "epoch": {"ns"}}
		got := send(t, h.url, "u", token, call{method: "GET", path: "/query", params: params})
		return got.body
	}
	if body := get("SELECT v FROM m WHERE d='a'"); strings.Contains(body, "partial") {
		t.Errorf("20 rows: %s", body)
	}
	body := get("SELECT v FROM m GROUP BY d")
	if !strings.Contains(body, `[4,4]],"partial":true}]}]}`) || strings.Count(body, "[") != 1+1+2*(1+1)+25 {
		t.Errorf("40 rows: %s", body)
	}
	if body := get(forever); !strings.Contains(body, `"partial":true`) || strings.Count(body, "[") != 1+1+2+25 {
		t.Errorf("endless rows: %s", body)
	}
}

func TestTooManyQueriesWait(t *testing.T) {
	o := options(t.TempDir())
	o.MaxQueries = 1
	h := start(t, o)
	h.wantWritten("m v=1 1")
	results := make(chan error)
	const n = 20
	for range n {
		go func() {
			_, err := query(h.url, "SELECT v FROM m")
			results <- err
		}()
	}
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// A write that does not come whole says nothing of its lines: what is answered has the writer send them again.
func TestWriteThatDoesNotComeWhole(t *testing.T) {
	h := start(t, options(t.TempDir()))
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST /api/v2/write?bucket=%s&precision=ns HTTP/1.1\r\nHost: h\r\nAuthorization: Token %s\r\nContent-Length: 100\r\n\r\nm v=1 1\n", bucket, token); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("%s, want 408", resp.Status)
	}
	h.wantWritten("m v=2 2") // the control
	if got := h.query("SELECT count(v) FROM m")[0].Values[0][1]; fmt.Sprint(got) != "1" {
		t.Errorf("%v points, want the one that came whole", got)
	}
}
