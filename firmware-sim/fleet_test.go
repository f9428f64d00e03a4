package sim_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	sim "github.com/fairlead-hub/fairlead/firmware-sim"
)

// A fleet on links that break all the time: whatever is made arrives, each point once in effect.
func TestFleetLosesNothing(t *testing.T) {
	h := newHub(t).start()
	u := h.uplink(wire.CBOR)
	faults, err := sim.ParseFaults("disconnect=250ms")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := sim.FleetOptions{Devices: 8, Rate: 50, Prefix: "unit", Spread: 10 * time.Millisecond, Faults: faults, Out: &out}
	f, err := sim.NewFleet(u, o)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, f)
	until(t, "breaks and points", func() bool { g := f.Tally(); return g.Reconnects > 16 && g.Acked > 400 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got, kept := f.Tally(), 0
	for _, id := range o.IDs() {
		kept += len(h.final(id))
	}
	if got.Unacked != 0 || got.Dropped != 0 || got.Acked != got.Made || kept != int(got.Made) {
		t.Errorf("%v made=%d, the hub holds %d", got, got.Made, kept)
	}
	want := fmt.Sprintf("devices=8 sent=%d acked=%d unacked=0 rejected=0 resent=%d reconnects=%d commands=0",
		got.Sent, got.Acked, got.Resent, got.Reconnects)
	if !strings.Contains(out.String(), want) {
		t.Errorf("printed %s\nwant %s", out.String(), want)
	}
}

func TestFleetEndsWhenAllAreSentAway(t *testing.T) {
	h := newHub(t)
	h.script = func(_ int, s *link) {
		s.bye(4501, "disabled", 0)
		for s.next() != nil {
		}
	}
	h.start()
	f, err := sim.NewFleet(h.uplink(wire.JSON), sim.FleetOptions{Devices: 3, Rate: 1, Spread: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var stopped *sim.Stopped
	if err := finish(t, f); !errors.As(err, &stopped) || stopped.Device != "thermostat-1" || stopped.Code != 4501 {
		t.Errorf("got %v", err)
	}
	if f.Tally().Stopped != 3 {
		t.Error(f.Tally())
	}
}

func TestFleetOptionsAreChecked(t *testing.T) {
	u := &sim.Uplink{URL: "wss://localhost/v1/device", Tokens: idTokens{}}
	for name, o := range map[string]sim.FleetOptions{
		"no devices":    {Rate: 1},
		"too many":      {Rate: 1, Devices: 1_000_000},
		"no rate":       {Devices: 1},
		"too fast":      {Devices: 1, Rate: 5000},
		"unknown model": {Devices: 1, Rate: 1, Models: []string{"submarine"}},
		"bad prefix":    {Devices: 1, Rate: 1, Prefix: "a.b"},
	} {
		if _, err := sim.NewFleet(u, o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// The same seed makes the same readings, another one others, and all of them are believable.
func TestSignals(t *testing.T) {
	bounds := map[string]map[string][2]float64{
		"thermostat": {"temp": {5, 32}, "hum": {10, 90}, "setpoint": {5, 30}, "heating": {0, 1}},
		"pump":       {"flow": {0, 90}, "pressure": {0, 20}, "rpm": {0, 3100}, "current": {0, 80}, "running": {0, 1}},
		"meter":      {"power": {0, 4000}, "voltage": {207, 253}, "current": {0, 20}, "energy_kwh": {0, 5000}, "relay": {0, 1}},
		"tracker":    {"lat": {46, 54}, "lon": {5, 15}, "speed": {0, 130}, "heading": {0, 360}, "battery": {0, 100}},
	}
	for _, model := range sim.Models() {
		t.Run(model, func(t *testing.T) {
			one, same, other := sim.Signal(model, 7, 3000), sim.Signal(model, 7, 3000), sim.Signal(model, 8, 3000)
			if fmt.Sprint(one) != fmt.Sprint(same) {
				t.Error("the same seed gave other readings")
			}
			if fmt.Sprint(one) == fmt.Sprint(other) {
				t.Error("another seed gave the same readings")
			}
			low, high := map[string]float64{}, map[string]float64{}
			for i, row := range one {
				for key, v := range row {
					if i == 0 {
						low[key], high[key] = v, v
					}
					low[key], high[key] = min(low[key], v), max(high[key], v)
				}
			}
			for key, b := range bounds[model] {
				if low[key] < b[0] || high[key] > b[1] {
					t.Errorf("%s goes from %v to %v", key, low[key], high[key])
				}
			}
			if len(low) != len(bounds[model]) {
				t.Errorf("fields %v", low)
			}
			for _, key := range map[string][]string{
				"thermostat": {"temp", "hum", "heating"}, "pump": {"flow", "pressure", "current"},
				"meter": {"power", "voltage", "energy_kwh"}, "tracker": {"lat", "lon", "speed", "battery"},
			}[model] {
				if low[key] == high[key] {
					t.Errorf("%s never changes", key)
				}
			}
		})
	}
}
