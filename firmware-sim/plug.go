package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Bounds of a plug.
const (
	plugInbox      = 16 // commands that came and are not done
	plugTimeout    = 10 * time.Second
	plugKeepAlive  = 30 * time.Second
	plugQuiesce    = 250 // ms paho gets to send what is under way
	plugPeriod     = 10 * time.Second
	minTelePeriod  = time.Second
	maxTelePeriod  = time.Hour
	plugGroupTopic = "tasmotas"
)

// PlugOptions describes one simulated Tasmota plug.
type PlugOptions struct {
	Broker   string // tcp://host:port or ssl://host:port
	Username string
	Password string
	TLS      *tls.Config
	Index    int           // tells plugs apart: from it come the MAC and the topic
	Period   time.Duration // between two telemetry messages; 0: 10 s
	Seed     uint64
	Log      *slog.Logger // nil: nothing is logged
}

// Plug is a simulated Tasmota plug that measures energy, over MQTT.
type Plug struct {
	// static after New
	opts  PlugOptions
	mac   string // twelve hex digits
	topic string

	// owned by Run
	meter    *meter
	power    bool
	row      []float64
	period   time.Duration
	started  time.Time
	connects int

	inbox  chan keyed // from paho's handler
	online chan struct{}
}

// keyed is one console command, as it was keyed in.
type keyed struct{ name, value string }

// NewPlug checks the options. The plug does not run yet.
func NewPlug(o PlugOptions) (*Plug, error) {
	if o.Broker == "" {
		return nil, errors.New("plug: a broker url is needed, such as tcp://127.0.0.1:1883")
	}
	if o.Index < 0 || o.Index > 0xffff {
		return nil, fmt.Errorf("plug: index %d is not between 0 and 65535", o.Index)
	}
	if o.Period == 0 {
		o.Period = plugPeriod
	}
	if o.Period < minTelePeriod || o.Period > maxTelePeriod {
		return nil, fmt.Errorf("plug: a period of %s is not between %s and %s", o.Period, minTelePeriod, maxTelePeriod)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	mac := fmt.Sprintf("2CF432%06X", 0x100000+o.Index)
	seed := mix(o.Seed + uint64(o.Index))
	m, _ := newMeter(seed).(*meter)
	return &Plug{
		opts: o, mac: mac, topic: "tasmota_" + mac[6:], meter: m, power: true, row: make([]float64, len(meterKind.columns)),
		period: o.Period, inbox: make(chan keyed, plugInbox), online: make(chan struct{}, 1),
	}, nil
}

// ID is the plug's MAC address, by which Tasmota's discovery names it.
func (p *Plug) ID() string { return p.mac }

// Topic is the plug's part of its MQTT topics.
func (p *Plug) Topic() string { return p.topic }

// Run connects, and again after each break, until the context ends.
func (p *Plug) Run(ctx context.Context) error {
	p.started = time.Now()
	link := mqtt.NewClient(p.options())
	backoff := Backoff{Base: time.Second, Max: defaultBackoffMax}
	for try := 0; ; try++ {
		err := settled(ctx, link.Connect())
		if err == nil {
			break
		}
		wait := backoff.wait(try, 0)
		if ctx.Err() == nil {
			p.opts.Log.Warn("plug not connected", "topic", p.topic, keyError, err, keyWait, wait)
		}
		if !sleep(ctx, wait) {
			link.Disconnect(0)
			return nil
		}
	}
	p.serve(ctx, link)
	_ = settled(context.Background(), p.publish(link, "tele", "LWT", true, "Offline")) // the will says it if this does not arrive
	link.Disconnect(plugQuiesce)
	return nil
}

func (p *Plug) options() *mqtt.ClientOptions {
	o := mqtt.NewClientOptions().AddBroker(p.opts.Broker).SetClientID("DVES_"+p.mac[6:]).
		SetUsername(p.opts.Username).SetPassword(p.opts.Password).SetTLSConfig(p.opts.TLS).
		SetKeepAlive(plugKeepAlive).SetConnectTimeout(plugTimeout).SetWriteTimeout(plugTimeout).
		SetCleanSession(true).SetAutoReconnect(true).SetMaxReconnectInterval(defaultBackoffMax).
		SetWill(p.path("tele", "LWT"), "Offline", 1, true).
		SetDefaultPublishHandler(p.take)
	// Nothing may be published from within a handler of paho's, so it only tells Run.
	o.SetOnConnectHandler(func(mqtt.Client) {
		select {
		case p.online <- struct{}{}:
		default:
		}
	})
	return o
}

// take is called by paho for each command.
func (p *Plug) take(_ mqtt.Client, m mqtt.Message) {
	name := m.Topic()[strings.LastIndexByte(m.Topic(), '/')+1:]
	select {
	case p.inbox <- keyed{strings.ToUpper(name), strings.TrimSpace(string(m.Payload()))}:
	default:
		p.opts.Log.Warn("plug is busy, command lost", "topic", m.Topic()) // as the real one does
	}
}

func (p *Plug) serve(ctx context.Context, link mqtt.Client) {
	ticker := time.NewTicker(p.period)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-p.online:
			err = p.announce(ctx, link)
		case <-ticker.C:
			err = p.telemetry(link)
		case c := <-p.inbox:
			was := p.period
			p.console(link, c)
			if p.period != was {
				ticker.Reset(p.period)
			}
		case <-ctx.Done():
			return
		}
		if err != nil && ctx.Err() == nil {
			p.opts.Log.Warn("plug", "topic", p.topic, keyError, err)
		}
	}
}

