package fleets_test

import (
	"testing"
)

// What a plug says of its switches is its reported state; measurements and what the hub asked are not.
func TestTasmotaState(t *testing.T) {
	p := tasmota(t)
	for _, c := range []struct{ topic, payload, want string }{
		{"tele/plug/STATE", `{"Uptime":"1T","Heap":25,"POWER":"ON","Dimmer":40,"Wifi":{"RSSI":70}}`, `{"dimmer":40,"power":"on"}`},
		{"tele/plug/STATE", `{"POWER1":"OFF","POWER2":"on"}`, `{"power1":"off","power2":"on"}`},
		{"tele/plug/STATE", `{"Uptime":"1T","POWERFUL":"x"}`, ``},
		{"tele/plug/SENSOR", `{"ENERGY":{"Power":12},"POWER":"ON"}`, ``},
		{"tele/plug/RESULT", `{"POWER":"OFF"}`, `{"power":"off"}`},
		{"stat/plug/RESULT", `{"POWER":"ON"}`, `{"power":"on"}`},
		{"stat/plug/RESULT", `{"POWER":"Dimmed\u0007"}`, `{"power":"dimmed "}`},
		{"stat/plug/RESULT", `{"Command":"Unknown"}`, ``},
		{"tele/plug/LWT", `Online`, ``},
	} {
		r, err := p.Handle(message(c.topic, c.payload))
		if err != nil || len(r.Updates) != 1 {
			t.Errorf("%s %s: %v, %d updates", c.topic, c.payload, err, len(r.Updates))
			continue
		}
		if got := string(r.Updates[0].State); got != c.want {
			t.Errorf("%s %s: state %s, want %s", c.topic, c.payload, got, c.want)
		}
	}
	kept := message("tele/plug/STATE", `{"POWER":"ON"}`)
	kept.Retained = true
	if r, _ := p.Handle(kept); len(r.Updates) > 0 {
		t.Errorf("a retained state is of an unknown time: %+v", r.Updates)
	}
	if _, err := p.Handle(message("tasmota/discovery/D8F15BB3DB2D/config", `{"t":"other","fn":["x"],"tp":["cmnd","stat","tele"],"ft":"%prefix%/%topic%/","ofln":"Off","onln":"On","state":["AUS","EIN","UM","HALT"],"rl":[1],"mac":"D8F15BB3DB2D"}`)); err != nil {
		t.Fatal(err)
	}
	r, err := p.Handle(message("stat/other/RESULT", `{"POWER":"EIN"}`))
	if err != nil || string(r.Updates[0].State) != `{"power":"on"}` {
		t.Errorf("its own word for on: %+v %v", r.Updates, err)
	}
}
