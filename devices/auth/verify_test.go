package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/auth"
)

// accounts are device records that a test changes.
type accounts struct {
	mu sync.Mutex
	m  map[string]auth.Account
}

func (a *accounts) Account(device string) (auth.Account, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc, ok := a.m[device]
	return acc, ok
}

func (a *accounts) set(device string, acc auth.Account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.m[device] = acc
}

// bench is a verifier with a clock that stands still, and devices with keys of each kind.
type bench struct {
	t        testing.TB
	now      time.Time
	cfg      configs.Auth
	dir      string
	hub      *auth.HubKeys
	minter   *auth.Minter
	verifier *auth.Verifier
	accounts *accounts
	issuers  *auth.Issuers
	ed       ed25519.PrivateKey
	ec       *ecdsa.PrivateKey
	rsa      *rsa.PrivateKey
}

var sharedRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func newBench(t testing.TB, change ...func(*bench)) *bench {
	t.Helper()
	b := &bench{
		t: t, now: time.UnixMilli(1763832000123), cfg: configs.Default().Auth, dir: t.TempDir(),
		accounts: &accounts{m: map[string]auth.Account{}}, rsa: sharedRSA(),
	}
	clock := func() time.Time { return b.now }
	for _, fn := range change {
		fn(b)
	}
	var err error
	if b.hub, err = auth.OpenHubKeys(b.dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	b.minter = auth.NewMinter(b.hub, b.cfg, clock)
	if b.verifier, err = auth.NewVerifier(auth.VerifierOptions{Config: b.cfg, Hub: b.hub, Issuers: b.issuers, Accounts: b.accounts, Now: clock}); err != nil {
		t.Fatal(err)
	}
	_, b.ed, _ = ed25519.GenerateKey(rand.Reader)
	b.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	var keys []*auth.PublicKey
	for kid, k := range map[string]crypto.PublicKey{"ed": b.ed.Public(), "ec": b.ec.Public(), "rsa": b.rsa.Public()} {
		key, err := auth.NewPublicKey(kid, k)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	b.accounts.set("pump-7", auth.Account{Keys: keys})
	b.accounts.set("pump-8", auth.Account{})
	return b
}

type claimSet = map[string]any

// good are claims that a device may sign for itself.
func (b *bench) good() claimSet {
	return claimSet{"sub": "pump-7", "aud": "fairlead", "iat": b.now.Unix(), "exp": b.now.Unix() + 3600}
}

// sign makes a token of any header and claims, with the key that header names.
func (b *bench) sign(header, claims any) string {
	b.t.Helper()
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	return b.signRaw(string(h), string(c), b.keyFor(header))
}

func (b *bench) keyFor(header any) any {
	m, _ := header.(claimSet)
	switch m["alg"] {
	case "ES256":
		return b.ec
	case "RS256":
		return b.rsa
	}
	return b.ed
}

func (b *bench) signRaw(header, claims string, key any) string {
	b.t.Helper()
	signing := b64(header) + "." + b64(claims)
	var method jwt.SigningMethod = jwt.SigningMethodEdDSA
	switch key.(type) {
	case *ecdsa.PrivateKey:
		method = jwt.SigningMethodES256
	case *rsa.PrivateKey:
		method = jwt.SigningMethodRS256
	case []byte:
		method = jwt.SigningMethodHS256
	}
	sig, err := method.Sign(signing, key)
	if err != nil {
		b.t.Fatal(err)
	}
	return signing + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func with(base claimSet, kv ...any) claimSet {
	out := maps.Clone(base)
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] == nil {
			delete(out, kv[i].(string))
		} else {
			out[kv[i].(string)] = kv[i+1]
		}
	}
	return out
}

func (b *bench) want(token string, code auth.Code) {
	b.t.Helper()
	_, err := b.verifier.Verify(token)
	if got := codeOf(err); got != code {
		b.t.Fatalf("got %q (%v), want %q", got, err, code)
	}
}

func codeOf(err error) auth.Code {
	var r *auth.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	if err != nil {
		return auth.Code("not a refusal: " + err.Error())
	}
	return ""
}

func TestGoodTokens(t *testing.T) {
	b := newBench(t)
	minted, expires, err := b.minter.Mint("pump-8", 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.verifier.Verify(minted)
	if err != nil || c.Device != "pump-8" || !c.ByHub || !c.Expires.Equal(expires) || c.ID == "" {
		t.Fatalf("minted: %+v, %v", c, err)
	}
	for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
		kid := map[string]string{"EdDSA": "ed", "ES256": "ec", "RS256": "rsa"}[alg]
		token := b.sign(claimSet{"alg": alg, "typ": "JWT", "kid": kid}, b.good())
		for range 2 { // fresh, then remembered
			c, err := b.verifier.Verify(token)
			if err != nil || c.Device != "pump-7" || c.KID != kid || c.ByHub {
				t.Fatalf("%s: %+v, %v", alg, c, err)
			}
		}
	}
}

func TestClockEdges(t *testing.T) {
	b := newBench(t)
	start := b.now
	token := b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "nbf", start.Unix()+100, "iat", start.Unix()))
	expires := time.Unix(start.Unix()+3600, 0)
	for _, c := range []struct {
		at   time.Time
		want auth.Code
	}{
		{time.Unix(start.Unix()-61, 0), auth.NotYetValid},
		{time.Unix(start.Unix()+39, 0), auth.NotYetValid},
		{time.Unix(start.Unix()+40, 0), ""},
		{expires.Add(59 * time.Second), ""},
		{expires.Add(60 * time.Second), auth.Expired},
		{time.Unix(start.Unix()+30, 0), auth.NotYetValid}, // also when remembered
		{expires.Add(24 * time.Hour), auth.Expired},
	} {
		b.now = c.at
		b.want(token, c.want)
	}
}

