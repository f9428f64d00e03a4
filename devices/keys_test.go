package devices_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// text returns the next frame as it is written.
func (c *client) text() string {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(patience))
	_, data, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

// A device may rely on the keys that its page shows, also where their value says nothing.
func TestFramesHaveAllTheirKeys(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	for params, want := range map[string]string{"": `{}`, `null`: `null`, `{"s":1}`: `{"s":1}`, `5`: `5`} {
		order := wire.Command{ID: "c1", Name: "stop", Params: json.RawMessage(params), Attempt: 1, Expires: 1763832060123, TimeoutMS: 30000}
		if _, err := h.registry.Deliver(t.Context(), "pump-7", order); err != nil {
			t.Fatal(err)
		}
		want := `{"type":"command","id":"c1","name":"stop","params":` + want + `,"attempt":1,"expires":1763832060123,"timeout_ms":30000}`
		if got := c.text(); got != want {
			t.Errorf("params %q:\n got %s\nwant %s", params, got, want)
		}
	}
	c.send(`{"type":"telemetry","seq":1,"fields":{"a":1}}`)
	c.wantAck(1)
	c.send(`{"type":"telemetry","seq":1,"fields":{"a":1}}`)
	if got, want := c.text(), `{"type":"bye","code":4502,"reason":"seq does not increase","retry_after_ms":0}`; got != want {
		t.Errorf(" got %s\nwant %s", got, want)
	}
}

func TestFramesHaveAllTheirKeysInCBOR(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"), wire.SubprotocolCBOR)
	if _, err := h.registry.Deliver(t.Context(), "pump-7", wire.Command{ID: "c1", Name: "stop", Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	if got := []byte(c.text()); !bytes.Contains(got, []byte("\x66params\xa0")) {
		t.Errorf("no params in %q", got)
	}
	c.send("text") // which is no CBOR
	if got := []byte(c.text()); !bytes.Contains(got, []byte("\x6eretry_after_ms\x00")) {
		t.Errorf("no retry_after_ms in %q", got)
	}
}
