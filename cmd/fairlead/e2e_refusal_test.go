package main_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TestServeRefusesMistakes starts hubs that must not start: each says which key or file is wrong and what to do.
func TestServeRefusesMistakes(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	busy := taken.Addr().String()
	inUse := func(key string) string {
		return key + ": " + busy + " is in use by another program; stop that one, or set " + key + " to another address"
	}
	for name, c := range map[string]struct {
		config, env string
		args        []string
		want        string
		code        int // 0: 1
	}{
		"unknown key":      {config: "influx:\n  ulr: http://x\n", want: "[2:3] unknown field \"ulr\"\n  2 |   ulr: http://x"},
		"broken yaml":      {config: "listen: [1,\n", want: "fairlead.yaml: [1:9] sequence end token ']' not found"},
		"value":            {config: "ingest: {write_lines: 0}\n", want: "ingest.write_lines: "},
		"unit":             {config: "devices: {heartbeat: 30}\n", want: `devices.heartbeat: "30" is not a duration; write 30s, 5m or 24h`},
		"plaintext":        {config: "listen: 0.0.0.0:0\ntls: {mode: off}\n", args: []string{"--listen", "0.0.0.0:0"}, want: "tls.mode: off: without TLS the hub listens on loopback only; set tls.allow_plaintext: true if a proxy ends TLS"},
		"topic map":        {config: "bridge: {connections: [{name: a, url: embedded, in: [{topic: \"a/#/b\"}]}]}\n", want: "bridge.connections[0] (a).in[0]: topic: invalid topic \"a/#/b\": # must be the last level"},
		"variable":         {env: "FAIRLEAD_INGEST_WRITE_LINES=many", want: `FAIRLEAD_INGEST_WRITE_LINES: "many" is not a whole number`},
		"unknown variable": {env: "FAIRLEAD_INFLUX_ULR=x", want: "FAIRLEAD_INFLUX_ULR: no such key; `fairlead config print` shows all"},
		"no file":          {args: []string{"--config", "none.yaml"}, want: "read configuration: open none.yaml: no such file or directory"},
		"flag":             {args: []string{"--prot", "1"}, want: "unknown flag: --prot", code: 2},
		"port":             {config: loopback, args: []string{"--listen", busy}, want: inUse("listen")},
		"store port":       {config: loopback, env: "FAIRLEAD_INFLUX_EMBEDDED_LISTEN=" + busy, want: inUse("influx.embedded_listen")},
		"broker port":      {config: loopback, env: "FAIRLEAD_BRIDGE_BROKER_LISTEN=" + busy, want: inUse("bridge.broker.listen")},
		"admin port":       {config: loopback, env: "FAIRLEAD_ADMIN_LISTEN=" + busy, want: inUse("admin.listen")},
		"no nats":          {config: loopback + "nats: {urls: [\"nats://127.0.0.1:1\"]}\n", want: "connect to nats nats://127.0.0.1:1: nats: no servers available for connection; start the server or correct nats.urls"},
		"ready file":       {config: loopback, args: []string{"--ready-file", "none/ready.json"}, want: "ready file: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &hub{t: t, dir: t.TempDir(), listen: "127.0.0.1:0"}
			h.configure(c.config)
			cmd := h.command(c.args...)
			cmd.Dir = h.dir
			if c.env != "" {
				cmd.Env = append(cmd.Environ(), c.env)
			}
			code, _, stderr := run(t, cmd)
			if code != max(c.code, 1) || !strings.Contains(stderr, "fairlead: ") || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d\n got %s\nwant %s", code, stderr, c.want)
			}
			if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic") {
				t.Errorf("a crash, not a message:\n%s", stderr)
			}
		})
	}
}

// TestDataDirectoryHasOneOwner starts a second hub on the data of the first, which goes on.
func TestDataDirectoryHasOneOwner(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	code, _, stderr := run(t, exec.Command(binary, "serve", "--config", h.file("fairlead.yaml"), "--data", h.file("data")))
	want := "data_dir " + h.DataDir + ": another hub uses it; stop that one or choose another with --data"
	if code != 1 || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d\n got %s\nwant %s", code, stderr, want)
	}
	h.addDevice(t, "still-there", "x")
	h.stop()
	// Once it has stopped, the directory is free again.
	h.start()
	if _, known := h.device(t, "still-there"); !known {
		t.Error("the device is forgotten")
	}
	h.stop()
}

// ownKey is the key of a device that signs its tokens itself.
type ownKey struct {
	id      string
	private ed25519.PrivateKey
}

