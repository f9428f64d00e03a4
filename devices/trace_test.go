package devices_test

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// look collects what a tracer of pump-7 sees.
func (h *hub) look() (frames chan devices.TracedFrame, stop func()) {
	frames = make(chan devices.TracedFrame, 256)
	return frames, h.registry.Trace("pump-7", func(f devices.TracedFrame) { frames <- f })
}

// seen reads frames until one has the fate.
func seen(t *testing.T, frames chan devices.TracedFrame, kind, fate string) devices.TracedFrame {
	t.Helper()
	var others []string
	for {
		select {
		case f := <-frames:
			if f.Type == kind && f.Fate == fate {
				return f
			}
			others = append(others, f.Type+" "+f.Fate)
		case <-time.After(patience):
			t.Fatalf("no %s %s among %q", kind, fate, others)
		}
	}
}

func TestTraceShowsEachFrame(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	frames, stop := h.look()
	more, stopMore := h.look()
	c := h.connect(h.device("pump-7"))
	if f := seen(t, frames, "welcome", "sent"); !f.Out || f.Device != "pump-7" || f.Session != c.welcome.Session || f.Bytes != len(f.Text) {
		t.Errorf("%+v", f)
	}
	c.send(point(1))
	c.wantAck(1)
	if f := seen(t, frames, "telemetry", "stored"); f.Out || f.Text != point(1) || f.Time.IsZero() {
		t.Errorf("%+v", f)
	}
	if f := seen(t, frames, "ack", "sent"); f.Text != `{"type":"ack","seq":1}` {
		t.Errorf("%+v", f)
	}
	c.send(`{"type":"telemetry","fields":{"temp":1}}`) // without seq nobody is told when it is stored
	seen(t, frames, "telemetry", "taken")
	c.send(`{"type":"telemetry","seq":2,"fields":{"temp":[1]},"pad":"` + strings.Repeat("x", 5000) + `"}`)
	if f := seen(t, frames, "telemetry", "invalid_field"); f.Bytes < 5000 || len(f.Text) > 4200 {
		t.Errorf("%d bytes, %d of them shown", f.Bytes, len(f.Text))
	}
	seen(t, frames, "reject", "sent")
	c.send(`{"type":"dance"}`)
	seen(t, frames, "dance", "unknown_type")
	c.send(`{"type"`)
	seen(t, frames, "", "invalid_json")
	seen(t, frames, "reject", "sent")
	stop()
	before := len(frames)
	c.send(point(3))
	// The other tracer still looks.
	for f := seen(t, more, "telemetry", "stored"); f.Text != point(3); f = seen(t, more, "telemetry", "stored") {
	}
	if len(frames) != before {
		t.Error("traced after stop")
	}
	h.registry.Kick("pump-7", "for the test")
	seen(t, more, "bye", "sent")
	if f := seen(t, more, "end", "kicked"); f.Text != "1012 for the test" {
		t.Errorf("%+v", f)
	}
	stopMore()
}

func TestTraceReadsCBOR(t *testing.T) {
	h := startHub(t)
	frames, stop := h.look()
	defer stop()
	c := h.connect(h.device("pump-7"), wire.SubprotocolCBOR)
	if f := seen(t, frames, "welcome", "sent"); !strings.HasPrefix(f.Text, "{") {
		t.Errorf("%+v", f)
	}
	if err := c.ws.WriteMessage(2, []byte{0xff, 0x00}); err != nil {
		t.Fatal(err)
	}
	if f := seen(t, frames, "", "invalid_frame"); f.Text != "ff00" {
		t.Errorf("%+v", f)
	}
}

// TestTraceHoldsNoToken sends tokens on every way that a frame can take, good and bad. Who read one could be the device.
func TestTraceHoldsNoToken(t *testing.T) {
	h := startHub(t)
	frames, stop := h.look()
	defer stop()
	token := h.device("pump-7")
	c := h.connect(token)
	for _, f := range []string{
		`{"type":"token","token":"` + token + `"}`,
		`{"type":"token","token":"` + token + `"`,
		`{"type":"Token","token":"` + token + `"}`,
		`{"type":"token","token":["` + token + `"]}`,
		`{"type":"telemetry","fields":{"x":"` + token + `"}}`,
		token,
	} {
		c.send(f)
	}
	seen(t, frames, "token", "renewed")
	c.send(point(1))
	c.wantAckAmong(1)
	if a := h.post(token, "application/json", `{"type":"telemetry","fields":{"x":"`+token+`"}}`); a.status != http.StatusNoContent {
		t.Fatalf("%+v", a)
	}
	bin := h.connect(token, wire.SubprotocolCBOR)
	raw, err := wire.Append(nil, wire.CBOR, &wire.TokenRenewal{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] = 0xff // and not CBOR any more
	if err := bin.ws.WriteMessage(2, raw); err != nil {
		t.Fatal(err)
	}
	signature := token[strings.LastIndexByte(token, '.')+1:]
	digits := hex.EncodeToString([]byte(signature))
	for shown := 0; ; shown++ {
		f := <-frames
		if strings.Contains(f.Text, signature) || strings.Contains(f.Text, digits) {
			t.Fatalf("a token is shown: %+v", f)
		}
		if f.Fate == "invalid_frame" && f.Bytes == len(raw) {
			if shown < 8 {
				t.Fatalf("%d frames", shown)
			}
			break
		}
	}
}

// wantAckAmong reads until the ack of seq has come, past what else the hub says.
func (c *client) wantAckAmong(seq uint64) {
	c.t.Helper()
	for {
		if a, ok := c.read().(*wire.Ack); ok && a.Seq == seq {
			return
		}
	}
}

// TestNoTraceCostsNothing holds that a frame of a device that nobody looks at allocates nothing for the trace.
func TestNoTraceCostsNothing(t *testing.T) {
	h := startHub(t)
	defer h.registry.Trace("pump-7", func(devices.TracedFrame) {})() // somebody looks at another device
	s := devices.NewTraced(h.registry, "pump-8")
	data := []byte(point(1))
	if n := testing.AllocsPerRun(1000, func() { s.Frame(data) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	// The control: of the one that is looked at, each is copied.
	see := 0
	stopMore := h.registry.Trace("pump-9", func(devices.TracedFrame) { see++ })
	defer stopMore()
	s = devices.NewTraced(h.registry, "pump-9")
	if n := testing.AllocsPerRun(100, func() { s.Frame(data) }); n == 0 || see == 0 {
		t.Errorf("%v allocations for %d frames that were seen", n, see)
	}
}

func BenchmarkNoTrace(b *testing.B) {
	h := startHub(b)
	s := devices.NewTraced(h.registry, "pump-8")
	data := []byte(point(1))
	b.ReportAllocs()
	for b.Loop() {
		s.Frame(data)
	}
}