func TestRecordDecides(t *testing.T) {
	b := newBench(t)
	token, _, err := b.minter.Mint("pump-7", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	own := b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, b.good())
	account, _ := b.accounts.Account("pump-7")
	b.want(token, "")
	b.want(own, "")
	b.accounts.set("pump-7", auth.Account{Disabled: true, Keys: account.Keys})
	b.want(token, auth.Disabled)
	b.want(own, auth.Disabled)
	b.accounts.set("pump-7", auth.Account{NotBefore: b.now.Add(time.Millisecond), Keys: account.Keys})
	b.want(token, auth.Revoked)
	b.now = b.now.Add(time.Millisecond)
	fresh, _, err := b.minter.Mint("pump-7", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.want(fresh, "")
	b.accounts.set("pump-7", auth.Account{})
	b.want(own, auth.UnknownKey)
	stranger, _, err := b.minter.Mint("pump-9", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.want(stranger, auth.UnknownDevice)
}

// A token of the hub is good from the very millisecond on in which the device's record was made, and no token is from
// before that, also if it was verified before. A device's own is held to its key alone.
func TestTokensOlderThanTheRecord(t *testing.T) {
	b := newBench(t)
	account, _ := b.accounts.Account("pump-7")
	created := func(ago time.Duration) {
		account.Created = b.now.Add(-ago)
		b.accounts.set("pump-7", account)
	}
	minted, _, err := b.minter.Mint("pump-7", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	own := b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "iat", nil))
	created(0)
	b.want(minted, "")
	created(-time.Millisecond)
	b.want(minted, auth.Revoked)
	b.want(own, "")
	// A node whose clock is behind that of the node that made the record mints what is good all the same.
	ahead, expires, err := b.minter.MintFrom("pump-7", time.Hour, account.Created)
	if err != nil || !expires.Equal(account.Created.Add(time.Hour).Truncate(time.Second)) {
		t.Fatal(expires, err)
	}
	b.want(ahead, "")
	// One whose clock is ahead dates as its clock says.
	created(time.Hour)
	b.now = b.now.Add(time.Second)
	late, _, err := b.minter.MintFrom("pump-7", time.Hour, account.Created)
	if err != nil {
		t.Fatal(err)
	}
	created(time.Millisecond)
	b.want(late, "")
}

func TestRefusalsDoNotTellWhichDevicesExist(t *testing.T) {
	b := newBench(t)
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	tell := func(sub, kid string) string {
		claims, _ := json.Marshal(with(b.good(), "sub", sub))
		_, err := b.verifier.Verify(b.signRaw(`{"alg":"EdDSA","kid":"`+kid+`"}`, string(claims), other))
		var r *auth.Refusal
		if !errors.As(err, &r) {
			t.Fatalf("%s: %v", sub, err)
		}
		code, detail := r.Public()
		return fmt.Sprint(r.Status(), code, detail)
	}
	there, keyless, absent := tell("pump-7", "ed"), tell("pump-8", "ed"), tell("nobody", "ed")
	if there != keyless || there != absent {
		t.Fatalf("told apart:\n%s\n%s\n%s", there, keyless, absent)
	}
}

func TestHubKeyRotation(t *testing.T) {
	b := newBench(t)
	old, _, err := b.minter.Mint("pump-8", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	first := onlyFile(t, b.dir)
	kid, err := b.hub.Add(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	// The file is newer by name at equal times, and newer by time later.
	fresh, _, err := b.minter.Mint("pump-8", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.verifier.Verify(fresh)
	if err != nil || c.KID != kid {
		t.Fatalf("fresh token: %+v, %v; want kid %s", c, err, kid)
	}
	b.want(old, "")
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	if err := b.hub.Reload(); err != nil {
		t.Fatal(err)
	}
	b.want(old, auth.UnknownKey)
	b.want(fresh, "")
}

func onlyFile(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	return names[0]
}

func TestHubKeyFiles(t *testing.T) {
	b := newBench(t)
	path := onlyFile(t, b.dir)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.hub.Reload(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("a key that others can read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "bad.pem"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.OpenHubKeys(b.dir, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a broken key file was taken")
	}
}

func TestPublicKeys(t *testing.T) {
	b := newBench(t)
	weak := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	point := func(n int) string { return base64.RawURLEncoding.EncodeToString(make([]byte, n)) }
	edX := base64.RawURLEncoding.EncodeToString(b.ed.Public().(ed25519.PublicKey))
	for _, c := range []struct {
		name, text string
		good       bool
	}{
		{"ed25519 PEM", pemOf(t, b.ed.Public()), true},
		{"P-256 PEM", pemOf(t, b.ec.Public()), true},
		{"RSA PEM", pemOf(t, b.rsa.Public()), true},
		{"ed25519 JWK", `{"kty":"OKP","crv":"Ed25519","x":"` + edX + `","kid":"k"}`, true},
		{"RSA JWK", `{"kty":"RSA","n":"` + base64.RawURLEncoding.EncodeToString(b.rsa.N.Bytes()) + `","e":"AQAB"}`, true},
		{"RSA 1024", pemOf(t, weak), false},
		{"P-384", pemOf(t, p384.Public()), false},
		{"private key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", false},
		{"private JWK", `{"kty":"OKP","crv":"Ed25519","x":"` + edX + `","d":"` + edX + `"}`, false},
		{"symmetric JWK", `{"kty":"oct","k":"AAAA"}`, false},
		{"EC JWK not on the curve", `{"kty":"EC","crv":"P-256","x":"` + point(32) + `","y":"` + point(32) + `"}`, false},
		{"EC JWK too short", `{"kty":"EC","crv":"P-256","x":"` + point(31) + `","y":"` + point(32) + `"}`, false},
		{"JWK for encryption", `{"kty":"OKP","crv":"Ed25519","x":"` + edX + `","use":"enc"}`, false},
		{"JWK with the wrong alg", `{"kty":"OKP","crv":"Ed25519","x":"` + edX + `","alg":"RS256"}`, false},
		{"JWK kid is a path", `{"kty":"OKP","crv":"Ed25519","x":"` + edX + `","kid":"../../etc/passwd"}`, false},
		{"nonsense", "hello", false},
		{"empty", "", false},
		{"two blocks", pemOf(t, b.ed.Public()) + pemOf(t, b.ec.Public()), false},
	} {
		k, err := auth.ParsePublicKey("", c.text)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && auth.CheckKID(k.KID()) != nil {
			t.Errorf("%s: kid %q", c.name, k.KID())
		}
	}
}

func pemOf(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func BenchmarkVerify(b *testing.B) {
	x := newBench(b)
	for name, token := range map[string]string{
		"ES256": x.sign(claimSet{"alg": "ES256", "kid": "ec"}, x.good()),
		"EdDSA": x.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, x.good()),
	} {
		b.Run(name+"/remembered", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.verifier.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/fresh", func(b *testing.B) {
			b.ReportAllocs()
			clock := func() time.Time { return x.now }
			for b.Loop() {
				b.StopTimer()
				v, err := auth.NewVerifier(auth.VerifierOptions{Config: x.cfg, Hub: x.hub, Accounts: x.accounts, Now: clock})
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if _, err := v.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	b := newBench(f)
	good := b.sign(claimSet{"alg": "ES256", "kid": "ec"}, b.good())
	minted, _, err := b.minter.Mint("pump-8", time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(minted)
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := b.verifier.Verify(token)
		if err == nil && token != good && token != minted {
			t.Fatalf("a forged token was taken: %+v", c)
		}
		if err != nil && codeOf(err) == "" {
			t.Fatalf("not a refusal: %v", err)
		}
	})
}
