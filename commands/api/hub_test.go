package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// hub is an API on a real bus behind a real TLS listener, with devices and commands in memory.
type hub struct {
	t      *testing.T
	api    *api.API
	bus    *bus.Bus
	keys   string
	srv    *httptest.Server
	client *http.Client // keeps its connection: a handshake for each call would be most of the work
	log    *bytes.Buffer
	shapes *shapes
	stop   func()

	fleet  *fleet
	orders *orders
	rest   *rest
	shared *shared
	reg    *prometheus.Registry
}

const issuer = "fairlead"

func openBus(t *testing.T) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := bus.Open(ctx, bus.Options{
		Dir: t.TempDir(), Node: "n1", Sync: true, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// start runs a hub; change may alter its options.
func start(t *testing.T, change ...func(*api.Options)) *hub {
	t.Helper()
	return startOn(t, openBus(t), filepath.Join(t.TempDir(), "keys"), change...)
}

func startOn(t *testing.T, b *bus.Bus, keys string, change ...func(*api.Options)) *hub {
	t.Helper()
	h := &hub{
		t: t, bus: b, keys: keys, log: &bytes.Buffer{}, fleet: newFleet(), rest: &rest{version: 7},
		orders: &orders{all: map[string]*order{}}, reg: prometheus.NewRegistry(),
	}
	h.shared = newShared(h.orders)
	o := api.Options{
		Leases: h.shared, Approver: h.shared, Jobs: h.shared,
		Bus: b, Node: "n1", Issuer: issuer, KeysDir: keys, Registry: h.reg,
		Devices: h.fleet, Commands: h.orders, History: h.rest, Twin: h.rest, Bridge: h.rest, Nodes: h.rest, Trace: h.rest,
		Watcher: h.rest, Deadletters: letters{}, Types: fieldTypes{}, Enrollments: h.fleet.enrolls(), Transfer: records{h.fleet}, DeviceKeys: &signers{},
		Log: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&o)
	}
	a, err := api.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	h.api = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	h.srv = httptest.NewTLSServer(a.Handler())
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	h.client = &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls()}, Timeout: time.Minute}
	t.Cleanup(func() { h.stop(); h.client.CloseIdleConnections(); h.srv.Close() })
	h.shapes = newShapes(t, a)
	return h
}

// operator makes an operator and returns a token of it.
func (h *hub) operator(name string, role api.Role, selector string) string {
	h.t.Helper()
	if _, err := h.api.EnsureAdmin(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	admin, _, err := h.api.MintToken(h.t.Context(), api.FirstAdmin, "", time.Hour)
	if err != nil {
		h.t.Fatal(err)
	}
	got := h.call(admin, "POST", "/api/v1/operators", map[string]any{"name": name, "role": role, "selector": selector})
	got.want(http.StatusCreated)
	return got.field("token")
}

func (h *hub) admin() string {
	h.t.Helper()
	if _, err := h.api.EnsureAdmin(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	token, _, err := h.api.MintToken(h.t.Context(), api.FirstAdmin, "", time.Hour)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// answer is a response, read.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	raw    []byte
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d %s, want %d", a.what, a.status, a.raw, status)
	}
	return a
}

// refused wants a problem document of this code.
func (a *answer) refused(status int, code string) *answer {
	a.t.Helper()
	a.want(status)
	if got := a.field("code"); got != code {
		a.t.Fatalf("%s: code %q, want %q: %s", a.what, got, code, a.raw)
	}
	return a
}

// names wants a detail that names a thing.
func (a *answer) names(what string) {
	a.t.Helper()
	if got := a.field("detail"); !strings.Contains(got, what) {
		a.t.Errorf("%s: %q does not name %s", a.what, got, what)
	}
}

func (a *answer) json() map[string]any {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.raw, &v); err != nil {
		a.t.Fatalf("%s: %v: %s", a.what, err, a.raw)
	}
	return v
}

func (a *answer) field(name string) string {
	a.t.Helper()
	s, _ := a.json()[name].(string)
	return s
}

// into decodes the body.
func (a *answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.raw, v); err != nil {
		a.t.Fatalf("%s: %v: %s", a.what, err, a.raw)
	}
}

// call makes a request with a token and holds the answer against the OpenAPI document.
func (h *hub) call(token, method, path string, body any) *answer {
	h.t.Helper()
	return h.send(method, path, body, func(r *http.Request) {
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	})
}

func (h *hub) send(method, path string, body any, prepare func(*http.Request)) *answer {
	h.t.Helper()
	var in io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(body)
	default:
		data, err := json.Marshal(body)
		if err != nil {
			h.t.Fatal(err)
		}
		in = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.srv.URL+path, in)
	if err != nil {
		h.t.Fatal(err)
	}
	prepare(r)
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	a := &answer{t: h.t, what: method + " " + path, status: resp.StatusCode, header: resp.Header, raw: raw}
	h.shapes.check(h.t, a, r.URL.Path)
	return a
}

func (h *hub) tls() *tls.Config {
	return h.srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}

// audited returns the audit log, oldest first.
func (h *hub) audited() []api.Record {
	h.t.Helper()
	var list struct{ Records []api.Record }
	h.call(h.admin(), "GET", "/api/v1/audit?limit=1000", nil).want(http.StatusOK).into(&list)
	for i, j := 0, len(list.Records)-1; i < j; i, j = i+1, j-1 {
		list.Records[i], list.Records[j] = list.Records[j], list.Records[i]
	}
	return list.Records
}
