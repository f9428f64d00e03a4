package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// view is a live view, seen from outside.
type view struct {
	t    *testing.T
	conn *websocket.Conn
}

type frame struct {
	Event, Device, Status, Code, Path string
	Dropped                           int
	Fate, Direction                   string
	Events, Unknown                   []string
	Points                            []api.Point
	Command                           *api.Command
}

func (h *hub) dial(change func(http.Header), protocols ...string) (*view, *http.Response, error) {
	h.t.Helper()
	d := websocket.Dialer{TLSClientConfig: h.tls(), Subprotocols: protocols, HandshakeTimeout: 10 * time.Second}
	header := http.Header{}
	change(header)
	conn, resp, err := d.DialContext(h.t.Context(), "wss"+strings.TrimPrefix(h.srv.URL, "https")+"/api/v1/live", header)
	if err != nil {
		return nil, resp, err
	}
	h.t.Cleanup(func() { conn.Close() })
	return &view{h.t, conn}, resp, nil
}

func withToken(token string) func(http.Header) {
	return func(h http.Header) { h.Set("Authorization", "Bearer "+token) }
}

func (h *hub) view(token string) *view {
	h.t.Helper()
	v, _, err := h.dial(withToken(token), api.LiveProtocol)
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

func (v *view) subscribe(devices, events string) {
	v.t.Helper()
	v.say(fmt.Sprintf(`{"subscribe":{"devices":%s,"events":%s}}`, devices, events))
	if f := v.next(); f.Event != "subscribed" {
		v.t.Fatalf("%+v, want subscribed", f)
	}
}

func (v *view) say(text string) {
	v.t.Helper()
	if err := v.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *view) next() frame {
	v.t.Helper()
	f, err := v.read()
	if err != nil {
		v.t.Fatal(err)
	}
	return f
}

func (v *view) read() (frame, error) {
	var f frame
	if err := v.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return f, err
	}
	_, data, err := v.conn.ReadMessage()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(data, &f)
}

// closed wants the hub to close with code.
func (v *view) closed(code int) {
	v.t.Helper()
	for {
		if _, err := v.read(); err != nil {
			if !websocket.IsCloseError(err, code) {
				v.t.Fatalf("%v, want close %d", err, code)
			}
			return
		}
	}
}

func (h *hub) publish(k api.Kind, device string, event any) {
	h.t.Helper()
	if err := api.Publish(h.bus.Conn(), k, device, event); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) presence(device string) {
	h.t.Helper()
	h.publish(api.PresenceKind, device, api.PresenceEvent{Event: api.PresenceKind, Device: device, Status: api.Online, Since: 1})
}

func (h *hub) telemetry(device string, value float64) {
	h.t.Helper()
	h.publish(api.TelemetryKind, device, api.TelemetryEvent{
		Event: api.TelemetryKind, Device: device,
		Points: []api.Point{{Measurement: "env", Time: 1, Fields: map[string]any{"temp": value, "text": strings.Repeat("x", 60_000)}}},
	})
}

func (h *hub) command(device, id string) {
	h.t.Helper()
	h.publish(api.CommandKind, device, api.CommandChange{Event: api.CommandKind, Command: api.Command{ID: id, Device: device, State: "sent"}})
}

