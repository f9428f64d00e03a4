package ingest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
)

// Whatever form points come in, the same rules hold, and a fault is named by its place in that form.
func TestFormsAreCheckedAlike(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), func(o *ingest.Options) {
		o.Config.IntegerFields, o.Config.Tags = []string{"*_count"}, []string{"site", "unit"}
	})
	src := c.Open("pump-7", map[string]string{"site": "plant 7", "unit": "x"}, nil)
	wantTaken(t, src, `{"type":"telemetry","fields":{"text":"a"}}`)
	for _, r := range []struct {
		codec wire.Codec
		body  string
		code  wire.Code
		path  string
	}{
		{wire.Lines, "env,room=b2 a=1,s=\"x\",n_count=7i", "", ""},
		{wire.Lines, "env a=1\nenv,device=pump-8 a=1", wire.InvalidTag, "lines[1].tags.device"},
		{wire.Lines, "env,site=x a=1", wire.InvalidTag, "lines[0].tags.site"},
		{wire.Lines, `a\ b a=1`, wire.InvalidMeasurement, "lines[0].measurement"},
		{wire.Lines, `env time=1`, wire.InvalidField, "lines[0].fields.time"},
		{wire.Lines, `env a=1,a=2`, wire.InvalidField, "lines[0].fields.a"},
		{wire.Lines, "\n# c\nenv n_count=1.5", wire.InvalidField, "lines[2].fields.n_count"},
		{wire.Lines, `telemetry text=1`, wire.TypeConflict, "lines[0].fields.text"},
		{wire.Lines, "env a=1 9000000000000000000", wire.InvalidTime, "lines[0].time"},
		{wire.Lines, "env s=\"a\tb\"", wire.InvalidField, "lines[0].fields.s"},
		{wire.SenML, `[{"bn":"pump-7/env/","n":"a","v":1},{"n":"b","vs":"x"}]`, "", ""},
		{wire.SenML, `[{"n":"a","v":1},{"n":"text","v":1}]`, wire.TypeConflict, "[1]"},
		{wire.SenML, `[{"n":"a","v":1},{"n":"s","vs":"a\u0007"}]`, wire.InvalidField, "[1]"},
		{wire.SenML, `[{"n":"a","u":"V","v":1}]`, wire.InvalidTag, "[0].u"},
		{wire.SenML, `[{"n":"a","v":1},{"n":"b","v":1,"t":4000000000}]`, wire.InvalidTime, "[1].t"},
		{wire.JSON, `{"type":"telemetry","blocks":[{"start":1763832000000,"step_us":10,"fields":{"x":[1,2],"s":["a","b"]}}]}`, "", ""},
		{wire.JSON, `{"type":"telemetry","blocks":[{"start":1763832000000,"step_us":10,"fields":{"y":[1],"text":[1]}}]}`, wire.TypeConflict, "blocks[0].fields.text[0]"},
		{wire.JSON, `{"type":"telemetry","blocks":[{"start":1763832000000,"step_us":10,"fields":{"m":[null,1,"x"]}}]}`, wire.TypeConflict, "blocks[0].fields.m[2]"},
		{wire.JSON, `{"type":"telemetry","blocks":[{"start":1763832000000,"step_us":10,"tags":{"device":"x"},"fields":{"x":[1]}}]}`, wire.InvalidTag, "blocks[0].tags.device"},
		{wire.JSON, `{"type":"telemetry","blocks":[{"start":4000000000000,"step_us":10,"fields":{"x":[1]}}]}`, wire.InvalidTime, "blocks[0].start"},
		{wire.JSON, `{"type":"telemetry","blocks":[{"start":1763832000000,"step_us":10,"fields":{"a b":[null,1]}}]}`, wire.InvalidField, "blocks[0].fields.a b[1]"},
	} {
		d := wire.Decoder{Device: "pump-7", Now: time.Now}
		f, err := d.Decode(r.codec, []byte(r.body))
		if err == nil {
			err = src.Append(f.(*wire.Telemetry))
		}
		var rej *wire.Reject
		switch {
		case r.code == "" && err != nil:
			t.Errorf("%s: %v", r.body, err)
		case r.code != "" && (!errors.As(err, &rej) || rej.Code != r.code || rej.Path != r.path):
			t.Errorf("%s\ngot %v (%+v), want %s at %q", r.body, err, rej, r.code, r.path)
		}
	}
}
