package main

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// check is one part's health; nil error is well.
type check struct {
	name string
	fn   func() error
}

// adminHandler serves metrics and health, on a listener of its own.
func adminHandler(reg *prometheus.Registry, ready []check) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok", "version": version()})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		parts := make(map[string]string, len(ready))
		status := http.StatusOK
		for _, c := range ready {
			parts[c.name] = "ok"
			if err := c.fn(); err != nil {
				parts[c.name] = err.Error()
				status = http.StatusServiceUnavailable
			}
		}
		writeJSON(w, status, parts)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
