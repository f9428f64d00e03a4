package embedded

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/tsdb"
)

// target is where a write request wants its points.
type target struct{ db, rp, precision string }

func (h *handler) writeV1(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	t := target{db: q.Get("db"), rp: q.Get("rp"), precision: q.Get("precision")}
	switch t.precision {
	case "", "n", "ns", "u", "ms", "s", "m", "h":
	default:
		h.wrote(w, http.StatusBadRequest, fmt.Errorf("invalid precision %q (use n, u, ms, s, m or h)", t.precision))
		return
	}
	h.write(w, r, t)
}

func (h *handler) writeV2(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var t target
	switch p := q.Get("precision"); p {
	case "ns":
		t.precision = "n"
	case "us":
		t.precision = "u"
	case "ms", "s", "":
		t.precision = p
	default:
		h.wrote(w, http.StatusBadRequest, fmt.Errorf("invalid precision %q (use ns, us, ms or s)", p))
		return
	}
	var err error
	if t.db, t.rp, err = splitBucket(q.Get("bucket")); err != nil {
		h.wrote(w, http.StatusNotFound, err)
		return
	}
	h.write(w, r, t)
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, t target) {
	if t.db == "" {
		h.wrote(w, http.StatusBadRequest, errors.New("database is required"))
		return
	}
	if h.engine.meta.Database(t.db) == nil {
		h.wrote(w, http.StatusNotFound, fmt.Errorf("%w: %q", errUnknownDatabase, t.db))
		return
	}
	if err := h.writes.take(r.Context()); err != nil {
		h.wrote(w, http.StatusServiceUnavailable, err)
		return
	}
	defer h.writes.give()
	body, status, err := h.readBody(w, r)
	if err != nil {
		h.wrote(w, status, err)
		return
	}
	if q := r.URL.Query().Get("consistency"); q != "" {
		if _, err := models.ParseConsistencyLevel(q); err != nil {
			h.wrote(w, http.StatusBadRequest, err)
			return
		}
	}
	start := time.Now()
	status, err = h.store(t, body)
	h.metrics.writeSeconds.Observe(time.Since(start).Seconds())
	h.wrote(w, status, err)
}

// store parses and writes. The good lines of a partly bad body are stored, and the error names the bad ones.
func (h *handler) store(t target, body []byte) (status int, err error) {
	points, parseErr := models.ParsePointsWithPrecision(body, time.Now().UTC(), t.precision)
	if len(points) == 0 {
		if parseErr == nil || parseErr.Error() == "EOF" {
			return http.StatusNoContent, nil
		}
		return http.StatusBadRequest, parseErr
	}
	n := len(points) // the engine shortens the slice
	err = h.engine.writePoints(t.db, t.rp, points)
	var refused tsdb.PartialWriteError
	switch {
	case errors.As(err, &refused):
		h.count(n-refused.Dropped, refused.Dropped, 0)
		return http.StatusBadRequest, refused
	case errors.Is(err, errUnknownDatabase), errors.Is(err, errUnknownPolicy):
		h.count(0, 0, n)
		return http.StatusNotFound, err
	case badPoints(err):
		h.count(0, 0, n)
		return http.StatusBadRequest, err
	case err != nil:
		h.count(0, 0, n)
		return http.StatusInternalServerError, err
	case parseErr != nil:
		h.count(n, 0, 0)
		return http.StatusBadRequest, tsdb.PartialWriteError{Reason: parseErr.Error()}
	}
	h.count(n, 0, 0)
	return http.StatusNoContent, nil
}

func (h *handler) count(stored, dropped, failed int) {
	h.metrics.points.WithLabelValues(pointStored).Add(float64(stored))
	h.metrics.points.WithLabelValues(pointDropped).Add(float64(dropped))
	h.metrics.points.WithLabelValues(pointFailed).Add(float64(failed))
}

// wrote ends a write request.
func (h *handler) wrote(w http.ResponseWriter, status int, err error) {
	h.metrics.writes.WithLabelValues(statusClass(status)).Inc()
	if err != nil {
		respondError(w, status, err)
		return
	}
	w.WriteHeader(status)
}

func statusClass(status int) string { return string('0'+rune(status/100)) + "xx" }
