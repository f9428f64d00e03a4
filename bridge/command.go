package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The bounds of commands through maps.
const (
	maxAsked     = 10_000 // commands of one connection that wait for a reply
	defaultReply = 30 * time.Second
	maxReplyText = 1000
)

// commandMap carries commands to devices that no profile knows.
type commandMap struct {
	devices []string
	topic   string
	payload string
	answers *pattern
	qos     byte
}

func newCommandMap(cfg configs.CmdMap) (*commandMap, error) {
	m := &commandMap{devices: cfg.Devices, topic: cfg.Topic, payload: cfg.Payload, qos: byte(cfg.QoS)}
	var errs []error
	if len(cfg.Devices) == 0 {
		errs = append(errs, errors.New("devices: name at least one, or a pattern such as *"))
	}
	for _, d := range cfg.Devices {
		if _, err := path.Match(d, ""); err != nil {
			errs = append(errs, fmt.Errorf("devices: %q: %w", d, err))
		}
	}
	if cfg.QoS < 0 || cfg.QoS > 1 {
		errs = append(errs, fmt.Errorf("qos: %d; 0 and 1 are supported", cfg.QoS))
	}
	if err := CheckTopic(m.address("d", wire.Command{ID: "i", Name: "n"})); err != nil {
		errs = append(errs, fmt.Errorf("topic: %w", err))
	}
	if cfg.Reply != "" {
		p, err := compilePattern(cfg.Reply, deviceLevel, idLevel)
		if err != nil {
			errs = append(errs, fmt.Errorf("reply: %w", err))
		}
		if Overlap(p.filter, m.filter()) {
			errs = append(errs, fmt.Errorf("reply: %s would read back the command topic %s", cfg.Reply, cfg.Topic))
		}
		m.answers = &p
	}
	return m, errors.Join(errs...)
}

// filter covers every topic that the map publishes to.
func (m *commandMap) filter() string { return coverOf(m.topic) }

