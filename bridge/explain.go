package bridge

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Explanation is what a message would become.
type Explanation struct {
	Device string   `json:"device,omitempty"`
	Name   string   `json:"name,omitempty"` // what the fleet calls it
	By     string   `json:"by"`             // the map or profile that knows the topic
	Lines  []string `json:"lines,omitempty"`
	Says   []string `json:"says,omitempty"` // what else: presence, answers, announcements
}

// Explain says what the connection would make of a message, or why nothing. It is pure: no broker is asked, and what a
// device has announced before is not known.
func Explain(cfg configs.Connection, topic string, payload []byte) ([]Explanation, error) {
	if err := CheckTopic(topic); err != nil {
		return nil, err
	}
	p, err := newPlan(cfg, fleets.Options{})
	if err != nil {
		return nil, err
	}
	m := fleets.Message{Topic: topic, Payload: payload, Received: time.Now()}
	for i, cm := range p.commands {
		if cm.answers != nil && Matches(cm.answers.filter, topic) {
			return []Explanation{{By: fmt.Sprintf("commands[%d].reply", i), Says: []string{"reply to a command"}}}, nil
		}
	}
	for i, tm := range p.maps {
		name, points, ok, err := tm.Points(m)
		if !ok {
			continue
		}
		by := fmt.Sprintf("in[%d]", i)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", by, err)
		}
		return []Explanation{explained(by, fleets.Update{Device: name, Points: points})}, nil
	}
	for _, prof := range p.profiles {
		result, err := prof.Handle(m)
		if errors.Is(err, fleets.ErrNotMine) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("profile %s: %w", prof.name, err)
		}
		list := make([]Explanation, 0, len(result.Updates))
		for _, u := range result.Updates {
			list = append(list, explained("profile "+prof.name, u))
		}
		return list, nil
	}
	return nil, &fleets.Drop{Reason: reasonUnmapped, Detail: "no map and no profile of the connection knows this topic"}
}

func explained(by string, u fleets.Update) Explanation {
	e := Explanation{Device: wire.CleanID(u.Device), Name: u.Device, By: by}
	for _, p := range u.Points {
		e.Lines = append(e.Lines, lineOf(e.Device, p))
	}
	switch u.Presence {
	case fleets.Online:
		e.Says = append(e.Says, "online ("+u.Cause+")")
	case fleets.Offline:
		e.Says = append(e.Says, "offline ("+u.Cause+")")
	}
	for _, c := range u.Hello.Commands {
		e.Says = append(e.Says, "takes command "+c.Name)
	}
	return e
}

var (
	escapeName = strings.NewReplacer(`,`, `\,`, `=`, `\=`, ` `, `\ `)
	escapeText = strings.NewReplacer(`"`, `\"`, `\`, `\\`)
)

// lineOf shows a point as line protocol. It is for reading; ingest writes its own.
func lineOf(device string, p wire.Point) string {
	var b strings.Builder
	b.Write(p.Measurement)
	b.WriteString(",device=" + device)
	for _, t := range p.Tags {
		b.WriteString("," + string(t.Key) + "=" + escapeName.Replace(string(t.Value)))
	}
	for i, f := range p.Fields {
		b.WriteString(map[bool]string{true: " ", false: ","}[i == 0] + string(f.Key) + "=")
		if f.Kind == wire.Text {
			b.WriteString(`"` + escapeText.Replace(string(f.Value)) + `"`)
		} else {
			b.Write(f.Value)
		}
	}
	if p.HasTime {
		b.WriteString(" " + strconv.FormatInt(p.Time, 10))
	}
	return b.String()
}