func TestLiveEvents(t *testing.T) {
	h := start(t)
	v := h.view(h.admin())
	v.subscribe(`["*"]`, `["presence","telemetry","command","state"]`)
	h.presence("pump-7")
	if f := v.next(); f.Event != "presence" || f.Device != "pump-7" || f.Status != "online" {
		t.Errorf("%+v", f)
	}
	h.telemetry("pump-8", 2.5)
	if f := v.next(); f.Event != "telemetry" || f.Device != "pump-8" || f.Points[0].Fields["temp"] != 2.5 {
		t.Errorf("%+v", f)
	}
	h.command("plug-1", "c1")
	if f := v.next(); f.Event != "command" || f.Command.ID != "c1" {
		t.Errorf("%+v", f)
	}
	h.publish(api.StateKind, "pump-7", api.StateEvent{Event: api.StateKind, Device: "pump-7", TwinState: api.TwinState{Desired: json.RawMessage(`{}`)}})
	if f := v.next(); f.Event != "state" || f.Device != "pump-7" {
		t.Errorf("%+v", f)
	}
	// A new subscription replaces the old one.
	v.subscribe(`["pump-7"]`, `["presence"]`)
	h.presence("pump-8")
	h.telemetry("pump-7", 1)
	h.presence("pump-7")
	if f := v.next(); f.Event != "presence" || f.Device != "pump-7" {
		t.Errorf("%+v, want only what is subscribed now", f)
	}
}

func TestTelemetryIsProducedOnlyForWhomItIsWatched(t *testing.T) {
	h := start(t)
	a, b := h.view(h.admin()), h.view(h.admin())
	a.subscribe(`["*"]`, `["presence","command"]`)
	if got := h.rest.watchLog(); got != "" {
		t.Errorf("watched without telemetry: %s", got)
	}
	a.subscribe(`["pump-7"]`, `["telemetry"]`)
	b.subscribe(`["pump-7"]`, `["telemetry"]`)
	b.subscribe(`["*"]`, `["telemetry"]`)
	a.subscribe(`["pump-8"]`, `["telemetry"]`)
	if got, want := h.rest.watchLog(), "telemetry pump-7 true, telemetry * true, telemetry pump-8 true, telemetry pump-7 false"; got != want {
		t.Errorf("watched: %s\nwant:    %s", got, want)
	}
	a.conn.Close()
	b.conn.Close()
	wantSoon(t, "nobody looks", func() bool {
		got := h.rest.watchLog()
		return strings.Contains(got, "telemetry * false") && strings.Contains(got, "pump-8 false")
	})
}

func TestTraceIsOfNamedDevices(t *testing.T) {
	h := start(t)
	v := h.view(h.admin())
	for _, devices := range []string{`["*"]`, `["a","b","c","d","e","f","g","h","i","j","k","l","m","n","o","p","q"]`} {
		v.say(`{"subscribe":{"devices":` + devices + `,"events":["presence","trace"]}}`)
		if f := v.next(); f.Event != "error" || f.Code != "too_many_devices" {
			t.Errorf("%s: %+v", devices, f)
		}
	}
	v.say(`{"subscribe":{"devices":["*"]}}`) // all kinds but this one
	if f := v.next(); f.Event != "subscribed" || len(f.Events) != 4 || slices.Contains(f.Events, "trace") {
		t.Errorf("%+v", f)
	}
	v.subscribe(`["pump-7"]`, `["trace"]`)
	if got := h.rest.watchLog(); !strings.Contains(got, "trace pump-7 true") {
		t.Errorf("watched: %s", got)
	}
	h.publish(api.TraceKind, "pump-8", api.TraceEvent{Event: api.TraceKind, Device: "pump-8"})
	h.publish(api.TraceKind, "pump-7", api.TraceEvent{
		Event: api.TraceKind, Device: "pump-7", TraceFrame: api.TraceFrame{Time: 1, Direction: "in", Bytes: 2, Fate: "stored", Frame: "{}"},
	})
	if f := v.next(); f.Event != "trace" || f.Device != "pump-7" || f.Fate != "stored" || f.Direction != "in" {
		t.Errorf("%+v", f)
	}
	v.conn.Close()
	wantSoon(t, "nobody looks", func() bool { return strings.Contains(h.rest.watchLog(), "trace pump-7 false") })
}

