package api_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// signedIn is a browser that has signed in.
type signedIn struct {
	h      *hub
	cookie *http.Cookie
	csrf   string
}

func (h *hub) signIn(body object) *signedIn {
	h.t.Helper()
	got := h.call("", "POST", "/api/v1/session", body).want(200)
	cookies := (&http.Response{Header: got.header}).Cookies()
	if len(cookies) != 1 {
		h.t.Fatalf("cookies %v, want one", cookies)
	}
	return &signedIn{h, cookies[0], got.field("csrf")}
}

func (s *signedIn) do(method, path string, body any, change ...func(*http.Request)) *answer {
	s.h.t.Helper()
	return s.h.send(method, path, body, func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: s.cookie.Name, Value: s.cookie.Value})
		r.Header.Set("X-CSRF-Token", s.csrf)
		for _, f := range change {
			f(r)
		}
	})
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if r.Header.Del(name); value != "" {
			r.Header.Set(name, value)
		}
	}
}

func (h *hub) link(name string) (secret string) {
	h.t.Helper()
	link, _, err := h.api.SignInLink(h.t.Context(), "https://hub.example", name)
	if err != nil {
		h.t.Fatal(err)
	}
	base, secret, ok := strings.Cut(link, "#")
	if !ok || base != "https://hub.example/console/signin" {
		h.t.Fatalf("link %s", base)
	}
	return secret
}

func TestCookie(t *testing.T) {
	h := start(t)
	s := h.signIn(object{"token": h.admin()})
	c := s.cookie
	if c.Name != "__Host-fairlead" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie %+v", c)
	}
	if got := s.do("GET", "/api/v1/session", nil).want(200); got.field("csrf") != s.csrf || got.field("name") != "admin" {
		t.Errorf("session %s", got.raw)
	}
	plain := start(t, func(o *api.Options) { o.Plaintext = true })
	if c := plain.signIn(object{"token": plain.admin()}).cookie; c.Name != "fairlead" || c.Secure || !c.HttpOnly {
		t.Errorf("plaintext cookie %+v", c)
	}
}

func TestChangeByCookieNeedsCSRF(t *testing.T) {
	h := start(t)
	s := h.signIn(object{"token": h.admin()})
	other := h.signIn(object{"token": h.admin()})
	create := object{"id": "new-1"}
	for name, token := range map[string]string{"none": "", "wrong": "x", "of another session": other.csrf, "with a tail": s.csrf + "x"} {
		s.do("POST", "/api/v1/devices", create, header("X-CSRF-Token", token)).refused(403, "csrf_token_invalid")
		if _, err := h.fleet.Find(t.Context(), "new-1"); err == nil {
			t.Fatalf("token %s: the device was made", name)
		}
	}
	// Reading needs none, so that a page can learn it.
	s.do("GET", "/api/v1/session", nil, header("X-CSRF-Token", "")).want(200)
	s.do("POST", "/api/v1/devices", create).want(201)
	// A program with a token has no ambient right that another page could use.
	h.call(h.admin(), "POST", "/api/v1/devices", object{"id": "new-2"}).want(201)
}

func TestCrossOriginIsRefused(t *testing.T) {
	h := start(t, func(o *api.Options) { o.Origins = []string{"https://board.example"} })
	s := h.signIn(object{"token": h.admin()})
	for name, change := range map[string]func(*http.Request){
		"another origin":   header("Origin", "https://evil.example"),
		"opaque origin":    header("Origin", "null"),
		"cross-site fetch": header("Sec-Fetch-Site", "cross-site"),
		"same-site fetch":  header("Sec-Fetch-Site", "same-site"),
	} {
		t.Run(name, func(t *testing.T) {
			s.do("DELETE", "/api/v1/devices/pump-7/tokens", nil, change).refused(403, "cross_origin")
			// Nor may another site sign a browser in as somebody else.
			h.send("POST", "/api/v1/session", object{"token": h.admin()}, change).refused(403, "cross_origin")
		})
	}
	s.do("DELETE", "/api/v1/devices/pump-7/tokens", nil, header("Origin", h.srv.URL)).want(204)
	s.do("DELETE", "/api/v1/devices/pump-7/tokens", nil, header("Origin", "https://board.example")).want(204)
	s.do("DELETE", "/api/v1/devices/pump-7/tokens", nil, header("Sec-Fetch-Site", "same-origin")).want(204)
}

func TestSignInLinkWorksOnce(t *testing.T) {
	h := start(t)
	h.admin()
	secret := h.link("admin")
	var wins, losses int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got := h.call("", "POST", "/api/v1/session", object{"secret": secret})
			mu.Lock()
			defer mu.Unlock()
			switch got.status {
			case 200:
				wins++
			case 401:
				losses++
			default:
				t.Errorf("%d %s", got.status, got.raw)
			}
		})
	}
	all.Wait()
	if wins != 1 || losses != 7 {
		t.Errorf("%d signed in, %d refused; want 1 and 7", wins, losses)
	}
	h.signIn(object{"secret": h.link("admin")}).do("GET", "/api/v1/session", nil).want(200)
	// Neither the log nor the audit knows the secret.
	if h.stop(); bytes.Contains(h.log.Bytes(), []byte(secret)) {
		t.Error("the secret is in the log")
	}
}

