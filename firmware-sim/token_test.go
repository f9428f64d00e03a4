package sim_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	sim "github.com/fairlead-hub/fairlead/firmware-sim"
)

func TestReadTokens(t *testing.T) {
	tokens, err := sim.ReadTokens(strings.NewReader("# fleet\n\npump-1 aaa.bbb.ccc\n  pump-2\tddd.eee.fff  \n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tokens.Token(t.Context(), "pump-2", false); err != nil || got != "ddd.eee.fff" {
		t.Error(got, err)
	}
	if _, err := tokens.Token(t.Context(), "pump-3", true); !errors.Is(err, sim.ErrNoToken) {
		t.Error("a device that is not in the file has a token")
	}
	for text, want := range map[string]string{
		"pump-1\n":             "tokens: line 1 has 1 words, want a device id and its token",
		"pump-1 a\npump-1 b\n": "tokens: line 2: device pump-1 has a token already",
		"pump.1 a\n":           `tokens: line 1: device id "pump.1": character 5 is not allowed; use A-Z a-z 0-9 _ : -, starting with a letter or digit`,
	} {
		if _, err := sim.ReadTokens(strings.NewReader(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestKeyTokens(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"EdDSA": ed, "ES256": ec} {
		source := sim.KeyTokens{
			Keys: func(string) (crypto.Signer, error) { return key, nil }, KeyID: "k1", Audience: "fairlead", TTL: time.Minute,
		}
		text, err := source.Token(t.Context(), "pump-1", false)
		if err != nil {
			t.Fatal(err)
		}
		wantToken(t, text, name, "k1", key.Public())
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	source := sim.KeyTokens{Keys: func(string) (crypto.Signer, error) { return rsaKey, nil }}
	if _, err := source.Token(t.Context(), "pump-1", false); err == nil {
		t.Error("a key of another kind was taken")
	}
}

func wantToken(t *testing.T, text, alg, kid string, public crypto.PublicKey) {
	t.Helper()
	var claims jwt.RegisteredClaims
	token, err := jwt.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithAudience("fairlead"), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithValidMethods([]string{alg}))
	if err != nil || claims.Subject != "pump-1" || token.Header["kid"] != kid {
		t.Errorf("%s: %v %+v", alg, err, claims)
	}
}

// registry is the part of the operator API that provisioning needs.
type registry struct {
	mu      sync.Mutex
	devices map[string]json.RawMessage
	minted  int
	busy    int // answers 503 that many times first
	keys    map[string]string
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.devices == nil {
		r.devices, r.keys = map[string]json.RawMessage{}, map[string]string{}
	}
	var body struct {
		ID        string
		Labels    map[string]string
		PublicKey string `json:"public_key"`
		Keys      []struct {
			KID       string `json:"kid"`
			PublicKey string `json:"public_key"`
		}
	}
	bad := json.NewDecoder(req.Body).Decode(&body) != nil
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"status":%d,"code":%q,"detail":"because of %s","hint":"do it otherwise"}`, status, code, code)
	}
	parts := strings.Split(strings.TrimPrefix(req.URL.Path, "/api/v1/"), "/")
	switch {
	case req.Header.Get("Authorization") != "Bearer operator":
		refuse(http.StatusUnauthorized, "token_invalid")
	case r.busy > 0:
		r.busy--
		refuse(http.StatusServiceUnavailable, "starting")
	case bad || parts[0] != "devices":
		refuse(http.StatusBadRequest, "invalid_json")
	case len(parts) == 1 && r.devices[body.ID] != nil:
		refuse(http.StatusConflict, "device_exists")
	case len(parts) == 1:
		r.devices[body.ID] = json.RawMessage(`{}`)
		w.WriteHeader(http.StatusCreated)
		if len(body.Keys) > 0 {
			r.keys[body.ID] = body.Keys[0].PublicKey
			fmt.Fprint(w, `{"device":{}}`)
			return
		}
		r.minted++
		fmt.Fprintf(w, `{"device":{"labels":{"site":%q}},"token":"%s.%d"}`, body.Labels["site"], body.ID, r.minted)
	case len(parts) == 3 && parts[2] == "tokens":
		r.minted++
		fmt.Fprintf(w, `{"token":"%s.%d"}`, parts[1], r.minted)
	case len(parts) == 3 && parts[2] == "keys":
		r.keys[parts[1]] = body.PublicKey
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{}`)
	default:
		refuse(http.StatusNotFound, "not_found")
	}
}

func operator(t *testing.T, r *registry, token string) *sim.Operator {
	t.Helper()
	server := httptest.NewTLSServer(r)
	t.Cleanup(server.Close)
	o, err := sim.NewOperator(server.URL, token, server.Client().Transport)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestMintedTokens(t *testing.T) {
	r := &registry{busy: 1}
	o := operator(t, r, "operator")
	// The device is new, then known to this source, then known to the hub only.
	first, second := sim.NewMintedTokens(o, nil), sim.NewMintedTokens(o, func(string) map[string]string { return map[string]string{"site": "a"} })
	for i, source := range []*sim.MintedTokens{first, first, second} {
		token, err := source.Token(t.Context(), "pump-1", true)
		if want := fmt.Sprintf("pump-1.%d", i+1); err != nil || token != want {
			t.Errorf("token %q, %v, want %s", token, err, want)
		}
	}
	if token, err := first.Token(t.Context(), "pump-1", false); err != nil || token != "pump-1.2" {
		t.Errorf("the device did not keep its token: %q, %v", token, err)
	}
	bad := sim.NewMintedTokens(operator(t, r, "viewer"), nil)
	_, err := bad.Token(t.Context(), "pump-2", false)
	if want := "post /devices: 401 token_invalid: because of token_invalid (do it otherwise)"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestOwnKeys(t *testing.T) {
	r := &registry{}
	o := operator(t, r, "operator")
	for range 2 { // the second source finds the device there, and adds a key
		text, err := sim.NewOwnKeys(o, "fairlead", nil).Token(t.Context(), "pump-1", false)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(r.keys["pump-1"]))
		if block == nil {
			t.Fatal("no public key came to the hub")
		}
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		wantToken(t, text, "EdDSA", "own-1", public)
	}
}

func TestAddresses(t *testing.T) {
	for hub, want := range map[string]string{
		"https://127.0.0.1:8443":          "wss://127.0.0.1:8443/v1/device",
		"https://hub.example/":            "wss://hub.example/v1/device",
		"wss://hub.example/v1/device":     "wss://hub.example/v1/device",
		"http://127.0.0.1:8080":           "ws://127.0.0.1:8080/v1/device",
		"wss://proxy.example/hub/devices": "wss://proxy.example/hub/devices",
	} {
		if got, err := sim.DeviceURL(hub); err != nil || got != want {
			t.Errorf("%s is %s, %v", hub, got, err)
		}
	}
	for _, hub := range []string{"", "127.0.0.1:8443", "ftp://hub", "https://", "://"} {
		if _, err := sim.DeviceURL(hub); err == nil {
			t.Errorf("%q was taken", hub)
		}
		if _, err := sim.NewOperator(hub, "x", nil); err == nil {
			t.Errorf("operator: %q was taken", hub)
		}
	}
	if _, err := sim.NewOperator("https://hub", "", nil); err == nil {
		t.Error("an operator without a token was taken")
	}
	if _, err := sim.TrustCA("/nowhere.pem"); err == nil {
		t.Error("a CA file that is not there was taken")
	}
	if _, err := sim.TrustCA(write(t, "ca.pem", "not a certificate")); err == nil {
		t.Error("a CA file without a certificate was taken")
	}
}
