package bridge_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// log is a durable cursor over batches.
type log struct {
	mu      sync.Mutex
	batches [][]bridge.OutPoint // guarded by mu
	cursor  int                 // guarded by mu
	done    chan struct{}       // closed when the cursor is at the end
}

func newLog(batches ...[]bridge.OutPoint) *log {
	return &log{batches: batches, done: make(chan struct{})}
}

func (l *log) Next(ctx context.Context) (bridge.OutBatch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cursor == len(l.batches) {
		l.mu.Unlock()
		<-ctx.Done()
		l.mu.Lock()
		return bridge.OutBatch{}, ctx.Err()
	}
	return bridge.OutBatch{Points: l.batches[l.cursor], Done: func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cursor++
		if l.cursor == len(l.batches) {
			close(l.done)
		}
		return nil
	}}, nil
}

func out(device string, n int) bridge.OutPoint {
	return bridge.OutPoint{Device: device, Point: wire.Point{
		Measurement: []byte("env"), HasTime: true, Time: 1763832000123000000,
		Tags:   []wire.Tag{{Key: []byte("room"), Value: []byte("b2")}},
		Fields: []wire.Field{wire.NewNumber("n", float64(n)), wire.NewBool("ok", true), wire.NewText("s", `a"b`)},
	}}
}

func TestTelemetryGoesOut(t *testing.T) {
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	got := broker.Sub("out/#")
	cursor := newLog([]bridge.OutPoint{out("pump-1", 1), out("fan-1", 1), out("pump-2", 2)}, nil, []bridge.OutPoint{out("pump-1", 3)})
	r := start(t, newHub(t), configs.Connection{
		URL: broker.URL(), Out: []configs.OutMap{{Topic: "out/{device}/{measurement}", Devices: []string{"pump-*"}, QoS: 1}},
	}, func(p *bridge.Parts) { p.Out = func(string) bridge.OutSource { return cursor } })
	for _, want := range []string{"pump-1 1", "pump-2 2", "pump-1 3"} {
		var device string
		var n int
		if _, err := fmt.Sscanf(want, "%s %d", &device, &n); err != nil {
			t.Fatal(err)
		}
		m := <-got
		payload := fmt.Sprintf(`{"fields":{"n":%d,"ok":true,"s":"a\"b"},"measurement":"env","tags":{"room":"b2"},"time":1763832000123}`, n)
		if m.Topic != "out/"+device+"/env" || m.Payload != payload || m.QoS != 1 || m.Retained {
			t.Errorf("got %+v, want %s %s", m, want, payload)
		}
	}
	<-cursor.done
	r.wantStatus("published", func(s bridge.Status) bool { return s.Published == 3 })
}

// A broker that is dead stops the cursor and nothing else; when it is back everything arrives, in order.
func TestOutgoingSurvivesTheBroker(t *testing.T) {
	const n = 600 // more than the window
	broker := mosquittotest.Start(t, mosquittotest.Options{})
	batches := make([][]bridge.OutPoint, 0, n/10)
	for i := 0; i < n; i += 10 {
		var batch []bridge.OutPoint
		for j := range 10 {
			batch = append(batch, out("pump-1", i+j))
		}
		batches = append(batches, batch)
	}
	cursor := newLog(batches...)
	h := newHub(t)
	broker.Kill()
	r := start(t, h, configs.Connection{
		URL: broker.URL(), InFlight: 7, Out: []configs.OutMap{{Topic: "out/{device}", QoS: 1}},
	}, func(p *bridge.Parts) { p.Out = func(string) bridge.OutSource { return cursor } })
	r.wantStatus("down with a reason", func(s bridge.Status) bool { return s.LastError != "" })
	broker.Restart()
	r.wantState(bridge.StateConnected)
	broker.Kill() // somewhere in the middle
	broker.Restart()
	<-cursor.done
	if s := r.wantState(bridge.StateConnected); s.Published < n {
		t.Errorf("%d confirmed, want at least %d", s.Published, n)
	}
}