func TestSignInRefuses(t *testing.T) {
	h := start(t)
	h.operator("me", api.Viewer, "")
	revoked := h.link("me")
	h.call(h.admin(), "DELETE", "/api/v1/operators/me/tokens", nil).want(204)
	disabled := h.link("me")
	h.call(h.admin(), "PATCH", "/api/v1/operators/me", object{"disabled": true}).want(200)
	for name, body := range map[string]object{
		"secret unknown": {"secret": strings.Repeat("A", 43)}, "secret short": {"secret": "x"}, "token bad": {"token": "a.b.c"},
		"link of a revoked operator": {"secret": revoked}, "link of a disabled operator": {"secret": disabled},
	} {
		t.Run(name, func(t *testing.T) { h.call("", "POST", "/api/v1/session", body).refused(401, "sign_in_refused") })
	}
	h.call("", "POST", "/api/v1/session", object{}).refused(400, "invalid_request")
	h.call("", "POST", "/api/v1/session", object{"token": "x", "secret": "y"}).refused(400, "invalid_request")
}

// clock is a time that only tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestLinksAndSessionsExpire(t *testing.T) {
	c := &clock{now: time.Now()}
	h := start(t, func(o *api.Options) { o.Now = c.Now })
	h.admin()
	secret, early := h.link("admin"), h.link("admin")
	c.pass(24*time.Hour - time.Minute)
	s := h.signIn(object{"secret": early})
	c.pass(2 * time.Minute)
	h.call("", "POST", "/api/v1/session", object{"secret": secret}).refused(401, "sign_in_refused")
	s.do("GET", "/api/v1/session", nil).want(200)
	c.pass(12 * time.Hour)
	s.do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	// A session never outlives the token that it was made with.
	short, _, err := h.api.MintToken(t.Context(), "admin", "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s = h.signIn(object{"token": short})
	s.do("GET", "/api/v1/session", nil).want(200)
	c.pass(61 * time.Second)
	s.do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
}

func TestSignOut(t *testing.T) {
	h := start(t)
	s, other := h.signIn(object{"token": h.admin()}), h.signIn(object{"token": h.admin()})
	got := s.do("DELETE", "/api/v1/session", nil).want(204)
	if set := got.header.Get("Set-Cookie"); !strings.Contains(set, "Max-Age=0") {
		t.Errorf("cookie not taken back: %q", set)
	}
	s.do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	other.do("GET", "/api/v1/session", nil).want(200)
}

func TestSessionsEndWithTheirOperatorOnEveryNode(t *testing.T) {
	first := start(t)
	second := startOn(t, first.bus, first.keys)
	first.operator("me", api.Viewer, "")
	s := first.signIn(object{"secret": first.link("me")})
	there := &signedIn{second, s.cookie, s.csrf}
	there.do("GET", "/api/v1/session", nil).want(200) // made on the first node, good on the second
	for name, end := range map[string]object{"disabled": {"disabled": true}} {
		first.call(first.admin(), "PATCH", "/api/v1/operators/me", end).want(200)
		s.do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
		wantSoon(t, name+" on the other node", func() bool { return there.do("GET", "/api/v1/session", nil).status == 401 })
	}
}

// A bad token is not passed over for a good cookie.
func TestTokenGoesBeforeCookie(t *testing.T) {
	h := start(t)
	s := h.signIn(object{"token": h.admin()})
	for _, value := range []string{"Bearer x", "Basic YTpi", "Bearer", "bearer  "} {
		s.do("GET", "/api/v1/session", nil, header("Authorization", value)).refused(401, "unauthenticated")
	}
}

func TestOldSessionsMakeRoom(t *testing.T) {
	h := start(t)
	token := h.admin()
	first := h.signIn(object{"token": token})
	for range 20 {
		h.signIn(object{"token": token}).do("GET", "/api/v1/session", nil).want(200)
	}
	first.do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
}

func TestSecurityHeaders(t *testing.T) {
	h := start(t)
	for _, path := range []string{"/api/v1/session", "/api/openapi.json", "/api/none"} {
		got := h.call("", "GET", path, nil)
		csp := got.header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'self'", "script-src 'self'", "object-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: no %s in %q", path, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %q", path, csp)
		}
		if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, got.header)
		}
	}
}

// wantSoon waits for what another goroutine brings about.
func wantSoon(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within 20 s", what)
		case <-tick.C:
		}
	}
}

func TestFirstAdminIsMadeOnce(t *testing.T) {
	h := start(t)
	for i, want := range []bool{true, false} {
		made, err := h.api.EnsureAdmin(t.Context())
		if err != nil || made != want {
			t.Errorf("call %d: made %t, %v", i+1, made, err)
		}
	}
	// Nobody else can make one: there is no default password.
	h.call("", "GET", "/api/v1/operators", nil).refused(401, "unauthenticated")
}