// announce is what a plug says at each connect, in the order the firmware does.
func (p *Plug) announce(ctx context.Context, link mqtt.Client) error {
	p.connects++
	p.measure(time.Now())
	// The firmware clears a retained command at connect. Who watches the topic must not take that for a command.
	own := p.publish(link, "cmnd", "POWER", false, "")
	filters := map[string]byte{
		p.path("cmnd", "#"):                1,
		"cmnd/" + plugGroupTopic + "/#":    1,
		"cmnd/DVES_" + p.mac[6:] + "_fb/#": 1,
	}
	online := p.publish(link, "tele", "LWT", true, "Online")
	config := link.Publish("tasmota/discovery/"+p.mac+"/config", 1, true, p.discovery())
	sensors := link.Publish("tasmota/discovery/"+p.mac+"/sensors", 1, true, p.sensors())
	return errors.Join(settled(ctx, own), settled(ctx, link.SubscribeMultiple(filters, nil)), settled(ctx, online),
		settled(ctx, config), settled(ctx, sensors), p.telemetry(link))
}

// telemetry publishes STATE and SENSOR. The firmware sends them with QoS 0.
func (p *Plug) telemetry(link mqtt.Client) error {
	if !link.IsConnectionOpen() {
		return nil // a plug keeps nothing for later
	}
	p.measure(time.Now())
	link.Publish(p.path("tele", "STATE"), 0, false, p.state())
	link.Publish(p.path("tele", "SENSOR"), 0, false, p.sensor())
	return nil
}

func (p *Plug) measure(now time.Time) {
	p.meter.relay = p.power
	p.meter.sample(now, p.row)
}

// console does one command and says what came of it.
func (p *Plug) console(link mqtt.Client, c keyed) {
	switch c.name {
	case "POWER", "POWER1":
		p.switchTo(c.value)
		word := onOff(p.power)
		p.publish(link, "stat", "RESULT", false, `{"POWER":"`+word+`"}`)
		p.publish(link, "stat", "POWER", false, word)
	case "TELEPERIOD":
		if s, err := strconv.Atoi(c.value); err == nil {
			p.period = max(minTelePeriod, min(maxTelePeriod, time.Duration(s)*time.Second))
		}
		p.publish(link, "stat", "RESULT", false, fmt.Sprintf(`{"TelePeriod":%d}`, int(p.period.Seconds())))
	case "STATE":
		p.measure(time.Now())
		p.publish(link, "stat", "RESULT", false, p.state())
	case "STATUS":
		p.measure(time.Now())
		p.publish(link, "stat", "STATUS", false, p.status())
	default:
		p.publish(link, "stat", "RESULT", false, `{"Command":"Unknown"}`)
	}
}

// switchTo reads the values that the firmware knows; an empty one and any other only asks.
func (p *Plug) switchTo(value string) {
	switch strings.ToUpper(value) {
	case "ON", "1", "TRUE":
		p.power = true
	case "OFF", "0", "FALSE":
		p.power = false
	case "TOGGLE", "2":
		p.power = !p.power
	}
}

func onOff(on bool) string {
	if on {
		return "ON"
	}
	return "OFF"
}

func (p *Plug) path(prefix, last string) string { return prefix + "/" + p.topic + "/" + last }

func (p *Plug) publish(link mqtt.Client, prefix, last string, retain bool, payload string) mqtt.Token {
	qos := byte(0)
	if retain {
		qos = 1
	}
	return link.Publish(p.path(prefix, last), qos, retain, payload)
}

// settled waits for a token of paho's, whose own waits know no context.
func settled(ctx context.Context, token mqtt.Token) error {
	timer := time.NewTimer(plugTimeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-timer.C:
		return errors.New("the broker does not answer")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// signal is a Wi-Fi level with some scatter.
func (p *Plug) signal() int { return -58 - p.opts.Index%17 + int(math.Round(2*rand.NormFloat64())) }
