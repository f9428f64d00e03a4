package influx_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
)

// answering is a store that can stop to answer, and never answers then what it has taken on.
type answering struct {
	deaf   atomic.Bool
	pings  atomic.Int32
	writes atomic.Int32
	slow   chan struct{} // if set, a write is answered when this is closed
	heard  chan struct{} // closed with the third ping
}

func (a *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	write := strings.HasSuffix(r.URL.Path, "/write")
	if write {
		a.writes.Add(1)
	}
	_, _ = io.Copy(io.Discard, r.Body) // else the server does not see the client give up
	if a.deaf.Load() {
		if !write {
			a.pings.Add(1)
		}
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	if !write && a.pings.Add(1) == 3 && a.heard != nil {
		close(a.heard)
	}
	if write && a.slow != nil {
		<-a.slow
	}
	w.WriteHeader(http.StatusNoContent)
}

func patient(c *configs.Influx) { c.Timeout = 10 * patience }

// A write that a store has swallowed is given up when the store is back, long before influx.timeout.
func TestSwallowedWriteIsGivenUp(t *testing.T) {
	a := &answering{}
	a.deaf.Store(true)
	srv := httptest.NewServer(a)
	defer func() { srv.CloseClientConnections(); srv.Close() }()
	s := open(t, srv.URL, "", patient)
	done := make(chan error, 1)
	go func() { done <- s.Write(t.Context(), []byte("m a=1 1\n")) }()
	for a.pings.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	a.deaf.Store(false)
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "the store is back") {
			t.Errorf("the write that was swallowed: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the write still waits")
	}
	if err := s.Write(t.Context(), []byte("m a=1 1\n")); err != nil {
		t.Error(err)
	}
	if n := a.writes.Load(); n != 2 {
		t.Errorf("%d writes, want 2", n)
	}
}

// A store that is slow, and answers pings meanwhile, gets its time: the control.
func TestSlowWriteIsNotGivenUp(t *testing.T) {
	a := &answering{heard: make(chan struct{})}
	a.slow = a.heard
	srv := httptest.NewServer(a)
	defer srv.Close()
	s := open(t, srv.URL, "", patient)
	if err := s.Write(t.Context(), []byte("m a=1 1\n")); err != nil {
		t.Error(err)
	}
	if n := a.writes.Load(); n != 1 {
		t.Errorf("%d writes, want 1", n)
	}
}
