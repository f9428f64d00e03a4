package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/auth"
)

const loginName = "https://login.example.com/realms/plant"

// login is an outside issuer: a TLS server with a JWKS, and the private halves of its keys.
type login struct {
	t       testing.TB
	srv     *httptest.Server
	ca      string
	fetches atomic.Int64

	mu     sync.Mutex
	order  []string
	keys   map[string]map[string]any // JWKs by kid
	signer map[string]any
	answer http.HandlerFunc // instead of the keys; nil: the keys
}

func newLogin(t testing.TB) *login {
	t.Helper()
	l := &login{t: t, keys: map[string]map[string]any{}, signer: map[string]any{}}
	l.srv = httptest.NewTLSServer(l)
	t.Cleanup(l.srv.Close)
	l.ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.srv.Certificate().Raw})
	if err := os.WriteFile(l.ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.fetches.Add(1)
	l.mu.Lock()
	answer := l.answer
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	for _, kid := range l.order {
		if k, ok := l.keys[kid]; ok {
			set.Keys = append(set.Keys, k)
		}
	}
	l.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(set)
}

func (l *login) set(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
}

// publish adds a key, with members that are laid over its JWK.
func (l *login) publish(kid string, private crypto.Signer, more ...string) {
	l.t.Helper()
	j := jwkOf(private.Public())
	j["kid"] = kid
	for i := 0; i < len(more); i += 2 {
		j[more[i]] = more[i+1]
	}
	l.set(func() { l.order, l.keys[kid], l.signer[kid] = append(l.order, kid), j, private })
}

func (l *login) remove(kid string) { l.set(func() { delete(l.keys, kid) }) }

func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func jwkOf(key crypto.PublicKey) map[string]any {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64url(k)}
	case *ecdsa.PublicKey:
		point, _ := k.Bytes()
		half := (len(point) - 1) / 2
		return map[string]any{"kty": "EC", "crv": k.Curve.Params().Name, "x": b64url(point[1 : 1+half]), "y": b64url(point[1+half:])}
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "n": b64url(k.N.Bytes()), "e": b64url(big.NewInt(int64(k.E)).Bytes())}
	}
	panic("no such key")
}

