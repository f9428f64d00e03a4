package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/internal/mosquittotest"
)

// TestDevicesOfAnIdentityProvider: the devices' tokens come from elsewhere. The hub starts while the provider is down, lets
// its devices in once it is up, and only those that have a record.
func TestDevicesOfAnIdentityProvider(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	set, err := json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "kid": "login-1", "alg": "ES256", "use": "sig", "x": b64(point[1:33]), "y": b64(point[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	var up atomic.Bool
	login := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(set)
	}))
	t.Cleanup(login.Close)
	ca := filepath.Join(t.TempDir(), "login-ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: login.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	h := serve(t, loopback+`
auth:
  issuers:
    - {issuer: "https://login.example.com", jwks_url: "`+login.URL+`/certs", device_claim: device, audience: plant, ca_file: "`+ca+`"}
`)
	h.addDevice(t, "boiler-1", "north")
	token := func(device string) string {
		now := time.Now().Unix()
		x := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
			"iss": "https://login.example.com", "sub": "0815|x", "device": device, "aud": "plant", "iat": now, "exp": now + 600,
		})
		x.Header["kid"], x.Header["typ"] = "login-1", "at+jwt"
		s, err := x.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	refused := func(device string) int {
		ws, res, err := h.dial(t, token(device), jsonFrames, nil)
		if err == nil {
			ws.Close()
			return 0
		}
		if res == nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	if status := refused("boiler-1"); status != http.StatusUnauthorized {
		t.Fatalf("while the provider is down: %d", status)
	}
	if log := h.stderr.String(); !strings.Contains(log, "issuer's keys not fetched") {
		t.Errorf("the log says nothing of it: %s", tail(log))
	}
	up.Store(true)
	until(t, "the provider's keys are known", func() bool { return refused("boiler-1") == 0 })
	l := h.connect(t, "boiler-1", token("boiler-1"), jsonFrames)
	l.text(`{"type":"telemetry","seq":1,"fields":{"temp":61.5}}`)
	if a := l.next("ack"); a.Seq != 1 {
		t.Fatalf("%+v", a)
	}
	if status := refused("stranger"); status != http.StatusForbidden {
		t.Fatalf("a device without a record: %d", status)
	}
	port, _ := h.mqtt()
	for device, want := range map[string]bool{"boiler-1": true, "stranger": false} {
		err := mosquittotest.PubTo(t, port, []string{"-u", device, "-P", token(device), "-q", "1"}, "tele/"+device+"/SENSOR", `{"ENV":{"Temperature":61}}`)
		if (err == nil) != want {
			t.Errorf("%s by MQTT: %v", device, err)
		}
	}
	h.stop()
}