// addOwnKey makes a device with a key of its own.
func (r ready) addOwnKey(t *testing.T, id string) ownKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	body := map[string]any{"id": id, "keys": []any{map[string]any{"kid": "own", "public_key": text}}}
	if status := r.ask(t, "POST", "/devices", body, nil); status != http.StatusCreated {
		t.Fatalf("POST /devices with a key: %d", status)
	}
	return ownKey{id, private}
}

// sign makes a token, with changes to a good one.
func (k ownKey) sign(t *testing.T, change func(jwt.MapClaims)) string {
	t.Helper()
	now := time.Now()
	claims := jwt.MapClaims{"sub": k.id, "aud": "fairlead", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	change(claims)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = "own"
	signed, err := token.SignedString(k.private)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// TestConnectsAreRefused tells devices why they may not connect.
func TestConnectsAreRefused(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	key := h.addOwnKey(t, "signer")
	good := key.sign(t, func(jwt.MapClaims) {})
	gone := h.addDevice(t, "gone", "x")
	if status := h.ask(t, "DELETE", "/devices/gone", nil, nil); status != http.StatusNoContent {
		t.Fatalf("DELETE /devices/gone: %d", status)
	}
	disabled := h.addDevice(t, "disabled", "x")
	if status := h.ask(t, "PATCH", "/devices/disabled", map[string]any{"disabled": true}, nil); status != http.StatusOK {
		t.Fatalf("PATCH /devices/disabled: %d", status)
	}
	l := h.connect(t, "signer", good, jsonFrames) // the token from which the bad ones differ
	l.ws.Close()
	for name, c := range map[string]struct {
		token        string
		header       http.Header
		status       int
		code, detail string
	}{
		"expired":        {token: key.sign(t, func(c jwt.MapClaims) { c["iat"], c["exp"] = ago(2), ago(1) }), status: 401, code: "token_expired", detail: "expired"},
		"not yet":        {token: key.sign(t, func(c jwt.MapClaims) { c["nbf"] = ago(-1) }), status: 401, code: "token_not_yet_valid", detail: "compare your clock with time"},
		"other hub":      {token: key.sign(t, func(c jwt.MapClaims) { c["aud"] = "another" }), status: 401, code: "token_wrong_audience", detail: "aud"},
		"for ever":       {token: key.sign(t, func(c jwt.MapClaims) { c["exp"] = ago(-48) }), status: 401, code: "token_malformed", detail: "longer than 24h"},
		"other device":   {token: key.sign(t, func(c jwt.MapClaims) { c["sub"] = "disabled" }), status: 401},
		"changed":        {token: good[:len(good)-8] + "AAAAAAAA", status: 401},
		"none":           {status: 401, detail: "Authorization"},
		"not a token":    {token: "sesame", status: 401},
		"unknown device": {token: gone, status: 403, code: "device_unknown"},
		"disabled":       {token: disabled, status: 403, detail: "disabled"},
		"origin":         {token: good, header: http.Header{"Origin": {"https://elsewhere.example"}}, status: 403, code: "origin_not_allowed"},
	} {
		ws, res, err := h.dial(t, c.token, jsonFrames, c.header)
		if err == nil {
			ws.Close()
			t.Errorf("%s: connected", name)
			continue
		}
		if res == nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var p problem
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		res.Body.Close()
		if res.StatusCode != c.status || c.code != "" && p.Code != c.code || !strings.Contains(p.Detail, c.detail) || p.Title == "" || p.Code == "" ||
			time.Since(time.UnixMilli(p.Time)).Abs() > time.Minute || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %+v, want %d %s with %q", name, res.StatusCode, p, c.status, c.code, c.detail)
		}
		if (c.status == 401) != strings.Contains(res.Header.Get("WWW-Authenticate"), `Bearer error="invalid_token"`) {
			t.Errorf("%s: WWW-Authenticate %q", name, res.Header.Get("WWW-Authenticate"))
		}
		t.Logf("%s: %s: %s", name, p.Code, p.Detail)
	}
	h.stop()
}

func ago(hours int) int64 { return time.Now().Add(-time.Duration(hours) * time.Hour).Unix() }

// TestFramesAreRefused sends what no device should send, each time beside something good that is stored.
func TestFramesAreRefused(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	inJSON := h.connect(t, "a", h.addDevice(t, "a", "x"), jsonFrames)
	inCBOR := h.connect(t, "b", h.addDevice(t, "b", "x"), cborFrames)

	inJSON.text(`{"type":"telemetry","seq":1,"points":[{"fields":{"temp":NaN}}]}`)
	if r := inJSON.next("reject"); r.Seq != 1 || r.Code != "invalid_field" || r.Path != "points[0].fields.temp" || !strings.Contains(r.Message, "finite") {
		t.Errorf("NaN in JSON: %+v", r)
	}
	inCBOR.say(map[string]any{"type": "telemetry", "seq": 1, "points": []any{map[string]any{"fields": map[string]any{"temp": math.NaN()}}}})
	if r := inCBOR.next("reject"); r.Seq != 1 || r.Code != "invalid_field" || r.Path != "points[0].fields.temp" || !strings.Contains(r.Message, "finite") {
		t.Errorf("NaN in CBOR: %+v", r)
	}
	inJSON.text(`{"type":"telemetry","seq":2,"fields":{"temp":1e999}}`)
	if r := inJSON.next("reject"); r.Seq != 2 || r.Code != "invalid_field" || r.Path != "fields.temp" {
		t.Errorf("a number beyond all: %+v", r)
	}
	inJSON.text(`{"type":"telemetry","seq":3,"fields":{"te mp":1}}`)
	if r := inJSON.next("reject"); r.Seq != 3 || r.Code != "invalid_field" || r.Path != "fields.te mp" {
		t.Errorf("a bad name: %+v", r)
	}
	inJSON.text(`{"type":"telemetri","seq":3}`)
	if e := inJSON.next("error"); e.Code != "unknown_type" || !strings.Contains(e.Message, "telemetri") {
		t.Errorf("an unknown type: %+v", e)
	}
	inJSON.text(`{"type":"telemetry","seq":4,"fields":{"temp":21.5}}`)
	inJSON.wantAck(4)

	inJSON.text(`{"type":"telemetry","seq":5,"fields":{"note":"` + strings.Repeat("x", 64<<10) + `"}}`)
	if bye := inJSON.wantClose(1009); bye.Reason != "frame is over limits.frame_bytes of the welcome; send fewer points a frame" {
		t.Errorf("an oversize frame: bye %+v", bye)
	}
	inCBOR.say(map[string]any{"type": "telemetry", "seq": 1, "fields": map[string]any{"temp": 1.5}})
	if bye := inCBOR.wantClose(4502); !strings.Contains(bye.Reason, "seq") {
		t.Errorf("a seq that does not grow: bye %+v", bye)
	}
	until(t, "the good reading is stored", func() bool {
		rows := h.rows(t, "SELECT temp FROM telemetry")
		return len(rows) == 1 && strings.HasSuffix(rows[0], " 21.5")
	})
	h.stop()
}

// TestOperatorsAreRefused asks the API for what there is not.
func TestOperatorsAreRefused(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	h.addDevice(t, "pump-7", "x")
	for name, c := range map[string]struct {
		method, path string
		body         any
		status       int
		code, says   string
	}{
		"unknown device":    {"POST", "/devices/nobody/commands", map[string]any{"name": "stop"}, 404, "device_not_found", "no such device"},
		"unknown field":     {"POST", "/devices", map[string]any{"idd": "x"}, 400, "unknown_field", "idd"},
		"bad id":            {"POST", "/devices", map[string]any{"id": "a b"}, 400, "invalid_id", `"a b"`},
		"twice":             {"POST", "/devices", map[string]any{"id": "pump-7"}, 409, "device_exists", "exists"},
		"device is offline": {"POST", "/devices/pump-7/commands", map[string]any{"name": "stop", "ttl": "0"}, 409, "device_offline", "not on line"},
		"bad selector":      {"GET", "/devices?selector=%3D%3D", nil, 400, "", "selector"},
	} {
		var p problem
		status := h.ask(t, c.method, c.path, c.body, &p)
		if status != c.status || c.code != "" && p.Code != c.code || !strings.Contains(p.Detail+" "+p.Path, c.says) {
			t.Errorf("%s: %d %+v, want %d %s with %q", name, status, p, c.status, c.code, c.says)
		}
		t.Logf("%s: %s: %s; %s", name, p.Code, p.Detail, p.Hint)
	}
	other := h.ready
	other.AdminToken = strings.Repeat("x", 40)
	var p problem
	if status := other.ask(t, "GET", "/devices", nil, &p); status != 401 {
		t.Errorf("a wrong token: %d %+v", status, p)
	}
	h.stop()
}
