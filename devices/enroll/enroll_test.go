package enroll_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/enroll"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// audits keeps events, or fails to.
type audits struct {
	mu   sync.Mutex
	all  []enroll.Event
	fail error
}

func (a *audits) Enrolled(_ context.Context, e enroll.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, e)
	return a.fail
}

func (a *audits) last() enroll.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) == 0 {
		return enroll.Event{}
	}
	return a.all[len(a.all)-1]
}

// node is a hub node's part in enrollments, on a real bus behind a real listener.
type node struct {
	t       testing.TB
	bus     *bus.Bus
	records *devices.Records
	enrolls *enroll.Enrollments
	audits  *audits
	reg     *prometheus.Registry
	url     string
	now     func() time.Time
	peer    atomic.Pointer[netip.Addr]
}

func openBus(t testing.TB) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := bus.Open(ctx, bus.Options{
		Dir: t.TempDir(), Node: "n1", Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 64 << 20, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func startNode(t testing.TB, b *bus.Bus, change ...func(*configs.Auth, *node)) *node {
	t.Helper()
	n := &node{t: t, bus: b, audits: &audits{}, reg: prometheus.NewRegistry(), now: time.Now}
	cfg := configs.Default().Auth
	cfg.EnrollsPerMinute = 1_000_000
	for _, fn := range change {
		fn(&cfg, n)
	}
	log := slog.New(slog.DiscardHandler)
	n.records = devices.NewRecords(n.bucket(bus.BucketDevices), log)
	n.enrolls = enroll.NewEnrollments(n.bucket(bus.BucketEnrolls), n.records, func() time.Time { return n.now() })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.records.Run(ctx) })
	srv := httptest.NewServer(enroll.NewHandler(n.enrolls, enroll.HandlerOptions{Auth: cfg, Plaintext: true, Address: n.from, Audit: n.audits, Log: log, Metrics: n.reg}))
	t.Cleanup(func() { srv.Close(); cancel(); wg.Wait() })
	<-n.records.Ready()
	n.url = srv.URL
	return n
}

func (n *node) bucket(name string) jetstream.KeyValue {
	n.t.Helper()
	got, err := n.bus.Bucket(n.t.Context(), name)
	if err != nil {
		n.t.Fatal(err)
	}
	return got
}

// make makes an enrollment and returns its secret and id.
func (n *node) make(e enroll.New) (secret, id string) {
	n.t.Helper()
	if e.TTL == 0 {
		e.TTL = time.Hour
	}
	if e.MaxDevices == 0 {
		e.MaxDevices = 1000
	}
	made, secret, err := n.enrolls.Create(n.t.Context(), e)
	if err != nil {
		n.t.Fatal(err)
	}
	return secret, made.ID
}

func newEC() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func newEd() crypto.Signer {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func pemOf(key crypto.Signer) string {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

type object = map[string]any

// proof is what docs/device-protocol.md asks for, made with the library that a device would use; changes lie over it.
func proof(id string, key crypto.Signer, changes ...any) string {
	var method jwt.SigningMethod = jwt.SigningMethodEdDSA
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		method = jwt.SigningMethodES256
	}
	now := time.Now().Unix()
	claims := jwt.MapClaims{"sub": id, "aud": "fairlead-enroll", "iat": now, "exp": now + 60}
	t := jwt.NewWithClaims(method, claims)
	t.Header["typ"] = "fairlead-enroll+jwt"
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		switch {
		case name == "typ":
			t.Header["typ"] = changes[i+1]
		case changes[i+1] == nil:
			delete(claims, name)
		default:
			claims[name] = changes[i+1]
		}
	}
	s, err := t.SignedString(key)
	if err != nil {
		panic(err)
	}
	return s
}

func request(secret, id string, key crypto.Signer) object {
	return object{"secret": secret, "id": id, "public_key": pemOf(key), "proof": proof(id, key)}
}

type answer struct {
	status int
	header http.Header
	Code   string
	Time   int64
	Device struct {
		ID      string
		Labels  map[string]string
		Pending bool
	}
	KID, Alg, Audience, Issuer, URL string
}

// from is where a request comes from: the peer, unless the test says otherwise.
func (n *node) from(r *http.Request) netip.Addr {
	if at := n.peer.Load(); at != nil {
		return *at
	}
	return netip.MustParseAddrPort(r.RemoteAddr).Addr()
}

