package devices_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// refusal is what a refused connect was answered.
type refusal struct {
	status int
	header http.Header
	body   struct {
		Title, Detail, Code string
		Time                int64
	}
}

func (h *hub) refused(url string, header http.Header) refusal {
	h.t.Helper()
	ws, resp, err := (&websocket.Dialer{HandshakeTimeout: patience}).Dial(url, header)
	if err == nil {
		ws.Close()
		h.t.Fatal("connected")
	}
	if resp == nil {
		h.t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	r := refusal{status: resp.StatusCode, header: resp.Header}
	data, _ := io.ReadAll(resp.Body) // gorilla keeps the first KiB
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
		h.t.Fatalf("content type %q, body %q", ct, data)
	}
	if err := json.Unmarshal(data, &r.body); err != nil {
		h.t.Fatalf("body %q: %v", data, err)
	}
	if got := time.UnixMilli(r.body.Time); time.Since(got).Abs() > time.Minute {
		h.t.Fatalf("hub time %v", got)
	}
	return r
}

func bearerOf(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func TestRefusals(t *testing.T) {
	h := startHub(t, func(o *options) {
		o.cfg.Auth.Origins = []string{"https://plant.example"}
		o.cfg.Devices.ConnectsPerMinute = 3
	})
	good := h.device("pump-7")
	h.device("off")
	if _, err := h.records.Update(t.Context(), "off", 0, func(r *devices.Record) (bool, error) { r.Disabled = true; return true, nil }); err != nil {
		t.Fatal(err)
	}
	header := func(kv ...string) http.Header {
		out := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			out.Add(kv[i], kv[i+1])
		}
		return out
	}
	for _, c := range []struct {
		name   string
		query  string
		header http.Header
		status int
		code   string
	}{
		{"no token", "", nil, 401, "token_missing"},
		{"other scheme", "", header("Authorization", "Basic "+good), 401, "token_missing"},
		{"nonsense", "", bearerOf("nonsense"), 401, "token_malformed"},
		{"bad signature", "", bearerOf(good[:len(good)-8] + "AAAAAAAA"), 401, "token_malformed token_not_verified"},
		{"unknown device", "", bearerOf(h.token("nobody")), 403, "device_unknown"},
		{"disabled", "", bearerOf(h.token("off")), 403, "device_disabled"},
		{"token in query", "?token=" + good, nil, 400, "token_in_query"},
		{"token in query, other name", "?k=" + good, bearerOf(good), 400, "token_in_query"},
		{"two tokens", "", header("Authorization", "Bearer "+good, "Authorization", "Bearer "+good), 400, "two_tokens"},
		{"two tokens, two ways", "", header("Authorization", "Bearer "+good, "Sec-WebSocket-Protocol", "fairlead.v1.json, bearer."+good), 400, "two_tokens"},
		{"foreign origin", "", header("Authorization", "Bearer "+good, "Origin", "https://evil.example"), 403, "origin_not_allowed"},
		{"origin null", "", header("Authorization", "Bearer "+good, "Origin", "null"), 403, "origin_not_allowed"},
		{"unknown subprotocol", "", header("Authorization", "Bearer "+good, "Sec-WebSocket-Protocol", "mqtt"), 400, "bad_subprotocol"},
		{"empty subprotocol", "", header("Authorization", "Bearer "+good, "Sec-WebSocket-Protocol", "fairlead.v1.json,,"), 400, "bad_subprotocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := h.refused(h.url+c.query, c.header)
			if r.status != c.status || !strings.Contains(c.code, r.body.Code) {
				t.Fatalf("%d %+v, want %d %s", r.status, r.body, c.status, c.code)
			}
			if c.status == 401 && r.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
				t.Fatalf("WWW-Authenticate %q", r.header.Get("WWW-Authenticate"))
			}
			if strings.Contains(r.body.Detail, good) {
				t.Fatal("the answer repeats the token")
			}
		})
	}
	t.Run("no upgrade", func(t *testing.T) {
		resp, err := http.Get(strings.Replace(h.url, "ws://", "http://", 1))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 400 || resp.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Fatalf("%s %v", resp.Status, resp.Header)
		}
	})
	t.Run("too often", func(t *testing.T) {
		for range 3 {
			h.connect(good)
		}
		r := h.refused(h.url, bearerOf(good))
		if r.status != 429 || r.header.Get("Retry-After") == "" {
			t.Fatalf("%d %v", r.status, r.header)
		}
	})
}

func TestBrowserToken(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Auth.Origins = []string{"https://plant.example"} })
	token := h.device("pump-7")
	d := websocket.Dialer{Subprotocols: []string{"bearer." + token, wire.SubprotocolCBOR, wire.SubprotocolJSON}}
	ws, resp, err := d.Dial(h.url, http.Header{"Origin": {"https://plant.example"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != wire.SubprotocolCBOR {
		t.Fatalf("chose %q", got)
	}
	for k, v := range resp.Header {
		if strings.Contains(strings.Join(v, ""), "eyJ") {
			t.Fatalf("the answer's %s repeats the token", k)
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.MaxSessions = 2 })
	a := h.connect(h.device("a"))
	h.connect(h.device("b"))
	token := h.device("c")
	r := h.refused(h.url, bearerOf(token))
	if r.status != 503 || r.body.Code != "too_many_sessions" || r.header.Get("Retry-After") == "" {
		t.Fatalf("%d %+v %v", r.status, r.body, r.header)
	}
	a.ws.Close()
	eventually(t, "a place is free", func() bool { return h.registry.Len() == 1 })
	h.connect(token)
}

func TestLimitAboveOpenFilesIsRefused(t *testing.T) {
	cfg := configs.Default().Devices
	cfg.MaxSessions = 1 << 30
	_, err := devices.NewRegistry(devices.RegistryOptions{Config: cfg})
	if err == nil || !strings.Contains(err.Error(), "ulimit") {
		t.Fatalf("got %v", err)
	}
}
