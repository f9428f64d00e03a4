package devices_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

func TestWelcomeTellsTheSession(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"), wire.SubprotocolJSON)
	w := c.welcome
	if w.Device != "pump-7" || w.Session == "" || w.HeartbeatS != 30 || w.Limits.UnackedFrames != 256 || w.TokenExpires <= w.Time {
		t.Fatalf("welcome %+v", w)
	}
	if got := h.presence.State("pump-7"); got.Status != devices.Online || got.Session != w.Session || got.Link != devices.LinkWebSocket {
		t.Fatalf("presence %+v", got)
	}
}

func TestAckFollowsTheLog(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	h.log.set(func(l *telemetryLog) { l.held = true })
	for seq := 1; seq <= 5; seq++ {
		c.send(fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"temp":21.5}}`, seq*10))
	}
	eventually(t, "five frames are in the log", func() bool { return h.log.count() == 5 })
	if n := h.metric("fairlead_devices_acks_total"); n != 0 {
		t.Fatalf("%v acks before anything was stored", n)
	}
	h.log.release()
	c.wantAck(50)
}

func TestCBORSession(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"), "bearer-less-nonsense", wire.SubprotocolCBOR)
	frame := &wire.Telemetry{Seq: 3}
	frame.AddPoint().Fields = []wire.Field{wire.NewNumber("temp", 21.5)}
	data, err := wire.Append(nil, wire.CBOR, frame)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, data); err != nil {
		t.Fatal(err)
	}
	c.wantAck(3)
}

func TestCommandGoesDownAndItsAnswerUp(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	a, err := h.registry.Deliver(t.Context(), "pump-7", wire.Command{
		ID: "c1", Name: "set_interval", Params: json.RawMessage(`{"seconds":10}`), Attempt: 1,
		Expires: time.Now().Add(time.Minute).UnixMilli(), TimeoutMS: 30000,
	})
	if err != nil || a.Session != c.welcome.Session {
		t.Fatalf("deliver: %+v, %v", a, err)
	}
	if cmd, ok := c.read().(*wire.Command); !ok || cmd.ID != "c1" || string(cmd.Params) != `{"seconds":10}` {
		t.Fatalf("got %+v", cmd)
	}
	c.send(`{"type":"accept","id":"c1"}`) // no ack: it would let the device forget the result that follows
	c.send(`{"type":"result","id":"c1","ok":true,"result":{"was":60}}`)
	if ack, ok := c.read().(*wire.Ack); !ok || ack.ID != "c1" {
		t.Fatalf("got %+v", ack)
	}
	got := h.commands.all()
	if len(got) != 2 || got[0].Kind != wire.Accept || got[1].Kind != wire.Result || string(got[1].Result) != `{"was":60}` {
		t.Fatalf("answers %+v", got)
	}
	if err := h.registry.Cancel(t.Context(), "pump-7", "c1"); err != nil {
		t.Fatal(err)
	}
	if cancel, ok := c.read().(*wire.Cancel); !ok || cancel.ID != "c1" {
		t.Fatalf("got %+v", cancel)
	}
	if _, err := h.registry.Deliver(t.Context(), "pump-8", wire.Command{ID: "c2"}); !errors.Is(err, devices.ErrNotConnected) {
		t.Fatalf("deliver to nobody: %v", err)
	}
}

func TestAnswerThatIsNotRecordedIsNotAcked(t *testing.T) {
	h := startHub(t)
	h.commands.err = errors.New("bus is down")
	c := h.connect(h.device("pump-7"))
	c.send(`{"type":"result","id":"c1","ok":true}`)
	if bye, ok := c.read().(*wire.Bye); !ok || bye.Code != int(devices.CloseOverloaded) { // to come back and say it again
		t.Fatalf("got %+v", bye)
	}
}

func TestHelloIsRecordedOnce(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	const hello = `{"type":"hello","firmware":"1.4.2","model":"thermo-2","commands":[{"name":"reboot","dangerous":true}]}`
	c.send(hello)
	eventually(t, "hello is in the record", func() bool {
		r, _ := h.records.Record("pump-7")
		return r.Firmware == "1.4.2" && r.Announced && len(r.Commands) == 1 && r.Commands[0].Dangerous
	})
	before, _ := h.records.Record("pump-7")
	c.send(hello)
	c.send(`{"type":"telemetry","seq":1,"fields":{"a":1}}`)
	c.wantAck(1)
	if after, _ := h.records.Record("pump-7"); after.Revision != before.Revision {
		t.Fatal("an unchanged hello was written again")
	}
	c.send(`{"type":"hello","firmware":"` + strings.Repeat("x", 200) + `"}`)
	if e, ok := c.read().(*wire.Error); !ok || e.Code != "invalid_hello" {
		t.Fatalf("got %+v", e)
	}
	// What cannot be checked the device is told; the rest of its hello counts.
	c.send(`{"type":"hello","firmware":"1.5","commands":[{"name":"reboot","params":{"type":"banana"}}]}`)
	if e, ok := c.read().(*wire.Error); !ok || e.Code != "invalid_schema" || e.Message != "reboot: banana is no type" {
		t.Fatalf("got %+v", e)
	}
	eventually(t, "the hello is in the record", func() bool {
		r, _ := h.records.Record("pump-7")
		return r.Firmware == "1.5"
	})
}

func TestRejectsAndUnknownTypes(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	c.send(`{"type":"dance"}`)
	if e, ok := c.read().(*wire.Error); !ok || e.Code != "unknown_type" {
		t.Fatalf("got %+v", e)
	}
	c.send(`{"type":"telemetry","seq":1,"fields":{"temp":"` + "\\u0001" + `","x":{}}}`)
	if r, ok := c.read().(*wire.Reject); !ok || r.Seq != 1 {
		t.Fatalf("got %+v", r)
	}
	h.log.set(func(l *telemetryLog) { l.reject = &wire.Reject{Code: wire.TypeConflict, Message: "is a number"} })
	c.send(`{"type":"telemetry","seq":2,"fields":{"temp":"x"}}`)
	if r, ok := c.read().(*wire.Reject); !ok || r.Seq != 2 || r.Code != wire.TypeConflict {
		t.Fatalf("got %+v", r)
	}
	h.log.set(func(l *telemetryLog) { l.reject = nil })
	c.send(`{"type":"telemetry","seq":3,"fields":{"temp":1}}`)
	c.wantAck(3)
}

func TestTooManyMalformedFrames(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	for range h.cfg.Devices.MalformedLimit + 1 {
		c.send(`{"type":`)
	}
	c.wantClose(devices.CloseMalformed)
}

// Bad frames count for a minute, and good ones between them do not make up for them.
func TestMalformedFramesWithinAMinute(t *testing.T) {
	clock := newStopped()
	h := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.Heartbeat = 100 * time.Hour })
	c := h.connect(h.device("pump-7"))
	seq := 0
	malformed := func() {
		t.Helper()
		c.send(`{"type":`)
		if _, ok := c.read().(*wire.Reject); !ok {
			t.Fatal("no reject")
		}
		seq++
		c.send(point(seq))
		c.wantAck(uint64(seq))
	}
	for range 3 { // three minutes, each with as many as may be
		for range h.cfg.Devices.MalformedLimit {
			malformed()
		}
		clock.advance(61 * time.Second)
		eventually(t, "the hub looks at its clock", func() bool { return h.registry.Clocked(clock.now()) })
	}
	for range h.cfg.Devices.MalformedLimit {
		malformed()
	}
	c.send(`{"type":`)
	c.wantClose(devices.CloseMalformed)
}

// Pings are counted by a clock that nobody sets.
func TestPingsAreCountedByTheRegistrysClock(t *testing.T) {
	clock := newStopped()
	h := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.Heartbeat = 100 * time.Hour })
	c := h.connect(h.device("pump-7"))
	burst := func(seq int) {
		t.Helper()
		for range 20 {
			if err := c.ws.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
		}
		c.send(point(seq))
		c.wantAck(uint64(seq)) // the pings before it were taken
	}
	for seq := 1; seq <= 3; seq++ {
		burst(seq)
		clock.advance(2 * time.Second)
		eventually(t, "the hub looks at its clock", func() bool { return h.registry.Clocked(clock.now()) })
	}
	burst(4)
	_ = c.ws.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(patience))
	c.wantClose(devices.CloseQuota)
}

// A device that says something else of itself again and again is slowed down; nothing that it says is lost. One that repeats
// itself is not.
func TestChangedHellosAreSlowedDown(t *testing.T) {
	t.Parallel()
	const hellos = 12
	for name, changes := range map[string]bool{"changes": true, "repeats": false} {
		t.Run(name, func(t *testing.T) {
			clock := newStopped()
			h := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.Heartbeat = 100 * time.Hour })
			c := h.connect(h.device("pump-7"))
			first := h.revision("pump-7")
			for i := range hellos {
				n := 0
				if changes {
					n = i
				}
				c.send(fmt.Sprintf(`{"type":"hello","firmware":"1.%d","commands":[{"name":"c","params":{"title":"%d"}}]}`, n, n))
			}
			c.send(point(1))
			if !changes {
				c.wantAck(1)
				if n := h.metric("fairlead_devices_slowed_total"); n != 0 || h.revision("pump-7") != first+1 {
					t.Fatalf("slowed %v times, %d writes", n, h.revision("pump-7")-first)
				}
				return
			}
			eventually(t, "the device is held back", func() bool { return h.metric("fairlead_devices_slowed_total") == 1 })
			if n := int(h.revision("pump-7") - first); n != devices.HellosAtOnce || h.commands.announcements() != devices.HellosAtOnce || h.log.count() != 0 {
				t.Errorf("%d changes written and %d compiled at once, %d frames behind them taken", n, h.commands.announcements(), h.log.count())
			}
			eventually(t, "all is taken in time", func() bool {
				clock.advance(time.Second)
				return h.log.count() == 1
			})
			c.wantAck(1)
			rec, _ := h.records.Record("pump-7")
			if want := fmt.Sprintf("1.%d", hellos-1); rec.Firmware != want {
				t.Errorf("firmware %s, want %s", rec.Firmware, want)
			}
		})
	}
}

func (h *hub) revision(id string) uint64 {
	h.t.Helper()
	rec, ok := h.records.Record(id)
	if !ok {
		h.t.Fatal(id + " has no record")
	}
	return rec.Revision
}

func TestSeqMustIncrease(t *testing.T) {
	h := startHub(t)
	c := h.connect(h.device("pump-7"))
	c.send(`{"type":"telemetry","seq":7,"fields":{"a":1}}`)
	c.wantAck(7)
	c.send(`{"type":"telemetry","seq":7,"fields":{"a":1}}`)
	if bye := c.wantClose(devices.CloseViolation); bye.RetryAfterMS != 0 {
		t.Fatalf("a device that breaks the protocol is asked back after %d ms", bye.RetryAfterMS)
	}
	eventually(t, "presence is off line", func() bool { return h.presence.Status("pump-7") == devices.Offline })
}

func TestWindowStopsReading(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.UnackedFrames = 4 })
	c := h.connect(h.device("pump-7"))
	h.log.set(func(l *telemetryLog) { l.held = true })
	for seq := 1; seq <= 20; seq++ {
		c.send(fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"a":1}}`, seq))
	}
	eventually(t, "the window is full", func() bool { return h.log.count() == 4 })
	// Commands still go down while telemetry waits.
	if _, err := h.registry.Deliver(t.Context(), "pump-7", wire.Command{ID: "c1"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.read().(*wire.Command); !ok {
		t.Fatal("no command")
	}
	if n := h.log.count(); n != 4 {
		t.Fatalf("%d frames in the log, want 4", n)
	}
	h.log.release()
	c.wantAck(20)
}

func TestDuplicateDeviceNewestWins(t *testing.T) {
	h := startHub(t)
	token := h.device("pump-7")
	first := h.connect(token)
	second := h.connect(token)
	first.wantClose(devices.CloseReplaced)
	eventually(t, "the old session is gone", func() bool { return h.metric("fairlead_devices_sessions") == 1 })
	if got := h.presence.State("pump-7"); got.Status != devices.Online || got.Session != second.welcome.Session {
		t.Fatalf("presence %+v", got)
	}
	second.send(`{"type":"telemetry","seq":1,"fields":{"a":1}}`)
	second.wantAck(1)
}

func TestRecordChangesEndTheSession(t *testing.T) {
	for name, change := range map[string]func(h *hub, id string) error{
		"disabled": func(h *hub, id string) error {
			_, err := h.records.Update(context.Background(), id, 0, func(r *devices.Record) (bool, error) { r.Disabled = true; return true, nil })
			return err
		},
		"deleted": func(h *hub, id string) error { return h.records.Delete(context.Background(), id, 0) },
		"revoked": func(h *hub, id string) error {
			_, err := h.records.Revoke(context.Background(), id, time.Now().Add(time.Millisecond))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t)
			token := h.device("pump-7")
			c := h.connect(token)
			if err := change(h, "pump-7"); err != nil {
				t.Fatal(err)
			}
			c.wantClose(devices.CloseRevoked)
			if _, resp, err := dial(h.url, token); err == nil || resp.StatusCode != 403 {
				t.Fatalf("connect again: %v", err)
			}
		})
	}
}
