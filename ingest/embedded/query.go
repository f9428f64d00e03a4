package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/influxdata/influxdb/query"
	"github.com/influxdata/influxql"
)

// request is one /query, read and parsed.
type request struct {
	query   *influxql.Query
	epoch   string
	chunked bool
	opt     query.ExecutionOptions
}

func (h *handler) query(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	status := h.runQuery(w, r)
	h.metrics.queries.WithLabelValues(statusClass(status)).Inc()
	h.metrics.querySeconds.Observe(time.Since(start).Seconds())
}

// runQuery answers and returns the status that it answered with.
func (h *handler) runQuery(w http.ResponseWriter, r *http.Request) int {
	fail := func(status int, err error) int {
		newFormat(w, r).fail(status, err)
		return status
	}
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return fail(http.StatusInternalServerError, err)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxQueryBytes)
	req, err := parseRequest(r)
	if err != nil {
		return fail(http.StatusBadRequest, err)
	}
	ctx, cancel := context.WithCancel(r.Context()) // ends when the client goes away
	defer cancel()
	if err := h.queries.take(ctx); err != nil {
		return fail(http.StatusServiceUnavailable, err)
	}
	defer h.queries.give()
	// Beyond its own timeout a query ends only when its answer is taken or this deadline breaks the connection.
	if err := rc.SetWriteDeadline(time.Now().Add(h.opt.QueryTimeout + answerTimeout)); err != nil {
		return fail(http.StatusInternalServerError, err)
	}
	// net/http watches for the client's end of the connection only without a read deadline.
	if err := rc.SetReadDeadline(time.Time{}); err != nil {
		return fail(http.StatusInternalServerError, err)
	}
	req.opt.AbortCh = ctx.Done()
	results := h.engine.queries.ExecuteQuery(req.query, req.opt, nil)
	defer func() { // after cancel, so that nothing of the query is left when the handler returns
		cancel()
		for range results {
		}
	}()
	f := newFormat(w, r)
	if req.chunked {
		h.answerChunks(f, rc, req, results)
	} else {
		h.answerWhole(f, req, results)
	}
	return http.StatusOK
}

func (h *handler) answerChunks(f format, rc *http.ResponseController, req *request, results <-chan *query.Result) {
	for res := range results {
		toEpoch(res, req.epoch)
		if f.write(response{Results: []*query.Result{res}}) != nil || rc.Flush() != nil {
			return // the client is gone
		}
	}
}

func (h *handler) answerWhole(f format, req *request, results <-chan *query.Result) {
	whole := collector{left: h.opt.MaxRows}
	for res := range results {
		toEpoch(res, req.epoch)
		if whole.add(res); whole.left == 0 {
			break
		}
	}
	_ = f.write(response{Results: whole.results}) // the client may be gone
}

func parseRequest(r *http.Request) (*request, error) {
	in, err := queryText(r)
	if err != nil {
		return nil, err
	}
	p := influxql.NewParser(in)
	if raw := r.FormValue("params"); raw != "" {
		params, err := parseParams(raw)
		if err != nil {
			return nil, err
		}
		p.SetParams(params)
	}
	q, err := p.ParseQuery()
	if err != nil {
		return nil, fmt.Errorf("error parsing query: %w", err)
	}
	req := &request{
		query:   q,
		epoch:   strings.TrimSpace(r.FormValue("epoch")),
		chunked: r.FormValue("chunked") == "true",
		opt: query.ExecutionOptions{
			Database:         r.FormValue("db"),
			RetentionPolicy:  r.FormValue("rp"),
			ChunkSize:        defaultChunk,
			ReadOnly:         r.Method == http.MethodGet,
			Authorizer:       query.OpenAuthorizer,
			CoarseAuthorizer: query.OpenCoarseAuthorizer,
		},
	}
	if n, err := strconv.Atoi(r.FormValue("chunk_size")); req.chunked && err == nil && n > 0 {
		req.opt.ChunkSize = n
	}
	return req, nil
}

// queryText is the parameter q, or the uploaded file of that name.
func queryText(r *http.Request) (io.Reader, error) {
	if q := strings.TrimSpace(r.FormValue("q")); q != "" {
		return strings.NewReader(q), nil
	}
	if r.MultipartForm != nil && len(r.MultipartForm.File["q"]) > 0 {
		f, err := r.MultipartForm.File["q"][0].Open()
		if err != nil {
			return nil, err
		}
		defer f.Close()
		text, err := io.ReadAll(f) // bounded by maxQueryBytes
		return strings.NewReader(string(text)), err
	}
	return nil, errors.New(`missing required parameter "q"`)
}

// parseParams reads the values of $placeholders; whole numbers are integers, the others floats.
func parseParams(raw string) (map[string]any, error) {
	dec := json.NewDecoder(strings.NewReader(raw))
	dec.UseNumber()
	var params map[string]any
	if err := dec.Decode(&params); err != nil {
		return nil, fmt.Errorf("error parsing query parameters: %w", err)
	}
	for k, v := range params {
		n, ok := v.(json.Number)
		if !ok {
			continue
		}
		var err error
		if strings.Contains(n.String(), ".") {
			params[k], err = n.Float64()
		} else {
			params[k], err = n.Int64()
		}
		if err != nil {
			return nil, fmt.Errorf("error parsing json value: %w", err)
		}
	}
	return params, nil
}