// token is signed by the library that most issuers' clients use, not by the hub's own code.
func (l *login) token(kid string, claims jwt.MapClaims) string {
	l.t.Helper()
	l.mu.Lock()
	key := l.signer[kid]
	l.mu.Unlock()
	var method jwt.SigningMethod = jwt.SigningMethodEdDSA
	switch key.(type) {
	case *ecdsa.PrivateKey:
		method = jwt.SigningMethodES256
	case *rsa.PrivateKey:
		method = jwt.SigningMethodRS256
	}
	t := jwt.NewWithClaims(method, claims)
	if kid != "" {
		t.Header["kid"] = kid
	}
	s, err := t.SignedString(key)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// issuedBench is a bench with one outside issuer, whose keys are fetched while the test runs.
func issuedBench(t testing.TB, l *login, change ...func(*configs.Issuer)) (*bench, *prometheus.Registry) {
	t.Helper()
	c := configs.Issuer{Issuer: loginName, JWKSURL: l.srv.URL + "/jwks", CAFile: l.ca, Refresh: time.Hour}
	for _, fn := range change {
		fn(&c)
	}
	reg := prometheus.NewRegistry()
	b := newBench(t, func(b *bench) {
		b.cfg.Issuers = []configs.Issuer{c}
		var err error
		if b.issuers, err = auth.NewIssuers(b.cfg, slog.New(slog.DiscardHandler), reg); err != nil {
			t.Fatal(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.issuers.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return b, reg
}

func (b *bench) issued(kv ...any) jwt.MapClaims {
	return with(claimSet{
		"iss": loginName, "sub": "pump-7", "aud": "fairlead", "iat": b.now.Unix(), "exp": b.now.Unix() + 600,
	}, kv...)
}

const patience = 20 * time.Second

// eventually waits for a verdict that comes with a fetch.
func (b *bench) eventually(token string, code auth.Code) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		_, err := b.verifier.Verify(token)
		if codeOf(err) == code {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("still %v, want %q", err, code)
		}
	}
}

func newKeys() (ed ed25519.PrivateKey, ec *ecdsa.PrivateKey) {
	_, ed, _ = ed25519.GenerateKey(rand.Reader)
	ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return ed, ec
}

func TestTokensOfAnIssuer(t *testing.T) {
	l := newLogin(t)
	ed, ec := newKeys()
	l.publish("ed+/=", ed, "use", "sig") // a kid as AWS makes them
	l.publish("ec", ec, "alg", "ES256", "x5u", "https://evil.example/cert")
	l.publish("rsa", sharedRSA())
	b, _ := issuedBench(t, l)
	for _, kid := range []string{"ed+/=", "ec", "rsa"} {
		token := l.token(kid, b.issued("scope", "devices", "jti", "x"))
		b.eventually(token, "")
		c, err := b.verifier.Verify(token)
		if err != nil || c.Device != "pump-7" || c.Issuer != loginName || c.ByHub || c.KID != kid {
			t.Fatalf("%s: %+v, %v", kid, c, err)
		}
	}
	b.want(l.token("ed+/=", b.issued("sub", "stranger")), auth.UnknownDevice)
	if r := refusalOf(t, b, l.token("ed+/=", b.issued("sub", "stranger"))); r.Status() != http.StatusForbidden {
		t.Fatalf("a device without a record: status %d", r.Status())
	}
	good := l.token("ec", b.issued())
	b.want(good, "")
	b.accounts.set("pump-7", auth.Account{Disabled: true})
	b.want(good, auth.Disabled)
	b.accounts.set("pump-7", auth.Account{Pending: true})
	b.want(good, auth.Pending)
	b.accounts.set("pump-7", auth.Account{NotBefore: b.now.Add(time.Hour)})
	b.want(good, auth.Revoked)
	b.accounts.set("pump-7", auth.Account{})
	b.want(good, "")
	if n := l.fetches.Load(); n != 1 {
		t.Fatalf("%d fetches for a dozen tokens", n)
	}
}

// An issuer's clock may be behind the hub's by the skew, and tell whole seconds; a token older than that was another device's.
func TestIssuedBeforeTheRecord(t *testing.T) {
	l := newLogin(t)
	ed, _ := newKeys()
	l.publish("k", ed)
	b, _ := issuedBench(t, l)
	old, undated := l.token("k", b.issued()), l.token("k", b.issued("iat", nil))
	b.eventually(old, "")
	b.want(undated, "")
	issued := time.Unix(b.now.Unix(), 0)
	b.accounts.set("pump-7", auth.Account{Created: issued.Add(b.cfg.Skew)})
	b.want(old, "")
	b.accounts.set("pump-7", auth.Account{Created: issued.Add(b.cfg.Skew + time.Millisecond)})
	b.want(old, auth.Revoked)
	b.want(undated, "")
}

func refusalOf(t *testing.T, b *bench, token string) *auth.Refusal {
	t.Helper()
	_, err := b.verifier.Verify(token)
	var r *auth.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%v", err)
	}
	return r
}

func TestIssuersClaimNamesTheDevice(t *testing.T) {
	l := newLogin(t)
	ed, _ := newKeys()
	l.publish("k", ed)
	b, _ := issuedBench(t, l, func(c *configs.Issuer) { c.DeviceClaim, c.Audience = "device_id", "plant-api" })
	good := b.issued("sub", "service-account|0815@clients", "device_id", "pump-7", "aud", []string{"plant-api", "other"})
	b.eventually(l.token("k", good), "")
	for name, token := range map[string]string{
		"no claim":             l.token("k", with(good, "device_id", nil)),
		"claim is a number":    l.token("k", with(good, "device_id", 7)),
		"claim is no id":       l.token("k", with(good, "device_id", "a.b")),
		"claim in other case":  l.token("k", with(good, "device_id", nil, "Device_ID", "pump-7")),
		"a device id, but sub": l.token("k", with(good, "device_id", nil, "sub", "pump-7")),
	} {
		if _, err := b.verifier.Verify(token); codeOf(err) != auth.Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.want(l.token("k", with(good, "aud", "fairlead")), auth.WrongAudience)
	// The claim means nothing in a device's own token.
	b.want(b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "device_id", "pump-8")), "")
	c, err := b.verifier.Verify(b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "device_id", "pump-8")))
	if err != nil || c.Device != "pump-7" {
		t.Fatalf("%+v, %v", c, err)
	}
}