func (n *node) post(body any) answer {
	n.t.Helper()
	a, err := n.tryPost(body)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *node) tryPost(body any) (a answer, err error) {
	raw, ok := body.(string)
	if !ok {
		data, err := json.Marshal(body)
		if err != nil {
			return a, err
		}
		raw = string(data)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, n.url+"/v1/enroll", strings.NewReader(raw))
	if err != nil {
		return a, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

func (a answer) want(t testing.TB, status int, code string) answer {
	t.Helper()
	if a.status != status || a.Code != code {
		t.Fatalf("%d %s, want %d %s", a.status, a.Code, status, code)
	}
	return a
}

func (n *node) used(id string) int {
	n.t.Helper()
	list, err := n.enrolls.List(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range list {
		if e.ID == id {
			return e.Used
		}
	}
	n.t.Fatalf("no enrollment %s", id)
	return 0
}

func TestDeviceEnrolsItself(t *testing.T) {
	n := startNode(t, openBus(t))
	secret, id := n.make(enroll.New{Labels: map[string]string{"site": "plant-7"}, Prefix: "pump-", Actor: "ann"})
	for i, key := range []crypto.Signer{newEC(), newEd()} {
		name := fmt.Sprintf("pump-%d", i)
		got := n.post(request(secret, name, key)).want(t, http.StatusCreated, "")
		if got.Device.ID != name || got.Device.Labels["site"] != "plant-7" || got.Device.Pending || got.Audience != "fairlead" ||
			got.Issuer != "fairlead" || got.KID == "" || got.URL != "ws"+strings.TrimPrefix(n.url, "http")+"/v1/device" || got.Time == 0 {
			t.Fatalf("%+v", got)
		}
		rec, ok := n.records.Record(name)
		if !ok || len(rec.Keys) != 1 || rec.Keys[0].KID != got.KID || rec.Keys[0].Alg != got.Alg || rec.Enrollment != id {
			t.Fatalf("%+v", rec)
		}
		// The record is what the verifier needs.
		n.verify(name, got.KID, key, "")
		if ev := n.audits.last(); ev.Enrollment != id || ev.Device != name || ev.Outcome != "ok" || ev.Status != 201 || ev.Remote != "127.0.0.1" {
			t.Fatalf("audit: %+v", ev)
		}
		// Its answer was lost: it asks again, with the same key, and no slot is taken.
		again := n.post(request(secret, name, key)).want(t, http.StatusOK, "")
		if again.KID != got.KID {
			t.Fatalf("%+v", again)
		}
		// Somebody else with the secret cannot have the id.
		n.post(request(secret, name, newEC())).want(t, http.StatusConflict, "device_exists")
		n.verify(name, got.KID, key, "")
	}
	if used := n.used(id); used != 2 {
		t.Fatalf("used %d", used)
	}
	key := newEd()
	as := request(secret, "pump-9", key)
	delete(as, "public_key")
	as["jwk"] = object{
		"kty": "OKP", "crv": "Ed25519", "kid": "mine", "x": base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)),
	}
	if got := n.post(as).want(t, http.StatusCreated, ""); got.KID != "mine" {
		t.Fatalf("%+v", got)
	}
	n.verify("pump-9", "mine", key, "")
}

// verify presents a token that the device signed itself.
func (n *node) verify(device, kid string, key crypto.Signer, want auth.Code) {
	n.t.Helper()
	hub, err := auth.OpenHubKeys(n.t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		n.t.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.VerifierOptions{Config: configs.Default().Auth, Hub: hub, Accounts: n.records})
	if err != nil {
		n.t.Fatal(err)
	}
	var method jwt.SigningMethod = jwt.SigningMethodEdDSA
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		method = jwt.SigningMethodES256
	}
	t := jwt.NewWithClaims(method, jwt.MapClaims{"sub": device, "aud": "fairlead", "iat": time.Now().Unix(), "exp": time.Now().Unix() + 60})
	t.Header["kid"] = kid
	token, err := t.SignedString(key)
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = v.Verify(token)
	var rej *auth.Refusal
	if errors.As(err, &rej); err != nil && rej == nil || rej != nil && rej.Code != want || rej == nil && want != "" {
		n.t.Fatalf("token of %s: %v, want %q", device, err, want)
	}
	if rej != nil && want == auth.Pending && rej.Status() != http.StatusForbidden {
		n.t.Fatalf("status %d", rej.Status())
	}
}

