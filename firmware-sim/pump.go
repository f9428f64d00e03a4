package sim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

var pumpKind = kind{
	name: "pump", title: "pump-300", measurement: "pump", columns: columns("running", "flow", "pressure", "rpm", "current", "running"),
	commands: []wire.CommandSpec{
		{Name: "start", Title: "Start", Params: schema("")},
		{Name: "stop", Title: "Stop", Params: schema(""), Dangerous: true},
		{Name: "set_speed", Title: "Set speed", Params: schema(`"rpm":{"type":"number","minimum":300,"maximum":3000}`, "rpm")},
	},
	make: newPump,
}

// pump is a centrifugal pump on a drive: the speed follows its target over seconds, the rest follows the speed. Its wheel
// wears, and the demand of the net it feeds goes with the day.
type pump struct {
	noise   *rand.Rand
	running bool
	target  float64 // rpm
	rpm     float64
	wear    float64 // 0 new, 0.2 due for service
	last    time.Time
}

const (
	ramp      = 3 * time.Second // time constant of the drive
	ratedRPM  = 1450.0
	ratedFlow = 42.0 // m3/h
	ratedHead = 3.8  // bar
)

func newPump(seed uint64) model {
	noise := rand.New(rand.NewPCG(seed, 2))
	target := 1200 + math.Round(50*noise.Float64())*10
	return &pump{noise: noise, running: true, target: target, rpm: target, wear: 0.15 * noise.Float64()}
}

func (p *pump) kind() *kind { return &pumpKind }

func (p *pump) sample(at time.Time, row []float64) {
	if !p.last.IsZero() && at.After(p.last) {
		d := at.Sub(p.last)
		p.rpm += (p.aim() - p.rpm) * (1 - math.Exp(-d.Seconds()/ramp.Seconds()))
		if p.running {
			p.wear = math.Min(p.wear+1e-6*d.Hours(), 0.2)
		}
	}
	p.last = at
	speed := p.rpm / ratedRPM
	if speed < 0.005 {
		speed, p.rpm = 0, 0
	}
	demand := 0.85 + 0.15*daily(at, 19)
	hum := func(size float64) float64 { return size * speed * p.noise.NormFloat64() }
	row[0] = round(math.Max(0, ratedFlow*speed*demand*(1-p.wear)+hum(0.25)), 2)
	row[1] = round(0.6+ratedHead*speed*speed*(1-p.wear)*(1.15-0.15*demand)+hum(0.02), 3)
	row[2] = math.Round(p.rpm + hum(3))
	row[3] = round(math.Max(0, flag(speed > 0)*1.1+7.4*speed*speed*speed*demand*(1+p.wear)+hum(0.05)), 2)
	row[4] = flag(p.running)
}

func (p *pump) aim() float64 {
	if p.running {
		return p.target
	}
	return 0
}

func (p *pump) speed(rpm float64) error {
	if !(rpm >= 300 && rpm <= 3000) {
		return fmt.Errorf("%v is not between 300 and 3000", rpm)
	}
	p.target = rpm
	return nil
}

func (p *pump) command(name string, params json.RawMessage) (plan, *wire.Fault) {
	var q struct {
		RPM *float64 `json:"rpm"`
	}
	state := func() any { return map[string]any{"running": p.running, "rpm": p.aim()} }
	switch name {
	case "start", "stop":
		if fault := decode(params, &struct{}{}); fault != nil {
			return plan{}, fault
		}
		return plan{begin: func() { p.running = name == "start" }, finish: state}, nil
	case "set_speed":
		if fault := decode(params, &q); fault != nil {
			return plan{}, fault
		}
		if q.RPM == nil || !(*q.RPM >= 300 && *q.RPM <= 3000) {
			return plan{}, invalid("rpm: want a number from 300 to 3000")
		}
		return plan{
			begin:  func() { _ = p.speed(*q.RPM) }, // checked above
			finish: state, steps: 4, every: ramp / 4,
		}, nil
	}
	return plan{}, unknown(name)
}

func (p *pump) settings() []setting {
	return []setting{
		{key: "rpm", read: func() any { return p.target }, write: p.speed},
		{key: "running", read: func() any { return p.running }},
	}
}