// Keys that no device token may be signed with are left out; the others of the set are used.
func TestIssuersUnfitKeys(t *testing.T) {
	l := newLogin(t)
	ed, ec := newKeys()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ed2, ed3 := ed, ed
	l.publish("weak", weak)
	l.publish("p384", p384)
	l.publish("enc", ed2, "use", "enc")
	l.publish("odd-use", ed2, "use", "tls")
	l.publish("private", ed3, "d", b64url(ed3.Seed()))
	l.publish("es384", ec, "alg", "ES384")
	l.publish("twin", ed)
	twin, _ := newKeys()
	l.set(func() {
		l.order = append(l.order, "oct", "twin2")
		l.keys["oct"] = map[string]any{"kty": "oct", "kid": "oct", "k": b64url([]byte("0123456789abcdef0123456789abcdef"))}
		j := jwkOf(twin.Public())
		j["kid"] = "twin"
		l.keys["twin2"] = j
		l.signer["twin2"] = twin
	})
	l.publish("good", ed)
	b, _ := issuedBench(t, l)
	b.eventually(l.token("good", b.issued()), "")
	for _, kid := range []string{"weak", "enc", "odd-use", "private", "es384"} {
		b.want(l.token(kid, b.issued()), auth.UnknownKey)
	}
	b.want(l.token("twin", b.issued()), "") // the first of the two
	l.set(func() { l.signer["twin"] = twin })
	b.want(l.token("twin", b.issued()), auth.BadSignature)
	hs := jwt.NewWithClaims(jwt.SigningMethodHS256, b.issued())
	hs.Header["kid"] = "oct"
	forged, err := hs.SignedString([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	b.want(forged, auth.Malformed)
}

// A key that the issuer made a moment ago is fetched for the first token that names it; a flood of names that do not
// exist is not passed on.
func TestUnknownKidsDoNotHammerTheIssuer(t *testing.T) {
	l := newLogin(t)
	ed, ec := newKeys()
	l.publish("old", ed)
	b, reg := issuedBench(t, l)
	b.eventually(l.token("old", b.issued()), "")
	before := l.fetches.Load()
	l.publish("new", ec)
	b.want(l.token("new", b.issued()), "") // at once, not at the next refresh
	if n := l.fetches.Load() - before; n != 1 {
		t.Fatalf("%d fetches for one new key", n)
	}
	// Few enough for the slowest machine to check within the time that one fetch is allowed in.
	const unknown = 400
	flood := func(n int) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range n / 8 {
					kid := rand.Text()
					l.set(func() { l.signer[kid] = ed })
					b.want(l.token(kid, b.issued()), auth.UnknownKey)
				}
			})
		}
		wg.Wait()
	}
	before = l.fetches.Load()
	flood(unknown)
	if n := l.fetches.Load() - before; n != 0 {
		t.Fatalf("%d tokens with kids that do not exist caused %d fetches", unknown, n)
	}
	b.want(l.token("old", b.issued("jti", "still")), "")
	if n := counted(t, reg, "fairlead_auth_unknown_kids_total", "limited"); n != unknown {
		t.Fatalf("%v counted as refused at once", n)
	}
}

// counted is a counter with one label of this value.
func counted(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no %s of %s", name, label)
	return 0
}

// Many tokens with one new kid share one fetch.
func TestOneFetchServesAllWhoWait(t *testing.T) {
	l := newLogin(t)
	ed, ec := newKeys()
	l.publish("old", ed)
	b, _ := issuedBench(t, l)
	b.eventually(l.token("old", b.issued()), "")
	entered, release := make(chan struct{}, 8), make(chan struct{})
	l.publish("new", ec)
	l.set(func() {
		l.answer = func(w http.ResponseWriter, r *http.Request) {
			entered <- struct{}{}
			<-release
			l.set(func() { l.answer = nil })
			l.fetches.Add(-1)
			l.ServeHTTP(w, r)
		}
	})
	before := l.fetches.Load()
	var wg sync.WaitGroup
	wg.Go(func() { b.want(l.token("new", b.issued()), "") })
	<-entered
	for i := range 20 {
		wg.Go(func() { b.want(l.token("new", b.issued("jti", i)), auth.Malformed) }) // jti is no string
		wg.Go(func() { b.eventually(l.token("new", b.issued("exp", b.now.Unix()+600+int64(i))), "") })
	}
	close(release)
	wg.Wait()
	if n := l.fetches.Load() - before; n != 1 {
		t.Fatalf("%d fetches", n)
	}
}

