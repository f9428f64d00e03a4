package embedded

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

var errTooLarge = errors.New(http.StatusText(http.StatusRequestEntityTooLarge))

var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

// readBody returns the decompressed body, and for an error the status that goes with it. The bytes are not reused:
// the parsed points and, for new series, the engine's index refer to them.
func (h *handler) readBody(w http.ResponseWriter, r *http.Request) (_ []byte, status int, err error) {
	limit := h.opt.MaxBodyBytes
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close") // the rest is not read
		return nil, http.StatusRequestEntityTooLarge, errTooLarge
	}
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return nil, http.StatusInternalServerError, err
	}
	var in io.Reader = http.MaxBytesReader(w, r.Body, limit)
	size := r.ContentLength
	if r.Header.Get("Content-Encoding") == "gzip" {
		z := gzipReaders.Get().(*gzip.Reader)
		defer gzipReaders.Put(z)
		if err := z.Reset(in); err != nil {
			return nil, http.StatusBadRequest, err
		}
		in, size = z, size*4 // a guess; the buffer grows
	}
	data, err := readAtMost(in, size, limit)
	var cut *http.MaxBytesError
	switch {
	case errors.Is(err, errTooLarge), errors.As(err, &cut):
		return nil, http.StatusRequestEntityTooLarge, errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, http.StatusRequestTimeout, err // influxd says 400, for which the writer would set the lines aside
	case err != nil:
		return nil, http.StatusBadRequest, err
	}
	return data, 0, nil
}

func readAtMost(in io.Reader, guess, limit int64) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 0, min(max(guess, 0), limit)+bytes.MinRead))
	n, err := buf.ReadFrom(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, errTooLarge
	}
	return buf.Bytes(), nil
}
