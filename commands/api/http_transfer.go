package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// ndjson is one JSON value a line.
const ndjson = "application/x-ndjson"

// MaxImportLines is how many records one call imports.
const MaxImportLines = 1000

// exportEvery is how many lines of an export share one write deadline.
const exportEvery = 256

// importReport is what became of the lines of one call.
type importReport struct {
	Lines     int           `json:"lines"`
	Created   int           `json:"created"`
	Updated   int           `json:"updated"`
	Unchanged int           `json:"unchanged"`
	Failed    int           `json:"failed"`
	Errors    []ImportError `json:"errors"`
}

// ImportError says what is wrong with one line. Line counts from 1.
type ImportError struct {
	Line   int    `json:"line"`
	ID     string `json:"id,omitempty"`
	Code   string `json:"code"`
	Path   string `json:"path,omitempty"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// getExport streams: a fleet's records need not fit into memory twice.
func (a *API) getExport(c *call) (*reply, error) {
	q := c.URL.Query()
	sel, err := selectorOf(q)
	if err != nil {
		return nil, err
	}
	text := q.Get("q")
	if len(text) > maxText {
		return nil, &Invalid{Code: "invalid_parameter", Path: "q", Detail: fmt.Sprintf("q has more than %d bytes", maxText)}
	}
	limits := http.NewResponseController(c.w)
	c.w.Header().Set("Content-Type", ndjson)
	c.w.Header().Set("Cache-Control", "no-store")
	out := bufio.NewWriterSize(c.w, 64<<10)
	enc := json.NewEncoder(out)
	n := 0
	err = a.opts.Transfer.Export(c.patience, DeviceQuery{
		Selector: joinSelectors(append([]selector.Selector{sel}, c.who.bind...)),
		Match:    func(labels map[string]string) bool { return sel.Match(labels) && c.who.sees(labels) },
		Text:     text,
	}, func(d DeviceRecord) bool {
		if n%exportEvery == 0 {
			_ = limits.SetWriteDeadline(time.Now().Add(writeTimeout)) // as for every answer
		}
		n++
		return c.patience.Err() == nil && enc.Encode(d) == nil
	})
	if err != nil && n == 0 {
		return nil, err
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil || c.patience.Err() != nil {
		panic(http.ErrAbortHandler) // a list that is cut off must not look whole
	}
	_ = limits.SetWriteDeadline(time.Time{})
	a.metrics.answered(c.endpoint.name, http.StatusOK, 0)
	return &reply{taken: true}, nil
}

// postImport makes and changes devices, one a line. A line that is wrong does not stop the others.
func (a *API) postImport(c *call) (*reply, error) {
	lines, err := c.lines()
	if err != nil {
		return nil, err
	}
	rep := importReport{Errors: []ImportError{}}
	var good []DeviceRecord
	var at []int
	for i, line := range lines {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		rep.Lines++
		d, err := a.importLine(c, line)
		if err != nil {
			rep.fail(i+1, d.ID, err)
			continue
		}
		good, at = append(good, d), append(at, i+1)
	}
	for i, done := range a.opts.Transfer.Import(c.Context(), good) {
		switch {
		case done.Err != nil:
			rep.fail(at[i], good[i].ID, done.Err)
		case done.Made:
			rep.Created++
		case done.Changed:
			rep.Updated++
		default:
			rep.Unchanged++
		}
	}
	c.audit.Detail = fmt.Sprintf("%d lines: %d created, %d updated, %d unchanged, %d failed", rep.Lines, rep.Created, rep.Updated, rep.Unchanged, rep.Failed)
	return ok(rep), nil
}

func (r *importReport) fail(line int, id string, err error) {
	doc, _ := toProblem(err)
	r.Failed++
	r.Errors = append(r.Errors, ImportError{Line: line, ID: clip(id), Code: doc.Code, Path: doc.Path, Detail: doc.Detail, Hint: doc.Hint})
}

// importLine reads and checks one record, and that the operator may have a device such as it.
func (a *API) importLine(c *call, line []byte) (DeviceRecord, error) {
	var d DeviceRecord
	if err := decodeStrict(line, &d); err != nil {
		var whose struct {
			ID string `json:"id"`
		}
		_ = json.Unmarshal(line, &whose) // the report names the device where the line does
		return DeviceRecord{ID: whose.ID}, err
	}
	if err := wire.CheckID(d.ID); err != nil {
		return d, &Invalid{Code: "invalid_id", Path: "id", Detail: err.Error(), Hint: "1-64 characters of A-Z a-z 0-9 _ : -, a letter or digit first"}
	}
	if err := checkNewDevice(NewDevice{ID: d.ID, Labels: d.Labels, Keys: d.Keys}); err != nil {
		return d, err
	}
	for path, at := range map[string]*int64{"created": d.Created, "tokens_not_before": d.TokensNotBefore} {
		if at != nil && *at < 0 {
			return d, &Invalid{Code: "invalid_time", Path: path, Detail: path + ": want Unix milliseconds"}
		}
	}
	var err error
	if d.ExpectEvery, err = expectation(d.ExpectEvery); err != nil || !c.who.bounded() {
		return d, err
	}
	labels, known := a.opts.Devices.Labels(d.ID)
	if known && !c.who.sees(labels) {
		return d, ErrDeviceExists
	}
	if d.Labels != nil || !known {
		labels = d.Labels
	}
	if !c.who.sees(labels) {
		return d, a.outside(c, "a device with these labels")
	}
	return d, nil
}

// lines reads a body of JSON lines.
func (c *call) lines() ([][]byte, error) {
	limits := http.NewResponseController(c.w)
	_ = limits.SetReadDeadline(time.Now().Add(bodyTimeout)) // as for every body
	data, err := io.ReadAll(c.Body)
	if err != nil {
		return nil, bodyError(err)
	}
	_ = limits.SetReadDeadline(time.Time{})
	t, _, _ := strings.Cut(c.Header.Get("Content-Type"), ";")
	if t = strings.ToLower(strings.TrimSpace(t)); t != "" && t != ndjson && !isJSON(t) {
		return nil, &Invalid{Code: "unsupported_media_type", Detail: fmt.Sprintf("the body is %q, want %s", t, ndjson), Status: http.StatusUnsupportedMediaType}
	}
	lines := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n"))
	if len(lines) > MaxImportLines {
		return nil, &Invalid{Code: "too_many_lines", Detail: fmt.Sprintf("%d lines, at most %d in one call", len(lines), MaxImportLines), Hint: "send them in parts, as fairlead devices import does"}
	}
	return lines, nil
}
