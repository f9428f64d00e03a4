package sim

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

var trackerKind = kind{
	name: "tracker", title: "gps-9", measurement: "location", columns: columns("", "lat", "lon", "speed", "heading", "battery"),
	commands: []wire.CommandSpec{
		{Name: "locate", Title: "Take a fix", Params: schema("")},
	},
	make: newTracker,
}

// tracker is a GPS tracker on a vehicle that drives by day, stands now and then, and charges when it drives.
type tracker struct {
	noise          *rand.Rand
	homeLat        float64
	homeLon        float64
	north, east    float64 // metres from home
	speed, heading float64 // km/h, degrees
	battery        float64 // percent
	moving         bool
	until          time.Time // of moving or standing
	last           time.Time
}

const metresPerDegree = 111_320.0

func newTracker(seed uint64) model {
	noise := rand.New(rand.NewPCG(seed, 4))
	return &tracker{
		noise: noise, homeLat: 47 + 6*noise.Float64(), homeLon: 6 + 8*noise.Float64(),
		heading: 360 * noise.Float64(), battery: 40 + 60*noise.Float64(),
	}
}

func (t *tracker) kind() *kind { return &trackerKind }

func (t *tracker) sample(at time.Time, row []float64) {
	if !t.last.IsZero() && at.After(t.last) {
		t.move(min(at.Sub(t.last), time.Minute))
	}
	t.last = at
	if at.After(t.until) {
		t.moving = t.noise.Float64() < 0.55+0.35*daily(at, 13)
		t.until = at.Add(time.Duration(60+t.noise.IntN(900)) * time.Second)
	}
	lat, lon := t.fix()
	row[0], row[1] = lat, lon
	row[2] = round(t.speed, 1)
	row[3] = round(t.heading, 0)
	row[4] = round(t.battery, 1)
}

func (t *tracker) move(d time.Duration) {
	aim := 0.0
	if t.moving {
		aim = 48 + 14*t.noise.NormFloat64()
	}
	t.speed += (math.Max(0, aim) - t.speed) * (1 - math.Exp(-d.Seconds()/8))
	if t.speed < 0.5 && !t.moving {
		t.speed = 0
	}
	turn := 6 * t.noise.NormFloat64()
	if math.Hypot(t.north, t.east) > 20_000 { // far from home: turn back
		turn = 0.2*math.Mod(math.Atan2(-t.east, -t.north)*180/math.Pi-t.heading+540, 360) - 0.2*180
	}
	t.heading = math.Mod(t.heading+turn*math.Min(1, t.speed/20)+360, 360)
	metres := t.speed / 3.6 * d.Seconds()
	t.north += metres * math.Cos(t.heading*math.Pi/180)
	t.east += metres * math.Sin(t.heading*math.Pi/180)
	rate := -0.8 // percent an hour
	if t.moving {
		rate = 6
	}
	t.battery = math.Max(3, math.Min(100, t.battery+rate*d.Hours()))
}

// fix returns the position with the scatter of a receiver.
func (t *tracker) fix() (lat, lon float64) {
	north, east := t.north+1.5*t.noise.NormFloat64(), t.east+1.5*t.noise.NormFloat64()
	lat = t.homeLat + north/metresPerDegree
	lon = t.homeLon + east/(metresPerDegree*math.Cos(t.homeLat*math.Pi/180))
	return round(lat, 6), round(lon, 6)
}

func (t *tracker) command(name string, params json.RawMessage) (plan, *wire.Fault) {
	if name != "locate" {
		return plan{}, unknown(name)
	}
	if fault := decode(params, &struct{}{}); fault != nil {
		return plan{}, fault
	}
	return plan{steps: 3, every: 400 * time.Millisecond, finish: func() any {
		lat, lon := t.fix()
		return map[string]any{"lat": lat, "lon": lon, "satellites": 7 + t.noise.IntN(6)}
	}}, nil
}

func (t *tracker) settings() []setting {
	return []setting{{key: "moving", read: func() any { return t.moving }}}
}
