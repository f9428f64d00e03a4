package main_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// unfinished posts to a path of the hub's listener and sends less of the body than it says. It returns the status of the
// answer once the hub has closed the connection.
func (h *hub) unfinished(base, method, path string) (status int, err error) {
	u, err := url.Parse(base)
	if err != nil {
		return 0, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(waitBound))
	if u.Scheme == "https" {
		conf := h.trust(h.t)
		conf.ServerName = u.Hostname()
		conn = tls.Client(conn, conf)
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\n{", method, path, u.Host); err != nil {
		return 0, err
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, br) // to the end of the connection
	return resp.StatusCode, err
}

// TestBodiesEnd leaves no connection to whom promises a body and does not send it, whatever answers and without any secret.
func TestBodiesEnd(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	defer h.stop()
	var all sync.WaitGroup
	for _, c := range []struct {
		base, method, path string
		want               int
	}{
		{h.URL, "POST", "/x", http.StatusNotFound},
		{h.URL, "GET", "/console/", http.StatusOK},
		{h.URL, "GET", "/v1/device", http.StatusBadRequest},
		{h.URL, "PUT", "/v1/enroll", http.StatusMethodNotAllowed},
		{h.URL, "POST", "/v1/enroll", http.StatusBadRequest},
		{h.URL, "POST", "/v1/device/telemetry", http.StatusUnsupportedMediaType},
		{h.URL, "POST", "/api/v1/devices", http.StatusUnauthorized},
		{h.AdminURL, "POST", "/healthz", http.StatusMethodNotAllowed},
	} {
		all.Go(func() {
			got, err := h.unfinished(c.base, c.method, c.path)
			if err != nil || got != c.want {
				t.Errorf("%s %s: %d, then %v; want %d, and the connection closed", c.method, c.path, got, err, c.want)
			}
		})
	}
	all.Wait()
	// The control: a body that comes costs nobody the connection.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.trust(t)}, Timeout: waitBound}
	defer client.CloseIdleConnections()
	for _, again := range []bool{false, true} {
		var reused bool
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL+"/x", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound || reused != again {
			t.Fatalf("%d, connection used again: %v, want %v", resp.StatusCode, reused, again)
		}
	}
}