func TestRemovedKeysOfAnIssuer(t *testing.T) {
	l := newLogin(t)
	ed, ec := newKeys()
	l.publish("stays", ed)
	l.publish("goes", ec)
	b, _ := issuedBench(t, l, func(c *configs.Issuer) { c.Refresh = 20 * time.Millisecond })
	gone := make(chan struct{}, 1)
	b.verifier.OnKeysGone(func() {
		select {
		case gone <- struct{}{}:
		default:
		}
	})
	stays, goes := l.token("stays", b.issued()), l.token("goes", b.issued())
	b.eventually(stays, "")
	b.want(goes, "")
	held, err := b.verifier.Verify(goes)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := b.verifier.Verify(stays)
	if err != nil {
		t.Fatal(err)
	}
	l.remove("goes")
	b.eventually(goes, auth.UnknownKey) // it was remembered as good
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("nobody is told that a key is gone")
	}
	if err := b.verifier.Still(held); codeOf(err) != auth.UnknownKey {
		t.Fatalf("a live session's token: %v", err)
	}
	if err := b.verifier.Still(kept); err != nil {
		t.Fatalf("the other key's: %v", err)
	}
	// Another key under an old name is another key.
	other, _ := newKeys()
	l.publish("stays", other)
	b.eventually(stays, auth.BadSignature)
	b.eventually(l.token("stays", b.issued()), "")
	l.remove("stays")
	b.eventually(l.token("stays", b.issued()), auth.UnknownKey)
}

func TestIssuerIsDown(t *testing.T) {
	l := newLogin(t)
	ed, _ := newKeys()
	l.publish("k", ed)
	for name, answer := range map[string]http.HandlerFunc{
		"503":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"not JSON":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"without end": func(w http.ResponseWriter, _ *http.Request) { endless(w) },
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l.set(func() { l.answer = answer })
			b, reg := issuedBench(t, l)
			token := l.token("k", b.issued())
			b.want(token, auth.UnknownKey)
			own := b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, b.good())
			b.want(own, "") // everybody else gets in
			l.set(func() { l.answer = nil })
			b.eventually(token, "")
			if counted(t, reg, "fairlead_auth_jwks_fetches_total", "failed") == 0 || counted(t, reg, "fairlead_auth_jwks_fetches_total", "ok") == 0 {
				t.Fatal("fetches are not counted")
			}
		})
	}
}

// endless writes more than a hub reads.
func endless(w http.ResponseWriter) {
	_, _ = w.Write([]byte(`{"keys":[`))
	pad := []byte(strings.Repeat(" ", 64<<10))
	for range 64 {
		if _, err := w.Write(pad); err != nil {
			return
		}
	}
	_, _ = w.Write([]byte(`]}`))
}

// While an issuer does not answer at all, known keys are as good as ever, and who waits for a new one does not wait long.
func TestIssuerHangs(t *testing.T) {
	l := newLogin(t)
	ed, _ := newKeys()
	l.publish("k", ed)
	b, _ := issuedBench(t, l)
	b.eventually(l.token("k", b.issued()), "")
	release := make(chan struct{})
	defer close(release)
	entered := make(chan struct{}, 1)
	l.set(func() {
		l.answer = func(http.ResponseWriter, *http.Request) {
			entered <- struct{}{}
			<-release
		}
		l.signer["new"] = ed
	})
	var wg sync.WaitGroup
	for i := range 200 { // more than may wait
		wg.Go(func() { b.want(l.token("new", b.issued("exp", b.now.Unix()+int64(i)+60)), auth.UnknownKey) })
	}
	<-entered
	b.want(l.token("k", b.issued("jti", "meanwhile")), "")
	wg.Wait() // all have their answer, and the issuer has not given one
}

func TestIssuersAreChecked(t *testing.T) {
	base := configs.Default().Auth
	good := configs.Issuer{Issuer: "https://a", JWKSURL: "https://a/jwks"}
	for name, issuers := range map[string][]configs.Issuer{
		"no name":       {{JWKSURL: "https://a/jwks"}},
		"the hub's own": {{Issuer: base.Issuer, JWKSURL: "https://a/jwks"}},
		"twice":         {good, good},
		"no such CA":    {{Issuer: "https://a", JWKSURL: "https://a/jwks", CAFile: "/nowhere"}},
	} {
		cfg := base
		cfg.Issuers = issuers
		if _, err := auth.NewIssuers(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
