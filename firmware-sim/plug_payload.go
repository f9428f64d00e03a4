package sim

import (
	"fmt"
	"math"
	"time"
)

// The payloads of the firmware. Times are the device's local time without a zone; these plugs live in UTC.

const tasmotaTime = "2006-01-02T15:04:05"

func (p *Plug) uptime() (text string, seconds int) {
	d := time.Since(p.started)
	h := int(d.Hours())
	return fmt.Sprintf("%dT%02d:%02d:%02d", h/24, h%24, int(d.Minutes())%60, int(d.Seconds())%60), int(d.Seconds())
}

type tasmotaWiFi struct {
	AP           int
	SSId, BSSId  string
	Channel      int
	Mode         string
	RSSI, Signal int
	LinkCount    int
	Downtime     string
}

type tasmotaState struct {
	Time, Uptime string
	UptimeSec    int
	Heap         int
	SleepMode    string
	Sleep        int
	LoadAvg      int
	MqttCount    int
	POWER        string
	Wifi         tasmotaWiFi
}

func (p *Plug) state() string {
	uptime, seconds := p.uptime()
	signal := p.signal()
	return string(mustJSON(tasmotaState{
		Time: time.Now().UTC().Format(tasmotaTime), Uptime: uptime, UptimeSec: seconds,
		Heap: 25, SleepMode: "Dynamic", Sleep: 50, LoadAvg: 19, MqttCount: p.connects, POWER: onOff(p.power),
		Wifi: tasmotaWiFi{
			AP: 1, SSId: "plant", BSSId: "02:00:5E:10:00:01", Channel: 6, Mode: "11n",
			RSSI: max(0, min(100, 2*(signal+100))), Signal: signal, LinkCount: 1, Downtime: "0T00:00:03",
		},
	}))
}

type tasmotaEnergy struct {
	TotalStartTime                              string
	Total, Yesterday, Today                     float64
	Power, ApparentPower, ReactivePower, Factor float64
	Voltage, Current                            float64
}

type tasmotaSensor struct {
	Time   string
	ENERGY tasmotaEnergy
}

// energy reads the last sample as the energy chip shows it.
func (p *Plug) energy() tasmotaEnergy {
	power, volts, amps, total := p.row[0], p.row[1], p.row[2], p.row[3]
	apparent := round(volts*amps, 0)
	factor := 0.0
	if apparent > 0 {
		factor = round(math.Min(1, power/apparent), 2)
	}
	return tasmotaEnergy{
		TotalStartTime: p.started.UTC().Truncate(24 * time.Hour).Format(tasmotaTime),
		Total:          round(total, 3), Yesterday: round(p.meter.base*0.031, 3), Today: round(math.Mod(total, 9), 3),
		Power: math.Round(power), ApparentPower: apparent,
		ReactivePower: round(math.Sqrt(math.Max(0, apparent*apparent-power*power)), 0), Factor: factor,
		Voltage: math.Round(volts), Current: amps,
	}
}

func (p *Plug) sensor() string {
	return string(mustJSON(tasmotaSensor{Time: time.Now().UTC().Format(tasmotaTime), ENERGY: p.energy()}))
}

// sensors is the retained list of what SENSOR will hold.
func (p *Plug) sensors() string {
	return string(mustJSON(struct {
		SN  tasmotaSensor `json:"sn"`
		Ver int           `json:"ver"`
	}{tasmotaSensor{Time: time.Now().UTC().Format(tasmotaTime), ENERGY: p.energy()}, 1}))
}

func (p *Plug) status() string {
	return string(mustJSON(map[string]any{"Status": map[string]any{
		"Module": 1, "DeviceName": p.name(), "FriendlyName": []string{p.name()}, "Topic": p.topic, "Power": int(flag(p.power)), "PowerOnState": 3,
	}}))
}

func (p *Plug) name() string { return fmt.Sprintf("Plug %d", p.opts.Index+1) }

// discovery is the retained description by which others find the plug's topics.
func (p *Plug) discovery() string {
	relays := make([]int, 8)
	relays[0] = 1
	friendly := make([]any, 8)
	friendly[0] = p.name()
	return string(mustJSON(map[string]any{
		"ip": fmt.Sprintf("192.0.2.%d", 1+p.opts.Index%254), "dn": p.name(), "fn": friendly, "hn": "tasmota-" + p.mac[6:], "mac": p.mac,
		"md": "Energy Plug", "ty": 0, "if": 0, "ofln": "Offline", "onln": "Online", "state": []string{"OFF", "ON", "TOGGLE", "HOLD"},
		"sw": "13.4.0", "t": p.topic, "ft": "%prefix%/%topic%/", "tp": []string{"cmnd", "stat", "tele"}, "rl": relays,
		"swc": []int{-1, -1, -1, -1, -1, -1, -1, -1}, "swn": make([]any, 8), "btn": make([]int, 8),
		"so": map[string]int{"4": 0, "11": 0, "13": 0, "17": 0, "20": 0, "30": 0, "68": 0, "73": 0, "82": 0, "114": 0, "117": 0},
		"lk": 0, "lt_st": 0, "bat": 0, "dslp": 0, "sho": []int{0, 0, 0, 0}, "ver": 1,
	}))
}
