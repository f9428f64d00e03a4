// Package problem writes errors of the HTTP interfaces as problem documents [RFC9457]. The device endpoint and the
// operator API share it, so that a refusal reads the same everywhere.
package problem

import (
	"encoding/json"
	"net/http"
	"time"
)

// Document is one problem. Code is stable; Hint says what to do; Path names the faulty part of the request; Time is the
// hub's clock in Unix milliseconds, so that a device without one can set it.
type Document struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   string `json:"code"`
	Hint   string `json:"hint,omitempty"`
	Path   string `json:"path,omitempty"`
	Time   int64  `json:"time"`
}

// Error returns the detail, or the title.
func (d *Document) Error() string {
	if d.Detail != "" {
		return d.Detail
	}
	return d.Title
}

// New returns a document whose title is the status text.
func New(status int, code, detail string) *Document {
	return &Document{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// WithHint says what the caller can do.
func (d *Document) WithHint(hint string) *Document { d.Hint = hint; return d }

// WithPath names the faulty part of the request.
func (d *Document) WithPath(path string) *Document { d.Path = path; return d }

// Write sends the document as the response. Headers that belong to the refusal are set before.
func (d *Document) Write(w http.ResponseWriter) {
	if d.Time == 0 {
		d.Time = time.Now().UnixMilli()
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(d.Status)
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(d)
}
