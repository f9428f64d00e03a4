package sim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

var thermostatKind = kind{
	name: "thermostat", title: "thermo-2", measurement: "env", columns: columns("heating", "temp", "hum", "setpoint", "heating"),
	commands: []wire.CommandSpec{
		{Name: "set_target", Title: "Set target temperature", Params: schema(`"celsius":{"type":"number","minimum":5,"maximum":30}`, "celsius")},
		{Name: "reboot", Title: "Reboot", Params: schema(""), Dangerous: true},
	},
	make: newThermostat,
}

// thermostat is a room with a radiator: it leaks heat to a day outside that is warm at 15 h and cold at 3 h.
type thermostat struct {
	noise    *rand.Rand
	temp     float64
	setpoint float64
	heating  bool
	last     time.Time
	offset   float64 // of the sensor; it drifts slowly
	damp     float64 // of the room: humidity at 21 degrees
	boots    int
}

func newThermostat(seed uint64) model {
	noise := rand.New(rand.NewPCG(seed, 1))
	return &thermostat{noise: noise, temp: 19 + 2*noise.Float64(), setpoint: 20 + math.Round(4*noise.Float64())/2, damp: 38 + 10*noise.Float64()}
}

func (t *thermostat) kind() *kind { return &thermostatKind }

const (
	roomLoss   = 5 * time.Hour // time constant of the room
	heatPower  = 6.5           // degrees an hour of the radiator
	hysteresis = 0.3
	maxStep    = 5 * time.Minute // a longer gap is stepped over
)

func (t *thermostat) sample(at time.Time, row []float64) {
	for now := at; !t.last.IsZero() && t.last.Before(now); {
		step := min(now.Sub(t.last), maxStep)
		if now.Sub(t.last) > 24*time.Hour {
			t.last = now.Add(-24 * time.Hour)
		}
		t.step(t.last, step)
		t.last = t.last.Add(step)
	}
	t.last = at
	t.offset = clamp(t.offset+0.0005*t.noise.NormFloat64(), 0.4)
	row[0] = round(t.temp+t.offset+0.03*t.noise.NormFloat64(), 2)
	row[1] = round(t.damp-2.1*(t.temp-21)+3*daily(at, 7)+0.3*t.noise.NormFloat64(), 1)
	row[2] = t.setpoint
	row[3] = flag(t.heating)
}

func (t *thermostat) step(at time.Time, d time.Duration) {
	switch {
	case t.temp < t.setpoint-hysteresis:
		t.heating = true
	case t.temp > t.setpoint+hysteresis:
		t.heating = false
	}
	outside := 7 + 5*daily(at, 15)
	t.temp += (outside - t.temp) * d.Hours() / roomLoss.Hours()
	if t.heating {
		t.temp += heatPower * d.Hours()
	}
}

func (t *thermostat) target(celsius float64) error {
	if !(celsius >= 5 && celsius <= 30) {
		return fmt.Errorf("%v is not between 5 and 30", celsius)
	}
	t.setpoint = celsius
	return nil
}

func (t *thermostat) command(name string, params json.RawMessage) (plan, *wire.Fault) {
	var p struct {
		Celsius *float64 `json:"celsius"`
	}
	switch name {
	case "set_target":
		if fault := decode(params, &p); fault != nil {
			return plan{}, fault
		}
		if p.Celsius == nil || !(*p.Celsius >= 5 && *p.Celsius <= 30) {
			return plan{}, invalid("celsius: want a number from 5 to 30")
		}
		return plan{
			begin:  func() { _ = t.target(*p.Celsius) }, // checked above
			finish: func() any { return map[string]any{"setpoint": t.setpoint} },
		}, nil
	case "reboot":
		if fault := decode(params, &struct{}{}); fault != nil {
			return plan{}, fault
		}
		return plan{
			begin: func() { t.boots++; t.heating = false }, reboot: true, every: bootTime,
			finish: func() any { return map[string]any{"boots": t.boots} },
		}, nil
	}
	return plan{}, unknown(name)
}

func (t *thermostat) settings() []setting {
	return []setting{{key: "setpoint", read: func() any { return t.setpoint }, write: t.target}}
}

// daily is a wave of one day that is 1 at the given hour UTC and -1 twelve hours later.
func daily(at time.Time, peak float64) float64 {
	hours := float64(at.Unix()%86400) / 3600
	return math.Cos(2 * math.Pi * (hours - peak) / 24)
}

func clamp(v, most float64) float64 { return math.Max(-most, math.Min(most, v)) }

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
