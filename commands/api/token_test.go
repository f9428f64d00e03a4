package api_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// forge makes tokens as the hub does, and as it never would.
type forge struct {
	t      *testing.T
	key    ed25519.PrivateKey
	kid    string
	minted int64 // minted_ms of a token of the admin
	now    func() time.Time
}

func newForge(h *hub, now func() time.Time) *forge {
	t := h.t
	t.Helper()
	names, err := filepath.Glob(filepath.Join(h.keys, "*.pem"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%d key files, want 1: %v", len(names), err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	var admin struct {
		MintedMS int64 `json:"minted_ms"`
	}
	if err := json.Unmarshal([]byte(decoded(t, strings.Split(h.admin(), ".")[1])), &admin); err != nil {
		t.Fatal(err)
	}
	return &forge{t, key.(ed25519.PrivateKey), strings.TrimSuffix(filepath.Base(names[0]), ".pem"), admin.MintedMS, now}
}

type object map[string]any

func (o object) with(changes object) object {
	out := object{}
	for k, v := range o {
		out[k] = v
	}
	for k, v := range changes {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func (f *forge) header() object { return object{"alg": "EdDSA", "kid": f.kid, "typ": api.TokenType} }

func (f *forge) claims() object {
	now := f.now()
	return object{
		"iss": issuer, "sub": "admin", "aud": api.TokenAudience, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"jti": "0123456789abcdef", "minted_ms": f.minted,
	}
}

func (f *forge) encode(v any) string {
	f.t.Helper()
	if s, ok := v.(string); ok {
		return base64.RawURLEncoding.EncodeToString([]byte(s))
	}
	data, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func (f *forge) sign(header, claims any) string {
	text := f.encode(header) + "." + f.encode(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(f.key, []byte(text)))
}

func (f *forge) hmac(header, claims any, secret []byte) string {
	text := f.encode(header) + "." + f.encode(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	h := start(t)
	f := newForge(h, time.Now)
	head, claims := f.header(), f.claims()
	good := f.sign(head, claims)
	h.call(good, "GET", "/api/v1/session", nil).want(200) // the forge can make a good one, so the bad are bad for their reason

	public := f.key.Public().(ed25519.PublicKey)
	der, _ := x509.MarshalPKIXPublicKey(public)
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	_, strange, _ := ed25519.GenerateKey(rand.Reader)
	stranger := &forge{t, strange, f.kid, f.minted, time.Now}
	now := time.Now().Unix()
	parts := strings.Split(good, ".")
	raw := func(claims string) string { return f.sign(head, claims) }
	text, _ := json.Marshal(claims)
	body := string(text[:len(text)-1])

	bad := map[string]string{
		"empty":                      "",
		"word":                       "x",
		"two parts":                  parts[0] + "." + parts[1],
		"four parts":                 good + ".x",
		"no signature":               parts[0] + "." + parts[1] + ".",
		"half signature":             good[:len(good)-20],
		"other signature":            parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86),
		"stranger's key":             stranger.sign(head, claims),
		"alg none":                   f.encode(head.with(object{"alg": "none"})) + "." + parts[1] + ".",
		"alg None":                   f.encode(head.with(object{"alg": "None"})) + "." + parts[1] + ".",
		"alg empty":                  f.sign(head.with(object{"alg": ""}), claims),
		"alg missing":                f.sign(head.with(object{"alg": nil}), claims),
		"alg array":                  f.sign(head.with(object{"alg": []string{"EdDSA"}}), claims),
		"alg ES256 with this key":    f.sign(head.with(object{"alg": "ES256"}), claims),
		"HS256 with public key PEM":  f.hmac(head.with(object{"alg": "HS256"}), claims, pemKey),
		"HS256 with public key DER":  f.hmac(head.with(object{"alg": "HS256"}), claims, der),
		"HS256 with public key":      f.hmac(head.with(object{"alg": "HS256"}), claims, public),
		"HS256 empty key":            f.hmac(head.with(object{"alg": "HS256"}), claims, nil),
		"HS256 empty key, kid gone":  f.hmac(head.with(object{"alg": "HS256", "kid": "gone"}), claims, nil),
		"kid missing":                f.sign(head.with(object{"kid": nil}), claims),
		"kid empty":                  f.sign(head.with(object{"kid": ""}), claims),
		"kid unknown":                f.sign(head.with(object{"kid": "gone"}), claims),
		"kid path":                   f.sign(head.with(object{"kid": "../../dev/null"}), claims),
		"kid number":                 f.sign(head.with(object{"kid": 1}), claims),
		"kid NUL":                    f.sign(head.with(object{"kid": f.kid + "\x00"}), claims),
		"typ missing":                f.sign(head.with(object{"typ": nil}), claims),
		"typ JWT":                    f.sign(head.with(object{"typ": "JWT"}), claims),
		"typ of a device":            f.sign(head.with(object{"typ": "fairlead-device+jwt"}), claims),
		"crit":                       f.sign(head.with(object{"crit": []string{"exp"}}), claims),
		"crit empty":                 f.sign(head.with(object{"crit": []string{}}), claims),
		"crit b64":                   f.sign(head.with(object{"crit": []string{"b64"}, "b64": false}), claims),
		"jku":                        f.sign(head.with(object{"jku": "https://127.0.0.1:1/keys"}), claims),
		"jwk of a stranger":          stranger.sign(head.with(object{"jwk": object{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(strange.Public().(ed25519.PublicKey))}}), claims),
		"x5u":                        f.sign(head.with(object{"x5u": "https://127.0.0.1:1/cert"}), claims),
		"header twice the kid":       f.sign(`{"alg":"EdDSA","kid":"gone","kid":"`+f.kid+`","typ":"`+api.TokenType+`"}`, claims),
		"header no object":           f.sign(`["EdDSA"]`, claims),
		"claims no object":           f.sign(head, `"admin"`),
		"claims null":                f.sign(head, `null`),
		"claims truncated":           f.sign(head, `{"iss":`),
		"claims with BOM":            raw("\ufeff" + string(text)),
		"iss missing":                f.sign(head, claims.with(object{"iss": nil})),
		"iss other":                  f.sign(head, claims.with(object{"iss": "fairlead/"})),
		"iss case":                   f.sign(head, claims.with(object{"iss": "Fairlead"})),
		"aud missing":                f.sign(head, claims.with(object{"aud": nil})),
		"aud of devices":             f.sign(head, claims.with(object{"aud": "fairlead"})),
		"aud array":                  f.sign(head, claims.with(object{"aud": []string{"x", api.TokenAudience}})),
		"aud empty":                  f.sign(head, claims.with(object{"aud": ""})),
		"sub missing":                f.sign(head, claims.with(object{"sub": nil})),
		"sub unknown":                f.sign(head, claims.with(object{"sub": "nobody"})),
		"sub wild":                   f.sign(head, claims.with(object{"sub": "*"})),
		"sub of another case":        f.sign(head, claims.with(object{"sub": "Admin"})),
		"sub and SUB":                raw(body + `,"SUB":"admin"}`),
		"sub twice":                  raw(body + `,"sub":"admin"}`),
		"exp missing":                f.sign(head, claims.with(object{"exp": nil})),
		"exp 0":                      f.sign(head, claims.with(object{"exp": 0})),
		"exp negative":               f.sign(head, claims.with(object{"exp": -1})),
		"exp past":                   f.sign(head, claims.with(object{"iat": now - 7200, "exp": now - 3600})),
		"exp string":                 f.sign(head, claims.with(object{"exp": fmt.Sprint(now + 3600)})),
		"exp 1e300":                  f.sign(head, claims.with(object{"exp": 1e300})),
		"exp fraction":               f.sign(head, claims.with(object{"exp": float64(now) + 3600.5})),
		"exp year 3 million":         f.sign(head, claims.with(object{"exp": 99999999999999})),
		"exp beyond the longest":     f.sign(head, claims.with(object{"exp": now + 400*24*3600})),
		"exp overflow":               f.sign(head, claims.with(object{"exp": int64(9223372036854775807), "iat": -1})),
		"iat missing":                f.sign(head, claims.with(object{"iat": nil})),
		"iat future":                 f.sign(head, claims.with(object{"iat": now + 3600, "exp": now + 7200})),
		"minted_ms missing":          f.sign(head, claims.with(object{"minted_ms": nil})),
		"minted before the operator": f.sign(head, claims.with(object{"minted_ms": 1})),
		"jti missing":                f.sign(head, claims.with(object{"jti": nil})),
		"jti long":                   f.sign(head, claims.with(object{"jti": strings.Repeat("x", 65)})),
		"unknown claim":              f.sign(head, claims.with(object{"role": "admin"})),
		"selector unreadable":        f.sign(head, claims.with(object{"selector": "=x"})),
		"padding":                    good + "=",
		"trailing bits":              parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-1] + flip(parts[2][len(parts[2])-1]),
		"too long":                   f.sign(head, claims.with(object{"jti": strings.Repeat("x", 8000)})),
		"dots":                       strings.Repeat(".", 3000),
		"deep claims":                raw(strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500)),
	}
	for name, key := range outsiders(t, f.kid) {
		bad[name] = key
	}
	accepted := 0
	for name, token := range bad {
		got := h.send("GET", "/api/v1/session", nil, func(r *httpRequest) { r.Header.Set("Authorization", "Bearer "+token) })
		if got.status != 401 {
			accepted++
			t.Errorf("%s: %d %s", name, got.status, got.raw)
		}
		in := h.call("", "POST", "/api/v1/session", map[string]string{"token": token + "\n"})
		if token != "" && in.status != 401 {
			t.Errorf("%s as sign-in: %d %s", name, in.status, in.raw)
		}
	}
	t.Logf("cases=%d accepted=%d", len(bad), accepted)
}

// flip changes bits of the last character that do not belong to the signature.
func flip(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

// outsiders are tokens of other key types that name a good kid, signed as their header says.
func outsiders(t *testing.T, kid string) map[string]string {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"RS256": foreign(t, "RS256", kid, rsaKey), "ES256": foreign(t, "ES256", kid, ecKey)}
}

func TestTokenEndsWithItsOperator(t *testing.T) {
	h := start(t)
	admin := h.admin()
	for name, end := range map[string]func(){
		"disabled": func() { h.call(admin, "PATCH", "/api/v1/operators/me", object{"disabled": true}).want(200) },
		"revoked":  func() { h.call(admin, "DELETE", "/api/v1/operators/me/tokens", nil).want(204) },
		"removed":  func() { h.call(admin, "DELETE", "/api/v1/operators/me", nil).want(204) },
	} {
		token := h.operator("me", api.Viewer, "")
		h.call(token, "GET", "/api/v1/session", nil).want(200)
		end()
		h.call(token, "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
		if name == "revoked" {
			// A token minted right after is good, however fine the clock.
			var again struct{ Token string }
			h.call(admin, "POST", "/api/v1/operators/me/tokens", nil).want(201).into(&again)
			h.call(again.Token, "GET", "/api/v1/session", nil).want(200)
		}
		if name != "removed" {
			h.call(admin, "DELETE", "/api/v1/operators/me", nil).want(204)
		}
		// A new operator of the old name is not reached by the old token.
		h.operator("me", api.Admin, "")
		h.call(token, "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
		h.call(admin, "DELETE", "/api/v1/operators/me", nil).want(204)
	}
}

func TestRoleIsTheRecords(t *testing.T) {
	h := start(t)
	token := h.operator("me", api.Admin, "")
	h.call(token, "GET", "/api/v1/operators", nil).want(200)
	h.call(h.admin(), "PATCH", "/api/v1/operators/me", object{"role": "viewer"}).want(200)
	h.call(token, "GET", "/api/v1/operators", nil).refused(403, "role_too_low")
}

func TestLastAdminStays(t *testing.T) {
	h := start(t)
	admin := h.admin()
	h.call(admin, "DELETE", "/api/v1/operators/admin", nil).refused(409, "last_admin")
	h.call(admin, "PATCH", "/api/v1/operators/admin", object{"disabled": true}).refused(409, "last_admin")
	h.call(admin, "PATCH", "/api/v1/operators/admin", object{"selector": "site=x"}).refused(409, "last_admin")
	h.operator("bound", api.Admin, "site=x") // no help: it cannot make operators
	h.call(admin, "PATCH", "/api/v1/operators/admin", object{"role": "viewer"}).refused(409, "last_admin")
	h.operator("second", api.Admin, "")
	h.call(admin, "PATCH", "/api/v1/operators/admin", object{"role": "viewer"}).want(200)
}

func TestKeyFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := api.OpenKeys(dir); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(names) != 1 {
		t.Fatalf("files %v, want one", names)
	}
	info, err := os.Stat(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o, want 600", mode)
	}
	if _, err := api.OpenKeys(dir); err != nil {
		t.Errorf("open again: %v", err)
	}
	if err := os.Chmod(names[0], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := api.OpenKeys(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that everybody can read: %v", err)
	}
}

// A key that was replaced still verifies until its file is removed.
func TestKeysRotate(t *testing.T) {
	b, keys := openBus(t), filepath.Join(t.TempDir(), "keys")
	h := startOn(t, b, keys)
	old := h.admin()
	h.stop()
	files, _ := filepath.Glob(filepath.Join(keys, "*.pem"))
	other := filepath.Join(t.TempDir(), "other")
	if _, err := api.OpenKeys(other); err != nil {
		t.Fatal(err)
	}
	made, _ := filepath.Glob(filepath.Join(other, "*.pem"))
	if err := os.Rename(made[0], filepath.Join(keys, "z-newer.pem")); err != nil {
		t.Fatal(err)
	}
	h = startOn(t, b, keys)
	young := h.admin()
	h.call(old, "GET", "/api/v1/session", nil).want(200)
	h.call(young, "GET", "/api/v1/session", nil).want(200)
	h.stop()
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	h = startOn(t, b, keys)
	h.call(old, "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	h.call(young, "GET", "/api/v1/session", nil).want(200)
}
