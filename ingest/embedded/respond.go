package embedded

import (
	"encoding/json"
	"net/http"
)

// respondError writes an error as InfluxDB 1.8 does, on its v2 endpoint too.
func respondError(w http.ResponseWriter, status int, err error) {
	errorHeaders(w, status, err)
	respond(w, status, response{Error: err.Error()})
}

// errorHeaders sets what goes with an error's status, whatever the format of the body.
func errorHeaders(w http.ResponseWriter, status int, err error) {
	text := err.Error()
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="InfluxDB"`)
		return
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("X-Influxdb-Error", text[:min(len(text), maxErrorHeader)])
}

func respond(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client may be gone; nobody else cares
}