func TestApproveFirst(t *testing.T) {
	n := startNode(t, openBus(t))
	secret, id := n.make(enroll.New{Approve: true})
	key := newEC()
	got := n.post(request(secret, "a", key)).want(t, http.StatusAccepted, "")
	if !got.Device.Pending {
		t.Fatalf("%+v", got)
	}
	n.verify("a", got.KID, key, auth.Pending)
	n.post(request(secret, "a", key)).want(t, http.StatusAccepted, "")
	page, err := n.enrolls.Pending("", 10)
	if err != nil || len(page.Records) != 1 || page.Records[0].ID != "a" {
		t.Fatalf("%+v, %v", page, err)
	}
	if _, err := n.enrolls.Approve(t.Context(), "aaaaaaaaaa", "a"); !errors.Is(err, enroll.ErrNotPending) {
		t.Fatalf("under another enrollment: %v", err)
	}
	if _, err := n.enrolls.Approve(t.Context(), id, "nobody"); !errors.Is(err, enroll.ErrNotPending) {
		t.Fatalf("no such device: %v", err)
	}
	if _, err := n.enrolls.Approve(t.Context(), id, "a"); err != nil {
		t.Fatal(err)
	}
	n.verify("a", got.KID, key, "")
	n.post(request(secret, "a", key)).want(t, http.StatusOK, "")
	if _, err := n.enrolls.Approve(t.Context(), id, "a"); !errors.Is(err, enroll.ErrNotPending) {
		t.Fatalf("twice: %v", err)
	}
}

func TestRefusedEnrollments(t *testing.T) {
	n := startNode(t, openBus(t))
	secret, id := n.make(enroll.New{Prefix: "pump-", MaxDevices: 50})
	short, _ := n.make(enroll.New{TTL: time.Minute})
	deleted, gone := n.make(enroll.New{})
	key, other := newEC(), newEC()
	n.post(request(short, "in-time", key)).want(t, http.StatusCreated, "")
	if err := n.enrolls.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if _, err := n.records.Create(t.Context(), &devices.Record{ID: "pump-old"}); err != nil {
		t.Fatal(err)
	}
	with := func(kv ...any) object {
		r := request(secret, "pump-1", key)
		for i := 0; i < len(kv); i += 2 {
			r[kv[i].(string)] = kv[i+1]
		}
		return r
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	flipped := secret[:len(secret)-1] + string(secret[len(secret)-1]^1)
	good, err := json.Marshal(with())
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		body   any
		status int
		code   string
	}{
		{"no JSON", "hello", 400, "invalid_body"},
		{"two objects", "{}{}", 400, "invalid_body"},
		{"an array", "[]", 400, "invalid_body"},
		{"an id twice", `{"id":"pump-1",` + string(good[1:]), 400, "invalid_body"},
		{"too long", strings.Repeat(" ", 17<<10), 413, "body_too_big"},
		{"no secret", with("secret", nil), 400, "invalid_body"},
		{"wrong secret", with("secret", flipped), 401, "enrollment_refused"},
		{"secret of nothing", with("secret", "aaaaaaaaaa.AAAAAAAAAAAAAAAAAAAAAAAAAA"), 401, "enrollment_refused"},
		{"secret without its half", with("secret", id+"."), 401, "enrollment_refused"},
		{"secret with another id", with("secret", gone+secret[len(id):]), 401, "enrollment_refused"},
		{"secret is a wildcard", with("secret", "*.x"), 401, "enrollment_refused"},
		{"deleted enrollment", with("secret", deleted), 401, "enrollment_refused"},
		{"id is a path", with("id", "../x"), 400, "invalid_id"},
		{"id missing", with("id", ""), 400, "invalid_id"},
		{"id outside of the prefix", request(secret, "meter-1", key), 403, "id_not_allowed"},
		{"id of a device without keys", request(secret, "pump-old", key), 409, "device_exists"},
		{"no key", with("public_key", nil), 400, "invalid_key"},
		{"two keys", with("jwk", object{"kty": "OKP"}), 400, "invalid_key"},
		{"P-384", object{"secret": secret, "id": "pump-1", "public_key": pemOf(p384), "proof": "x.y.z"}, 400, "invalid_key"},
		{"kid is a path", with("kid", "../../k"), 400, "invalid_key"},
		{"private JWK", object{"secret": secret, "id": "pump-1", "proof": "x", "jwk": object{"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}}, 400, "invalid_key"},
		{"no proof", with("proof", nil), 400, "invalid_body"},
		{"proof by another key", with("proof", proof("pump-1", other)), 401, "proof_refused"},
		{"proof by a key of another kind", with("proof", proof("pump-1", newEd())), 401, "proof_refused"},
		{"proof of another id", with("proof", proof("pump-2", key)), 401, "proof_refused"},
		{"a device token as proof", with("proof", proof("pump-1", key, "typ", "JWT", "aud", "fairlead")), 401, "proof_refused"},
		{"proof of no typ", with("proof", proof("pump-1", key, "typ", "JWT")), 401, "proof_refused"},
		{"proof for somebody else", with("proof", proof("pump-1", key, "aud", "fairlead")), 401, "proof_refused"},
		{"proof expired", with("proof", proof("pump-1", key, "iat", now-700, "exp", now-120)), 401, "proof_refused"},
		{"proof from the future", with("proof", proof("pump-1", key, "iat", now+300, "exp", now+360)), 401, "proof_refused"},
		{"proof good for a day", with("proof", proof("pump-1", key, "exp", now+86400)), 401, "proof_refused"},
		{"proof without exp", with("proof", proof("pump-1", key, "exp", nil)), 401, "proof_refused"},
		{"proof without iat", with("proof", proof("pump-1", key, "iat", nil)), 401, "proof_refused"},
		{"model too long", with("model", strings.Repeat("m", 200)), 400, "invalid_body"},
	}
	for _, c := range cases {
		got := n.post(c.body)
		if got.status != c.status || got.Code != c.code || got.Time == 0 {
			t.Errorf("%-32s %d %s, want %d %s", c.name, got.status, got.Code, c.status, c.code)
		}
	}
	if _, ok := n.records.Record("pump-1"); ok || n.used(id) != 0 {
		t.Fatalf("a refused request left a record (%v) or took a slot (%d)", ok, n.used(id))
	}
	n.post(with()).want(t, http.StatusCreated, "") // the base of all cases is good
	if _, err := n.records.Update(t.Context(), "pump-1", 0, func(r *devices.Record) (bool, error) { r.Disabled = true; return true, nil }); err != nil {
		t.Fatal(err)
	}
	n.post(with()).want(t, http.StatusForbidden, "device_disabled")
	n.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	late := func(id string) object {
		r := request(short, id, key)
		r["proof"] = proof(id, key, "iat", n.now().Unix(), "exp", n.now().Unix()+60)
		return r
	}
	n.post(late("x")).want(t, http.StatusForbidden, "enrollment_expired")
	n.post(late("in-time")).want(t, http.StatusOK, "") // it asks again for the answer that it lost
	fmt.Printf("enroll corpus: cases=%d accepted=0\n", len(cases))
}

func TestEnrollAddressesAreLimited(t *testing.T) {
	n := startNode(t, openBus(t), func(a *configs.Auth, n *node) {
		a.EnrollsPerMinute = 20
		at := time.Now()
		n.now = func() time.Time { return at }
	})
	secret, _ := n.make(enroll.New{})
	key := newEC()
	n.post(request(secret, "a", key)).want(t, http.StatusCreated, "")
	n.post(request("aaaaaaaaaa.AAAAAAAAAAAAAAAAAAAAAAAAAA", "b", key)).want(t, http.StatusUnauthorized, "enrollment_refused") // counts as ten
	for range 9 {
		n.post(request(secret, "a", key)).want(t, http.StatusOK, "")
	}
	got := n.post(request(secret, "a", key)).want(t, http.StatusTooManyRequests, "enrolls_too_often")
	if got.header.Get("Retry-After") == "" {
		t.Fatal("no Retry-After")
	}
	other := netip.MustParseAddr("192.0.2.7") // another one, behind the same proxy
	n.peer.Store(&other)
	n.post(request(secret, "a", key)).want(t, http.StatusOK, "")
}

// silent asks n times to enrol and never sends the body, from the address that the test says.
func (n *node) silent(count int) {
	n.t.Helper()
	for range count {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, "POST /v1/enroll HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
			n.t.Fatal(err)
		}
		// The hub asks for the body once it waits for it, or refuses.
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1<<10)); err != nil {
			n.t.Fatal(err)
		}
	}
}

