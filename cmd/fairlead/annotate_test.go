package main

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

func TestAnnotationOfACommand(t *testing.T) {
	c := commands.Command{ID: "3F-ABCDEF", Device: "pump-7", Name: "reboot", State: commands.Failed, Actor: "ann", Events: []commands.Event{{Time: 1795381840722}}}
	p := annotation(c)
	if string(p.Measurement) != "command" || !p.HasTime || p.Time/1e6 != 1795381840722 {
		t.Errorf("point %+v", p)
	}
	got := map[string]string{}
	for _, f := range p.Fields {
		got[string(f.Key)] = string(f.Value)
	}
	for key, want := range map[string]string{"id": "3F-ABCDEF", "name": "reboot", "state": "failed", "actor": "ann"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	c.ID = "3G-ABCDEF"
	if other := annotation(c); other.Time == p.Time {
		t.Error("two commands of one millisecond are one point")
	}
}

// An annotation never blocks a command, whatever the log does.
func TestAnnotationsAreLeftOutWhenTooManyWait(t *testing.T) {
	reg := prometheus.NewRegistry()
	a := newAnnotations(nil, nil, nil, reg)
	for range maxAnnotations + 3 {
		a.Annotate(commands.Command{})
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(err, families)
	}
	if n := families[0].GetMetric()[0].GetCounter().GetValue(); n != 3 {
		t.Errorf("%v left out, want 3", n)
	}
}

func TestDevicesCannotAnnotate(t *testing.T) {
	points := func(names ...string) *wire.Telemetry {
		f := &wire.Telemetry{Seq: 7}
		for _, name := range names {
			f.Points = append(f.Points, wire.Point{Measurement: []byte(name)})
		}
		return f
	}
	if err := reserved(points("env", "commands", "Command")); err != nil {
		t.Errorf("refused: %v", err)
	}
	var reject *wire.Reject
	if err := reserved(points("env", "command")); !errors.As(err, &reject) || reject.Seq != 7 || reject.Path != "points[1].measurement" {
		t.Errorf("not refused: %v", err)
	}
}