// TestSubscriptionTellsWhatIsUnknown: silence about a device that is not there looks like a device that says nothing.
func TestSubscriptionTellsWhatIsUnknown(t *testing.T) {
	h := start(t)
	bound := h.operator("bea", api.Viewer, "site=plant-7")
	for token, want := range map[string]string{h.admin(): "[nobody]", bound: "[nobody pump-8]"} {
		v := h.view(token)
		v.say(`{"subscribe":{"devices":["pump-8","nobody","pump-7"],"events":["presence"]}}`)
		if f := v.next(); f.Event != "subscribed" || fmt.Sprint(f.Unknown) != want {
			t.Errorf("%+v, want %s", f, want)
		}
	}
	h.call(h.admin(), "GET", "/api/v1/devices/nobody", nil).refused(http.StatusNotFound, "device_not_found").names("nobody")
}

func TestBoundViewerGetsOnlyItsDevices(t *testing.T) {
	h := start(t)
	v := h.view(h.operator("me", api.Viewer, "site=plant-7"))
	v.subscribe(`["*","pump-8"]`, `["presence","telemetry","command"]`)
	for _, d := range []string{"pump-8", "none", "pump-7"} {
		h.presence(d)
		h.command(d, "c-"+d)
	}
	if f := v.next(); f.Device != "pump-7" && (f.Command == nil || f.Command.Device != "pump-7") {
		t.Errorf("%+v", f)
	}
	if f := v.next(); f.Device != "pump-7" && (f.Command == nil || f.Command.Device != "pump-7") {
		t.Errorf("%+v", f)
	}
	// The device moves to another plant.
	site := "plant-9"
	if _, err := h.fleet.Patch(t.Context(), "pump-7", api.DevicePatch{Labels: map[string]*string{"site": &site}}); err != nil {
		t.Fatal(err)
	}
	h.presence("pump-7")
	h.presence("plug-1")
	if f := v.next(); f.Device != "plug-1" {
		t.Errorf("%+v, want no event of a device that left", f)
	}
}

func TestWhoMayLookLive(t *testing.T) {
	h := start(t)
	token := h.admin()
	s := h.signIn(object{"token": token})
	cookie := s.cookie.Name + "=" + s.cookie.Value
	for name, c := range map[string]struct {
		header    http.Header
		protocols []string
		status    int
	}{
		"token":                       {http.Header{"Authorization": {"Bearer " + token}}, []string{api.LiveProtocol}, 101},
		"token of a browser":          {http.Header{"Origin": {"https://board.example"}}, []string{api.LiveProtocol, "bearer." + token}, 101},
		"cookie, own origin":          {http.Header{"Cookie": {cookie}, "Origin": {h.srv.URL}}, []string{api.LiveProtocol}, 101},
		"cookie, another origin":      {http.Header{"Cookie": {cookie}, "Origin": {"https://evil.example"}}, []string{api.LiveProtocol}, 403},
		"cookie, origin with a tail":  {http.Header{"Cookie": {cookie}, "Origin": {h.srv.URL + ".evil.example"}}, []string{api.LiveProtocol}, 403},
		"cookie, plaintext origin":    {http.Header{"Cookie": {cookie}, "Origin": {"http" + strings.TrimPrefix(h.srv.URL, "https")}}, []string{api.LiveProtocol}, 403},
		"cookie, opaque origin":       {http.Header{"Cookie": {cookie}, "Origin": {"null"}}, []string{api.LiveProtocol}, 403},
		"cookie, no origin":           {http.Header{"Cookie": {cookie}}, []string{api.LiveProtocol}, 403},
		"nothing":                     {nil, []string{api.LiveProtocol}, 401},
		"bad token":                   {nil, []string{api.LiveProtocol, "bearer.a.b.c"}, 401},
		"bad token beside a cookie":   {http.Header{"Cookie": {cookie}, "Origin": {h.srv.URL}}, []string{api.LiveProtocol, "bearer.a.b.c"}, 401},
		"no subprotocol":              {http.Header{"Authorization": {"Bearer " + token}}, nil, 400},
		"another subprotocol":         {http.Header{"Authorization": {"Bearer " + token}}, []string{"fairlead.live.v2"}, 400},
		"subprotocol is only a token": {nil, []string{"bearer." + token}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			v, resp, err := h.dial(func(header http.Header) {
				for k, values := range c.header {
					header[k] = values
				}
			}, c.protocols...)
			if resp == nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Fatalf("%d, want %d", resp.StatusCode, c.status)
			}
			if v != nil {
				if got := v.conn.Subprotocol(); got != api.LiveProtocol {
					t.Errorf("subprotocol %q: the token must not come back", got)
				}
				v.conn.Close()
			}
		})
	}
	// A token in a subprotocol is for the live socket alone.
	h.send("GET", "/api/v1/session", nil, header("Sec-WebSocket-Protocol", "bearer."+token)).refused(401, "unauthenticated")
}