// Who sends no body holds up its own address and nobody else.
func TestBodiesThatDoNotCome(t *testing.T) {
	n := startNode(t, openBus(t))
	secret, _ := n.make(enroll.New{})
	const enough = 80 // more than may be worked at at once
	n.silent(enough)
	other := netip.MustParseAddr("192.0.2.7")
	n.peer.Store(&other)
	// What it holds is given back: an address whose bodies come is never held up.
	for i := range enough {
		n.post(request(secret, fmt.Sprintf("b%d", i), newEd())).want(t, http.StatusCreated, "")
	}
	// The control: the others are still there.
	n.peer.Store(nil)
	n.post(request(secret, "a", newEC())).want(t, http.StatusTooManyRequests, "enrolls_too_often")
}

// Many devices more than may come at once, at two nodes: the count is exact.
func TestCountIsExactOverTwoNodes(t *testing.T) {
	b := openBus(t)
	nodes := []*node{startNode(t, b), startNode(t, b)}
	const most, comers = 20, 60
	secret, id := nodes[0].make(enroll.New{MaxDevices: most})
	keys := make([]crypto.Signer, comers)
	for i := range keys {
		keys[i] = newEC()
	}
	var mu sync.Mutex
	codes := map[string]int{}
	var wg sync.WaitGroup
	for i := range comers {
		for j := range 2 { // each asks both nodes at once
			wg.Go(func() {
				for {
					a, err := nodes[(i+j)%2].tryPost(request(secret, fmt.Sprintf("d-%d", i), keys[i]))
					if err != nil {
						t.Error(err)
						return
					}
					if a.status == http.StatusServiceUnavailable {
						continue
					}
					mu.Lock()
					codes[fmt.Sprint(a.status, a.Code)]++
					mu.Unlock()
					return
				}
			})
		}
	}
	wg.Wait()
	made := 0
	for i := range comers {
		if _, err := nodes[0].records.Refresh(t.Context(), fmt.Sprintf("d-%d", i)); err == nil {
			made++
		}
	}
	if made != most || codes["201"] != most || nodes[1].used(id) != most {
		t.Fatalf("%d records, used %d of %d, answers %v", made, nodes[1].used(id), most, codes)
	}
	t.Logf("%v", codes)
}

