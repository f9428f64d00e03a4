package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/influxdata/influxdb/query"
)

// response is the body of a /query answer.
type response struct {
	Results []*query.Result `json:"results,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// format writes answers as the client accepts them. write may be called several times in a chunked answer.
type format interface {
	write(response) error
	fail(status int, err error)
}

// newFormat chooses what the Accept header weighs most, and JSON where it names nothing that is known here.
func newFormat(w http.ResponseWriter, r *http.Request) format {
	best, weight := "", 0.0
	for accept := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		kind, params, err := mime.ParseMediaType(accept)
		if err != nil {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		if err != nil {
			q = 1
		}
		switch kind {
		case "application/csv", "text/csv", "text/*", "application/json", "application/*", "*/*":
			if q > weight {
				best, weight = kind, q
			}
		}
	}
	switch best {
	case "application/csv":
		return newCSV(w, best)
	case "text/csv", "text/*":
		return newCSV(w, "text/csv")
	}
	return jsonFormat{w: w, pretty: r.FormValue("pretty") == "true"}
}

type jsonFormat struct {
	w      http.ResponseWriter
	pretty bool
}

func (f jsonFormat) fail(status int, err error) {
	errorHeaders(f.w, status, err)
	f.w.Header().Set("Content-Type", "application/json")
	f.w.WriteHeader(status)
	_ = f.write(response{Error: err.Error()}) // the client may be gone
}

func (f jsonFormat) write(res response) error {
	data, err := f.encode(res)
	if err != nil { // a value that JSON cannot say, such as +Inf
		var bad *json.UnsupportedValueError
		if errors.As(err, &bad) {
			err = bad
		}
		if data, err = f.encode(response{Error: err.Error()}); err != nil {
			return err
		}
	}
	f.w.Header().Set("Content-Type", "application/json")
	_, err = f.w.Write(data)
	return err
}

func (f jsonFormat) encode(res response) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	if f.pretty {
		enc.SetIndent("", "    ")
	}
	err := enc.Encode(res)
	return buf.Bytes(), err
}
