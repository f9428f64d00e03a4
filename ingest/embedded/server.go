package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"

	"golang.org/x/net/netutil"
)

// version is what clients see. They branch on its 1.8.
const version = "1.8.10-fairlead"

// handler answers the HTTP API.
type handler struct {
	opt     Options
	engine  *engine
	metrics *metrics
	auth    authorizer
	writes  slots
	queries slots
	mux     *http.ServeMux
}

func newHandler(o Options, e *engine, m *metrics) *handler {
	h := &handler{
		opt: o, engine: e, metrics: m, auth: newAuthorizer(o.Token),
		writes: newSlots(o.MaxWrites), queries: newSlots(o.MaxQueries), mux: http.NewServeMux(),
	}
	h.mux.HandleFunc("GET /ping", servePing)
	h.mux.HandleFunc("GET /health", serveHealth)
	h.mux.Handle("POST /write", h.authorized(h.writeV1))
	h.mux.Handle("POST /api/v2/write", h.authorized(h.writeV2))
	h.mux.Handle("GET /query", h.authorized(h.query))
	h.mux.Handle("POST /query", h.authorized(h.query))
	h.mux.Handle("GET /export", h.authorized(h.export))
	h.mux.Handle("POST /api/v2/query", h.authorized(serveFlux))
	return h
}

// ServeHTTP marks each answer with the version and turns a panic of the engine into a 500.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Influxdb-Version", version)
	w.Header().Set("X-Influxdb-Build", "OSS")
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			h.opt.Log.Error("embedded store panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			respondError(w, http.StatusInternalServerError, errors.New("internal error"))
		}
	}()
	h.mux.ServeHTTP(w, r)
}

// newServer returns the server and what ends the contexts of its requests.
func newServer(o Options, h *handler) (*http.Server, context.CancelFunc) {
	base, abort := context.WithCancel(context.Background())
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		// The longest way of a request; also what takes back the deadline that a handler has set on its connection.
		WriteTimeout:   queueTimeout + bodyTimeout + o.QueryTimeout + answerTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return base },
	}, abort
}

// limitConns lets further connections wait in the kernel's queue.
func limitConns(l net.Listener, n int) net.Listener { return netutil.LimitListener(l, n) }

// stopServer waits for the requests in flight, and aborts those that take too long.
func stopServer(srv *http.Server, abort context.CancelFunc, h *handler) error {
	defer abort()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := srv.Shutdown(ctx); err == nil {
		return nil
	}
	h.opt.Log.Warn("embedded store: aborting requests that do not end", "after", stopTimeout)
	abort()
	err := srv.Close()
	h.writes.fill() // Close does not wait for the handlers
	h.queries.fill()
	if err != nil {
		return fmt.Errorf("close embedded store's listener: %w", err)
	}
	return nil
}

func servePing(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Query().Get("verbose") {
	case "", "0", "false":
		w.WriteHeader(http.StatusNoContent)
	default:
		respond(w, http.StatusOK, map[string]string{"version": version})
	}
}

func serveHealth(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, map[string]any{
		"name": "influxdb", "message": "ready for queries and writes", "status": "pass",
		"checks": []string{}, "version": version,
	})
}

func serveFlux(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "Flux query service disabled. The embedded store speaks InfluxQL: use /query.", http.StatusForbidden)
}