// A node that dies after it took a slot, before it made the record, keeps nobody out for good.
func TestSlotOfADeadNodeComesBack(t *testing.T) {
	b := openBus(t)
	n := startNode(t, b)
	secret, id := n.make(enroll.New{MaxDevices: 1})
	entry, err := n.bucket(bus.BucketEnrolls).Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var e object
	if err := json.Unmarshal(entry.Value(), &e); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(entry.Value(), []byte(secret)) || bytes.Contains(entry.Value(), []byte(secret[len(id)+1:])) {
		t.Fatal("the secret is stored")
	}
	e["used"], e["last"] = 1, 1
	e["taking"] = []object{{"number": 1, "device": "dead", "key": "x", "since": time.Now().UTC()}}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.bucket(bus.BucketEnrolls).Put(t.Context(), id, data); err != nil {
		t.Fatal(err)
	}
	key := newEC()
	n.post(request(secret, "alive", key)).want(t, http.StatusServiceUnavailable, "too_many_enrolls") // come again
	n.now = func() time.Time { return time.Now().Add(61 * time.Second) }
	r := request(secret, "alive", key)
	r["proof"] = proof("alive", key, "iat", n.now().Unix(), "exp", n.now().Unix()+60)
	n.post(r).want(t, http.StatusCreated, "")
	if used := n.used(id); used != 1 {
		t.Fatalf("used %d", used)
	}
	r = request(secret, "more", key)
	r["proof"] = proof("more", key, "iat", n.now().Unix(), "exp", n.now().Unix()+60)
	n.post(r).want(t, http.StatusForbidden, "enrollment_exhausted")
}

// A device that the audit log did not hear of is not told that it is in; when it asks again, it is.
func TestEnrollmentWithoutAudit(t *testing.T) {
	n := startNode(t, openBus(t))
	secret, id := n.make(enroll.New{MaxDevices: 1})
	n.audits.fail = errors.New("disk full")
	key := newEC()
	n.post(request(secret, "a", key)).want(t, http.StatusServiceUnavailable, "unavailable")
	n.audits.fail = nil
	n.post(request(secret, "a", key)).want(t, http.StatusOK, "")
	if used := n.used(id); used != 1 {
		t.Fatalf("used %d", used)
	}
}

func TestNewEnrollmentsAreChecked(t *testing.T) {
	n := startNode(t, openBus(t))
	places := map[string]string{
		"no devices": "max_devices", "too many devices": "max_devices", "no time": "ttl", "too long": "ttl", "prefix": "prefix", "label": "labels.a b",
	}
	for name, e := range map[string]enroll.New{
		"no devices":       {TTL: time.Hour},
		"too many devices": {TTL: time.Hour, MaxDevices: 100_001},
		"no time":          {MaxDevices: 1},
		"too long":         {MaxDevices: 1, TTL: 400 * 24 * time.Hour},
		"prefix":           {MaxDevices: 1, TTL: time.Hour, Prefix: "a.*"},
		"label":            {MaxDevices: 1, TTL: time.Hour, Labels: map[string]string{"a b": "c"}},
	} {
		_, _, err := n.enrolls.Create(t.Context(), e)
		if f := (*devices.Fault)(nil); !errors.As(err, &f) || f.Path != places[name] || !errors.Is(err, devices.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := n.enrolls.Delete(t.Context(), "nobody"); !errors.Is(err, enroll.ErrUnknown) {
		t.Fatal(err)
	}
	if list, err := n.enrolls.List(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
}
