package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// trust is TLS that believes only the hub's own CA.
func (r ready) trust(t testing.TB) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(r.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", r.CAFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// problem is a refusal of the hub.
type problem struct {
	Title, Detail, Code, Hint, Path string
	Status                          int
	Time                            int64
}

// ask calls the operators' API and returns the status; answer, if not nil, takes the body.
func (r ready) ask(t testing.TB, method, path string, body, answer any) int {
	t.Helper()
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitBound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.URL+"/api/v1"+path, &sent)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.AdminToken)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: r.trust(t), DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	if answer != nil {
		if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
			t.Fatalf("%s %s: answer %s: %v", method, path, res.Status, err)
		}
	}
	return res.StatusCode
}

// addDevice makes a device and returns its token.
func (r ready) addDevice(t testing.TB, id, site string) string {
	t.Helper()
	var made struct{ Token string }
	if status := r.ask(t, "POST", "/devices", map[string]any{"id": id, "labels": map[string]string{"site": site}}, &made); status != http.StatusCreated {
		t.Fatalf("POST /devices %s: %d", id, status)
	}
	if made.Token == "" {
		t.Fatalf("POST /devices %s: no token", id)
	}
	return made.Token
}

// device is a device as the API shows it.
type device struct {
	ID, Link, Status, Cause, Model string
	Node, Session, Address         string
	Flaps                          int
	Conflict, Silent               bool
	Labels                         map[string]string
	Commands                       []struct{ Name string }
	Last                           map[string]struct {
		Time  int64
		Value any
	}
}

func (r ready) device(t testing.TB, id string) (d device, known bool) {
	t.Helper()
	return d, r.ask(t, "GET", "/devices/"+id, nil, &d) == http.StatusOK
}

// command is a command as the API shows it.
type command struct {
	ID, State, Evidence string
	Attempt             int
	Result              json.RawMessage
	Error               *struct{ Code, Message string }
	Events              []struct{ State, Evidence, Session string }
}

// states are the states that the command went through. A device that is away may leave it queued more than once.
func (c command) states() string {
	var out []string
	for _, e := range c.Events {
		out = append(out, e.State)
	}
	return strings.Join(slices.Compact(out), " ")
}

// send asks a device for something and waits for the end of it.
func (r ready) send(t testing.TB, device, name string, params any) (c command) {
	t.Helper()
	body := map[string]any{"name": name, "params": params}
	if status := r.ask(t, "POST", "/devices/"+device+"/commands?wait=30s", body, &c); status != http.StatusOK {
		t.Fatalf("command %s for %s: status %d, %+v", name, device, status, c)
	}
	return c
}

// sending is send while the test plays the device.
func (r ready) sending(t testing.TB, device, name string, params any) <-chan command {
	t.Helper()
	done, ended := make(chan command, 1), make(chan struct{})
	go func() { // a Fatal in here ends the goroutine, and the test by the zero command
		defer close(ended)
		defer close(done)
		done <- r.send(t, device, name, params)
	}()
	t.Cleanup(func() { <-ended })
	return done
}

// influxQL asks the InfluxDB of the hub, whichever that is. Times are nanoseconds, numbers json.Number.
func (r ready) influxQL(t testing.TB, query string) []influxtest.Series {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitBound)
	defer cancel()
	form := url.Values{"db": {r.InfluxBucket}, "q": {query}, "epoch": {"ns"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.InfluxURL+"/query", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Token "+r.InfluxToken)
	series, err := influxtest.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return series
}

// rows are the rows of the one series that the query has, each as text in the order of the columns.
func (r ready) rows(t testing.TB, query string) []string {
	t.Helper()
	var out []string
	for _, s := range r.influxQL(t, query) {
		for _, row := range s.Values {
			out = append(out, strings.Trim(fmt.Sprint(row), "[]"))
		}
	}
	return out
}

// wantRows waits until the query has as many rows, and compares them.
func (r ready) wantRows(t testing.TB, query string, want ...string) {
	t.Helper()
	var got []string
	until(t, fmt.Sprintf("%d rows of %s", len(want), query), func() bool {
		got = r.rows(t, query)
		// InfluxDB shows a point field by field while it is written: a row with a gap is not yet whole.
		return slices.Equal(got, want) || len(got) >= len(want) && !strings.Contains(strings.Join(got, " "), "<nil>")
	})
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n got %q\nwant %q", query, got, want)
	}
}