// coverOf is the filter of a topic with placeholders anywhere in its levels.
func coverOf(topic string) string {
	levels := strings.Split(topic, "/")
	for i, l := range levels {
		if strings.Contains(l, "{") {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}

// named are the devices that are listed by name.
func (m *commandMap) named() []string {
	var names []string
	for _, d := range m.devices {
		if !strings.ContainsAny(d, `*?[\`) {
			names = append(names, d)
		}
	}
	return names
}

func (m *commandMap) serves(id, name string) bool {
	return covers(m.devices, id) || covers(m.devices, name)
}

// covers reports whether name fits one of the patterns.
func covers(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return false
}

func (m *commandMap) request(d *device, cmd wire.Command, waiting *asked, now time.Time) (request, error) {
	if strings.ContainsAny(d.name+cmd.Name, "/") && strings.Contains(m.topic, "{") {
		return request{}, fmt.Errorf("%w: name with a slash would reach another topic", ErrUnsupported)
	}
	r := request{qos: m.qos, assumed: m.answers == nil}
	r.Topic = m.address(d.name, cmd)
	r.Forget = func() {}
	if m.payload == "" {
		payload, err := json.Marshal(map[string]any{"id": cmd.ID, "name": cmd.Name, "params": params(cmd)})
		if err != nil {
			return request{}, fmt.Errorf("%w: params: %w", ErrUnsupported, err)
		}
		r.Payload = payload
	} else {
		r.Payload = []byte(m.fill(d.name, cmd))
	}
	if r.assumed {
		return r, nil
	}
	wait := defaultReply
	if cmd.TimeoutMS > 0 {
		wait = time.Duration(cmd.TimeoutMS) * time.Millisecond
	}
	ok, again := waiting.add(cmd.ID, asking{device: d.name, until: now.Add(wait), author: d.author()}, now)
	if !ok {
		return request{}, fleets.ErrBusy
	}
	if !again { // the reply to an earlier attempt at the same command is waited for all the same
		r.Forget = func() { waiting.forget(cmd.ID) }
	}
	return r, nil
}

func params(cmd wire.Command) json.RawMessage {
	if len(bytes.TrimSpace(cmd.Params)) == 0 {
		return json.RawMessage("{}")
	}
	return cmd.Params
}

// address fills the topic in. Parameters do not go there: a value could lead to another topic.
func (m *commandMap) address(device string, cmd wire.Command) string {
	return strings.NewReplacer("{device}", device, "{name}", cmd.Name, "{id}", cmd.ID).Replace(m.topic)
}

// fill fills the payload in. A string parameter goes in as it is, without quotes.
func (m *commandMap) fill(device string, cmd wire.Command) string {
	pairs := []string{"{device}", device, "{name}", cmd.Name, "{id}", cmd.ID, "{params}", string(params(cmd))}
	var values map[string]json.RawMessage
	if json.Unmarshal(params(cmd), &values) == nil {
		for key, raw := range values {
			text := string(raw)
			var s string
			if json.Unmarshal(raw, &s) == nil {
				text = s
			}
			pairs = append(pairs, "{param:"+key+"}", text)
		}
	}
	return strings.NewReplacer(pairs...).Replace(m.payload)
}

// reply reads an answer. It reports false if the topic is not the map's.
func (m *commandMap) reply(msg fleets.Message, author string, waiting *asked) ([]fleets.Update, bool, error) {
	if m.answers == nil {
		return nil, false, nil
	}
	v, ok := m.answers.match(msg.Topic)
	if !ok {
		return nil, false, nil
	}
	if msg.Retained {
		return nil, true, &fleets.Drop{Reason: fleets.Retained, Detail: "an answer of an unknown time"}
	}
	answer := readReply(v.id, msg.Payload)
	device, ok := waiting.take(answer.ID, asking{device: v.device, author: author}, msg.Received)
	if !ok {
		return nil, true, &fleets.Drop{Reason: reasonReply, Detail: "no command waits for this reply"}
	}
	return []fleets.Update{{
		Device: device, Presence: fleets.Online, Cause: "reply",
		Answers: []fleets.Answer{{Answer: answer, Evidence: fleets.Confirmed}},
	}}, true, nil
}

// readReply reads {"id","ok","result","error"} as devices of the hub send it. A reply without "ok" is good unless it
// has an "error"; anything but an object is the result itself.
func readReply(id string, payload []byte) wire.Answer {
	a := wire.Answer{Kind: wire.Result, ID: id, OK: true}
	obj, err := fleets.DecodeObject(payload)
	if err != nil {
		if text := fleets.CleanText(string(payload), maxReplyText); text != "" {
			a.Result, _ = json.Marshal(text) // a string always marshals
		}
		return a
	}
	if named, ok := obj["id"].(string); ok && a.ID == "" {
		a.ID = named
	}
	fault, failed := obj["error"]
	if fault == nil {
		failed = false
	}
	if ok, has := obj["ok"].(bool); has {
		failed = !ok
	}
	if failed {
		a.OK, a.Error = false, readFault(fault)
		return a
	}
	var result any = obj
	if inner, has := obj["result"]; has {
		result = inner
	}
	a.Result, _ = json.Marshal(result) // it came from JSON
	return a
}

func readFault(v any) *wire.Fault {
	f := &wire.Fault{Code: "failed"}
	switch v := v.(type) {
	case string:
		f.Message = fleets.CleanText(v, maxReplyText)
	case map[string]any:
		if code, ok := v["code"].(string); ok && code != "" {
			f.Code = fleets.CleanText(code, maxTagBytes)
		}
		if message, ok := v["message"].(string); ok {
			f.Message = fleets.CleanText(message, maxReplyText)
		}
	}
	return f
}

// asked is which commands wait for a reply, and from whom.
type asked struct {
	mu   sync.Mutex
	byID map[string]asking // guarded by mu
}

// asking is who is to answer, and by when. author is the device's id if it publishes for itself: then nobody else answers for it.
type asking struct {
	device, author string
	until          time.Time
}

func newAsked() *asked { return &asked{byID: make(map[string]asking)} }

// add begins to wait for a reply; again tells that it is waited for already.
func (a *asked) add(id string, who asking, now time.Time) (ok, again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, again = a.byID[id]
	if len(a.byID) >= maxAsked && !again {
		for id, w := range a.byID {
			if now.After(w.until) {
				delete(a.byID, id)
			}
		}
	}
	if len(a.byID) >= maxAsked && !again {
		return false, false
	}
	a.byID[id] = who
	return true, again
}

// take ends the waiting of a command. If the reply names a device it must be the one that was asked.
func (a *asked) take(id string, from asking, now time.Time) (device string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w, ok := a.byID[id]
	if !ok || from.device != "" && from.device != w.device || from.author != w.author {
		return "", false
	}
	delete(a.byID, id)
	return w.device, !now.After(w.until)
}

func (a *asked) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byID, id)
}