func TestTrustedOriginMayLook(t *testing.T) {
	h := start(t, func(o *api.Options) { o.Origins = []string{"https://board.example"} })
	s := h.signIn(object{"token": h.admin()})
	v, _, err := h.dial(func(header http.Header) {
		header.Set("Cookie", s.cookie.Name+"="+s.cookie.Value)
		header.Set("Origin", "https://board.example")
	}, api.LiveProtocol)
	if err != nil {
		t.Fatal(err)
	}
	v.subscribe(`["*"]`, `["presence"]`)
}

func TestLiveViewEndsWithItsRights(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code int
		end  func(h *hub, s *signedIn)
	}{
		"disabled": {4401, func(h *hub, _ *signedIn) {
			h.call(h.admin(), "PATCH", "/api/v1/operators/me", object{"disabled": true})
		}},
		"removed": {4401, func(h *hub, _ *signedIn) { h.call(h.admin(), "DELETE", "/api/v1/operators/me", nil) }},
		"revoked": {4401, func(h *hub, _ *signedIn) { h.call(h.admin(), "DELETE", "/api/v1/operators/me/tokens", nil) }},
		"bound": {4000, func(h *hub, _ *signedIn) {
			h.call(h.admin(), "PATCH", "/api/v1/operators/me", object{"selector": "site=x"})
		}},
		"signed out": {4401, func(_ *hub, s *signedIn) { s.do("DELETE", "/api/v1/session", nil).want(204) }},
		"stopped":    {1001, func(h *hub, _ *signedIn) { h.stop() }},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			h.operator("me", api.Viewer, "")
			s := h.signIn(object{"secret": h.link("me")})
			v, _, err := h.dial(func(header http.Header) {
				header.Set("Cookie", s.cookie.Name+"="+s.cookie.Value)
				header.Set("Origin", h.srv.URL)
			}, api.LiveProtocol)
			if err != nil {
				t.Fatal(err)
			}
			v.subscribe(`["*"]`, `["presence"]`)
			c.end(h, s)
			v.closed(c.code)
		})
	}
}

func TestLiveViewEndsWithItsToken(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.admin()
	token, _, err := h.api.MintToken(t.Context(), "admin", "", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	v := h.view(token)
	v.subscribe(`["*"]`, `["presence"]`)
	v.closed(4401)
}

func TestBadMessages(t *testing.T) {
	h := start(t)
	v := h.view(h.admin())
	v.subscribe(`["*"]`, `["presence"]`)
	for text, want := range map[string]string{
		`x`: "invalid_json", `{}`: "invalid_request", `{"subscribe":{"devices":["*"],"topics":[]}}`: "unknown_field",
		`{"subscribe":{"devices":["a.b"]}}`: "invalid_request", `{"subscribe":{"devices":["*"],"events":["all"]}}`: "invalid_request",
		`{"subscribe":{"events":["presence"]}}`: "invalid_request", `{"subscribe":{"devices":"*"}}`: "invalid_type",
		`{"subscribe":{"devices":["a"` + strings.Repeat(`,"a"`, 1000) + `]}}`: "too_many_devices",
	} {
		v.say(text)
		if f := v.next(); f.Event != "error" || f.Code != want {
			t.Errorf("%.60s: %+v, want %s", text, f, want)
		}
	}
	h.presence("pump-7") // what was subscribed still is
	if f := v.next(); f.Event != "presence" {
		t.Errorf("%+v", f)
	}
	if err := v.conn.WriteMessage(websocket.BinaryMessage, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	v.closed(4502)
	flood := h.view(h.admin())
	for range 200 {
		if flood.conn.WriteMessage(websocket.TextMessage, []byte("{}")) != nil {
			break
		}
	}
	flood.closed(4429)
	big := h.view(h.admin())
	if err := big.conn.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("x", 1<<20))); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Logf("write of a large message: %v", err)
	}
	if _, err := big.read(); err == nil {
		t.Error("a message of 1 MiB was taken")
	}
}

