package fleets_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

func toggle(id string) wire.Command {
	return wire.Command{ID: id, Name: "power", Params: json.RawMessage(`{"state":"toggle"}`)}
}

// A message that was there before the device was asked is no answer, however long it waited to be read.
func TestTasmotaNoAnswerBeforeTheQuestion(t *testing.T) {
	p := tasmota(t)
	if _, err := p.Command("plug", toggle("c1"), now); err == nil {
		t.Fatal("an unknown device was asked")
	}
	_, _ = p.Handle(message("tele/plug/LWT", "Online"))
	if _, err := p.Command("plug", toggle("c1"), now); err != nil {
		t.Fatal(err)
	}
	result := message("stat/plug/RESULT", `{"POWER":"ON"}`)
	result.Received = now.Add(-time.Millisecond)
	if got := show(p.Handle(result)); strings.Contains(got, "answer") {
		t.Errorf("an older message says %q", got)
	}
	result.Received = now.Add(time.Millisecond)
	if got := show(p.Handle(result)); !strings.Contains(got, "answer(c1 ok=true observed)") {
		t.Errorf("a later message says %q", got)
	}
}

// A second attempt that was not published takes nothing from the first: its answer is waited for, from when it was asked.
func TestTasmotaAnswerToTheFirstAttempt(t *testing.T) {
	p := tasmota(t)
	_, _ = p.Handle(message("tele/plug/LWT", "Online"))
	if _, err := p.Command("plug", toggle("c1"), now); err != nil {
		t.Fatal(err)
	}
	again, err := p.Command("plug", toggle("c1"), now.Add(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	again.Forget()
	result := message("stat/plug/RESULT", `{"POWER":"ON"}`)
	result.Received = now.Add(time.Second)
	if got := show(p.Handle(result)); !strings.Contains(got, "answer(c1 ok=true observed)") {
		t.Errorf("the answer to the first attempt says %q", got)
	}
	only, err := p.Command("plug", toggle("c2"), now)
	if err != nil {
		t.Fatal(err)
	}
	only.Forget()
	if got := show(p.Handle(message("stat/plug/RESULT", `{"POWER":"ON"}`))); strings.Contains(got, "answer") {
		t.Errorf("what was never published is answered: %q", got)
	}
}
