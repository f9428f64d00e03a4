package console_test

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// hostile is text as a bad device would send it, everywhere where it may send text.
const hostile = `<img src=x onerror="alert('xss')"><script>alert('xss')</script>`

func away(back time.Duration) int64 { return time.Now().Add(-back).UnixMilli() }

// smallFleet holds one device of each kind that the checks need.
func smallFleet() []*device {
	fleet := []*device{boiler(), plug(), hostileDevice(), offlineDevice(), quietDevice()}
	for i := range 20 {
		fleet = append(fleet, pump(fmt.Sprintf("pump-%02d", i+1), i))
	}
	return fleet
}

func online(id, model, firmware string, labels map[string]string) *device {
	return &device{
		ID: id, Model: model, Firmware: firmware, Labels: labels, Link: "websocket", Status: "online", Created: away(720 * time.Hour),
		Since: away(3*time.Hour + 12*time.Minute), LastSeen: away(0), Session: "01JDQ8Y7K2M4", Node: "hub-1", Last: map[string]object{},
	}
}

func wave(at time.Time, period time.Duration, middle, swing float64) float64 {
	phase := 2 * math.Pi * float64(at.UnixMilli()) / float64(period.Milliseconds())
	return math.Round((middle+swing*math.Sin(phase)+swing/9*math.Sin(phase*7.3))*100) / 100
}

func boiler() *device {
	d := online("boiler-1", "thermo-2", "1.4.2", map[string]string{"site": "plant-7", "room": "b2"})
	d.measure = func(at time.Time) object {
		return object{
			"temp": wave(at, 3*time.Minute, 61.4, 4), "pressure": wave(at, 7*time.Minute, 1.82, 0.2), "flow": wave(at, time.Minute, 14.2, 2.1),
			"burner": at.Unix()/20%2 == 0, "phase": []string{"heating", "holding"}[at.Unix()/20%2],
		}
	}
	d.Commands = []object{
		{"name": "set_interval", "title": "Set interval", "params": object{
			"type": "object", "required": []string{"seconds"}, "properties": object{
				"seconds": object{"type": "integer", "title": "Seconds", "minimum": 1, "maximum": 3600, "default": 10, "description": "Time between two readings"},
				"mode":    object{"type": "string", "title": "Mode", "enum": []string{"eco", "comfort", "boost"}},
				"persist": object{"type": "boolean", "title": "Keep after a restart", "default": true},
				"offset":  object{"type": "number", "title": "Offset", "minimum": -5, "maximum": 5, "unit": "K"},
				"note":    object{"type": "string", "title": "Note", "maxLength": 40},
			},
		}},
		{"name": "calibrate", "title": "Calibrate"},
		{"name": "raw", "title": "Raw write", "params": object{"oneOf": []object{{"type": "object"}}}},
		{"name": "reboot", "title": "Reboot", "dangerous": true, "params": object{"type": "object", "properties": object{}}},
	}
	return d
}

func plug() *device {
	d := online("plug-1", "Sonoff S31", "12.5.0", map[string]string{"site": "office"})
	d.Link, d.Session = "mqtt:embedded", ""
	d.measure = func(at time.Time) object { return object{"power": wave(at, 2*time.Minute, 43, 9), "on": true} }
	d.Commands = []object{{"name": "power", "title": "Switch", "params": object{
		"type": "object", "required": []string{"on"}, "properties": object{"on": object{"type": "boolean", "title": "On"}},
	}}}
	return d
}

func pump(id string, i int) *device {
	d := online(id, "pump-4", "2.0."+fmt.Sprint(i%3), map[string]string{"site": fmt.Sprintf("plant-%d", i%3+5), "line": string(rune('a' + i%4))})
	d.measure = func(at time.Time) object {
		at = at.Add(time.Duration(i) * 11 * time.Second)
		return object{"rpm": math.Round(wave(at, 4*time.Minute, 1480, 60)), "current": wave(at, 90*time.Second, 7.8, 0.9)}
	}
	return d
}

func hostileDevice() *device {
	d := online("hostile-1", "model "+hostile, "9 "+hostile, map[string]string{"name": hostile, "link": "javascript:alert('xss')"})
	d.Node = hostile
	d.measure = func(time.Time) object {
		return object{"text": hostile, "temp": 20.5, strings.Repeat("long_name_", 6): 1, strings.Repeat("other_name_", 5): 2}
	}
	d.Commands = []object{{"name": "greet", "title": hostile, "params": object{
		"type": "object", "properties": object{
			"who": object{"type": "string", "title": hostile, "description": hostile, "default": `</textarea>` + hostile},
			"how": object{"enum": []string{hostile, "kindly"}, "title": "How"},
		},
	}}}
	return d
}

func offlineDevice() *device {
	d := online("cellar-3", "thermo-2", "1.3.9", map[string]string{"site": "plant-7", "room": "cellar"})
	d.Status, d.Cause, d.Since, d.LastSeen, d.Session, d.Node = "offline", "timeout", away(47*time.Minute), away(48*time.Minute), "", ""
	d.Last = map[string]object{"env.temp": {"time": away(48 * time.Minute), "value": 11.25}}
	d.measure = func(at time.Time) object { return object{"temp": wave(at, time.Hour, 11, 1)} }
	return d
}

func quietDevice() *device {
	return &device{ID: "spare-1", Labels: map[string]string{"site": "store"}, Status: "never", Created: away(24 * time.Hour)}
}

// largeFleet is ten thousand devices.
func largeFleet() []*device {
	fleet := make([]*device, 10_000)
	for i := range fleet {
		d := pump(fmt.Sprintf("pump-%05d", i), i)
		d.Last = map[string]object{"env.rpm": {"time": away(time.Minute), "value": 1480}, "env.current": {"time": away(time.Minute), "value": 7.8}}
		fleet[i] = d
	}
	return fleet
}