// counter reads a metric without labels.
func (h *hub) counter(name string) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	h.t.Fatalf("no metric %s", name)
	return 0
}

// A slow viewer loses its oldest telemetry and hears how much; it loses no command; a quick one loses nothing.
func TestSlowViewer(t *testing.T) {
	t.Parallel()
	h := start(t)
	slow, quick := h.view(h.admin()), h.view(h.admin())
	slow.subscribe(`["*"]`, `["telemetry","command"]`)
	quick.subscribe(`["*"]`, `["telemetry","command"]`)
	sent := 0
	// The slow one reads nothing until its queue has overflowed, however much its socket takes. The quick one takes each
	// event at once.
	for h.counter("fairlead_api_live_dropped_total") < 20 {
		h.telemetry("pump-7", float64(sent))
		if f := quick.next(); f.Event != "telemetry" || f.Points[0].Fields["temp"] != float64(sent) {
			t.Fatalf("quick viewer: %+v, want event %d", f.Event, sent)
		}
		h.command("pump-7", fmt.Sprint(sent))
		if f := quick.next(); f.Event != "command" || f.Command.ID != fmt.Sprint(sent) {
			t.Fatalf("quick viewer: %+v, want command %d", f.Event, sent)
		}
		sent++
	}
	got, dropped, commands, newest := 0, 0, 0, -1
	for commands < sent {
		switch f := slow.next(); f.Event {
		case "telemetry":
			v := int(f.Points[0].Fields["temp"].(float64))
			if got++; v <= newest {
				t.Fatalf("event %d after %d", v, newest)
			}
			newest = v
		case "gap":
			dropped += f.Dropped
		case "command":
			if f.Command.ID != fmt.Sprint(commands) {
				t.Fatalf("command %s, want %d", f.Command.ID, commands)
			}
			commands++
		}
	}
	if newest != sent-1 || got+dropped != sent || dropped < 20 {
		t.Errorf("sent %d: got %d up to %d, told of %d lost", sent, got, newest, dropped)
	}
	t.Logf("sent=%d got=%d dropped=%d commands=%d", sent, got, dropped, commands)
}

// A viewer that cannot even take the commands is closed, so that it can never believe it has seen them all.
func TestViewerThatCannotTakeCommandsIsClosed(t *testing.T) {
	t.Parallel()
	h := start(t)
	slow := h.view(h.admin())
	slow.subscribe(`["*"]`, `["command"]`)
	const many = 400 // of 60 kB: more than its queue and any socket take
	for range many {
		h.publish(api.CommandKind, "pump-7", api.CommandChange{
			Event: api.CommandKind, Command: api.Command{ID: "c", Device: "pump-7", State: "sent", Params: json.RawMessage(`"` + strings.Repeat("x", 60_000) + `"`)},
		})
	}
	wantSoon(t, "all events are queued", func() bool { return h.events(api.CommandKind) == many })
	slow.closed(4429)
}

// events counts what was queued for viewers.
func (h *hub) events(k api.Kind) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "fairlead_api_live_events_total" {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == string(k) {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}
