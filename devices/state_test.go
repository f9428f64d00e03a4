package devices_test

import (
	"errors"
	"testing"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// stateLog keeps what is reported and refuses what says so.
type stateLog struct{ heard chan wire.StateReport }

func (l *stateLog) Reported(_ devices.Attachment, r *wire.StateReport) error {
	if string(r.Reported) == `{"refuse":true}` {
		return errors.New("document is too large")
	}
	l.heard <- *r
	return nil
}

func TestStateReports(t *testing.T) {
	l := &stateLog{heard: make(chan wire.StateReport, 10)}
	h := startHub(t, func(o *options) { o.states = l })
	c := h.connect(h.device("d"))
	c.send(`{"type":"state","reported":{"mode":"eco"},"version":7}`)
	if r := <-l.heard; string(r.Reported) != `{"mode":"eco"}` || r.Version != 7 {
		t.Errorf("heard %s %d", r.Reported, r.Version)
	}
	// What is not taken the device is told; the session goes on.
	c.send(`{"type":"state","reported":{"refuse":true}}`)
	if e, ok := c.read().(*wire.Error); !ok || e.Code != "state_refused" || e.Message != "document is too large" {
		t.Errorf("told %+v", e)
	}
	if err := h.registry.SendState(t.Context(), "d", wire.State{Desired: []byte(`{"mode":"off"}`), Version: 8}); err != nil {
		t.Fatal(err)
	}
	if st, ok := c.read().(*wire.State); !ok || string(st.Desired) != `{"mode":"off"}` || st.Version != 8 {
		t.Errorf("was sent %+v", st)
	}
	if err := h.registry.SendState(t.Context(), "e", wire.State{}); !errors.Is(err, devices.ErrNotConnected) {
		t.Errorf("nobody there: %v, want %v", err, devices.ErrNotConnected)
	}
}

func TestOnDelete(t *testing.T) {
	h := startHub(t)
	gone := make(chan string, 10)
	h.records.OnDelete(func(id string) { gone <- id })
	h.device("kept")
	h.device("d")
	if err := h.records.Delete(t.Context(), "d", 0); err != nil {
		t.Fatal(err)
	}
	if id := <-gone; id != "d" || len(gone) != 0 {
		t.Errorf("%s and %d more were deleted", id, len(gone))
	}
}
