package load_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/load"
)

func TestRunCountsWhatTheServerAcknowledged(t *testing.T) {
	srv := httptest.NewServer(load.NewEcho(load.EchoOptions{ReadBuffer: 4 << 10}))
	defer srv.Close()
	for _, spec := range []load.Spec{
		{Window: 16},
		{Window: 1, Points: 10},
		{Window: 16, Rate: 200, Burst: 4},
	} {
		spec.URL, spec.Tokens = strings.Replace(srv.URL, "http", "ws", 1)+"/v1/device", make([]string, 5)
		spec.Measure, spec.Settle = 100*time.Millisecond, 10*time.Second
		r, err := load.Run(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if r.Sent == 0 || r.Acked != r.Sent || r.Rejected != 0 || len(r.Devices) != 5 || r.Points != r.Acked*uint64(max(spec.Points, 1)) {
			t.Errorf("%+v", r)
		}
	}
}

func TestRunGoesOnBehindWhatWasAcknowledged(t *testing.T) {
	srv := httptest.NewServer(load.NewEcho(load.EchoOptions{ReadBuffer: 4 << 10}))
	defer srv.Close()
	spec := load.Spec{
		URL: strings.Replace(srv.URL, "http", "ws", 1) + "/v1/device", Tokens: []string{""}, Window: 4, From: []uint64{1000}, Start: 1,
		Measure: 50 * time.Millisecond, Settle: 10 * time.Second,
	}
	r, err := load.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if m := r.Devices[0]; m.Acked <= 1000 || m.Acked-1000 != r.Acked || r.Start != 1 {
		t.Errorf("%+v", r)
	}
}
