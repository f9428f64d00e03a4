package load_test

import (
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/load"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

func TestRunCountsWhatTheServerAcknowledged(t *testing.T) {
	srv := httptest.NewServer(load.NewEcho(load.EchoOptions{ReadBuffer: 4 << 10}))
	defer srv.Close()
	for _, spec := range []load.Spec{
		{Window: 16},
		{Window: 1, Points: 10},
		{Window: 16, Rate: 200, Burst: 4},
		{Window: 16, Small: true, Units: 7, Points: 10, Frames: 20},
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
		if spec.Frames > 0 && r.Sent != 5*spec.Frames {
			t.Errorf("%d frames sent, want %d", r.Sent, 5*spec.Frames)
		}
	}
}

// TestRunPublishesByMQTT holds what the loader says against what a subscriber of a real broker gets.
func TestRunPublishesByMQTT(t *testing.T) {
	const devices, messages = 3, 100
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	got := broker.Sub("telemetry/#")
	r, err := load.Run(t.Context(), load.Spec{
		URL: "mqtt://" + broker.Addr, Tokens: make([]string, devices), Window: 16, Small: true, Frames: messages, Start: 1_700_000_000_000,
		Measure: 10 * time.Second, Settle: 10 * time.Second,
	})
	if err != nil || r.Acked != devices*messages || r.Sent != r.Acked {
		t.Fatalf("%+v %v", r, err)
	}
	seen := map[string]bool{}
	for range devices * messages {
		m := <-got
		device := m.Topic[len("telemetry/"):]
		if !strings.HasPrefix(m.Payload, "bench,device="+device+" temp=2") || seen[m.Payload] {
			t.Fatalf("%+v", m)
		}
		seen[m.Payload] = true
	}
	last := "bench,device=bench-00002 temp=29.93,humidity=42.2,voltage=3.29 1700000000099000000"
	if !seen[last] {
		t.Errorf("none is %s", last)
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

// TestRunEndsWithItsLastPhase moves a load on by hand: it ends long before its time, and not before its last phase.
func TestRunEndsWithItsLastPhase(t *testing.T) {
	srv := httptest.NewServer(load.NewEcho(load.EchoOptions{ReadBuffer: 4 << 10}))
	defer srv.Close()
	phase := new(atomic.Int32)
	done := make(chan load.Result)
	go func() {
		r, err := load.Run(t.Context(), load.Spec{
			URL: strings.Replace(srv.URL, "http", "ws", 1) + "/v1/device", Tokens: []string{""}, Window: 4,
			Measure: time.Hour, Settle: 10 * time.Second, Phase: phase, Last: 2,
		})
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	for range 2 {
		select {
		case r := <-done:
			t.Fatalf("ended in phase %d: %+v", phase.Load(), r)
		case <-time.After(100 * time.Millisecond):
			phase.Add(1)
		}
	}
	if r := <-done; len(r.Phases) != 3 || r.Phases[0].Frames == 0 || r.Phases[1].Frames == 0 {
		t.Errorf("%+v", r)
	}
}
