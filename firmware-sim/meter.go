package sim

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

var meterKind = kind{
	name: "meter", title: "em-1", measurement: "energy", columns: columns("relay", "power", "voltage", "current", "energy_kwh", "relay"),
	commands: []wire.CommandSpec{
		{Name: "relay", Title: "Switch relay", Params: schema(`"on":{"type":"boolean"}`, "on"), Dangerous: true},
		{Name: "reset_counter", Title: "Reset counter", Params: schema("")},
	},
	make: newMeter,
}

// meter is an energy meter with a relay before a household: a base load, a morning and an evening, and appliances that
// come and go.
type meter struct {
	noise   *rand.Rand
	base    float64 // W
	heavy   float64 // W of the appliance that runs now
	until   time.Time
	energy  float64 // kWh
	relay   bool
	last    time.Time
	lastW   float64
	voltage float64 // slow part
}

func newMeter(seed uint64) model {
	noise := rand.New(rand.NewPCG(seed, 3))
	return &meter{noise: noise, base: 90 + 160*noise.Float64(), energy: round(4000*noise.Float64(), 3), relay: true, voltage: 230}
}

func (m *meter) kind() *kind { return &meterKind }

func (m *meter) sample(at time.Time, row []float64) {
	if !m.last.IsZero() && at.After(m.last) {
		m.energy += m.lastW * at.Sub(m.last).Hours() / 1000
	}
	watts := m.load(at)
	m.voltage = 230 + clamp(m.voltage-230+0.05*m.noise.NormFloat64(), 6)
	volts := m.voltage - 0.0012*watts - 1.5*daily(at, 19) + 0.15*m.noise.NormFloat64()
	m.last, m.lastW = at, watts
	row[0] = round(watts, 1)
	row[1] = round(volts, 1)
	row[2] = round(watts/(volts*0.96), 3)
	row[3] = round(m.energy, 4)
	row[4] = flag(m.relay)
}

func (m *meter) load(at time.Time) float64 {
	if at.After(m.until) {
		m.heavy, m.until = 0, at.Add(time.Duration(20+m.noise.IntN(400))*time.Second)
		if m.noise.Float64() < 0.25+0.2*math.Max(0, daily(at, 19)) {
			m.heavy = 300 + 1900*m.noise.Float64()
		}
	}
	if !m.relay {
		return 0
	}
	// Two waves a day: the peaks come at 7 h and 19 h.
	rhythm := math.Max(0, daily(at, 19)) + 0.6*math.Max(0, math.Cos(4*math.Pi*(float64(at.Unix()%86400)/3600-7)/24))
	watts := m.base*(1+0.7*rhythm) + m.heavy
	return math.Max(1, watts*(1+0.01*m.noise.NormFloat64()))
}

func (m *meter) command(name string, params json.RawMessage) (plan, *wire.Fault) {
	var p struct {
		On *bool `json:"on"`
	}
	switch name {
	case "relay":
		if fault := decode(params, &p); fault != nil {
			return plan{}, fault
		}
		if p.On == nil {
			return plan{}, invalid("on: want true or false")
		}
		return plan{begin: func() { m.relay = *p.On }, finish: func() any { return map[string]any{"relay": m.relay} }}, nil
	case "reset_counter":
		if fault := decode(params, &struct{}{}); fault != nil {
			return plan{}, fault
		}
		var was float64
		return plan{
			begin:  func() { was, m.energy = m.energy, 0 },
			finish: func() any { return map[string]any{"energy_kwh_before": round(was, 4)} },
		}, nil
	}
	return plan{}, unknown(name)
}

func (m *meter) settings() []setting {
	return []setting{{key: "relay", read: func() any { return m.relay }}}
}
