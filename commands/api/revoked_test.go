package api_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// A token that is dated ahead would outlive a revocation: it is refused, with the hub's time. One that clocks explain is
// good, and ends with the revocation.
func TestTokensDatedAhead(t *testing.T) {
	c := &clock{now: time.Now()}
	h := start(t, func(o *api.Options) { o.Now = c.Now })
	f := newForge(h, c.Now)
	f.minted = 0
	c.pass(time.Hour)
	now := c.Now()
	dated := func(iat, minted time.Duration) string {
		return f.sign(f.header(), f.claims().with(object{"iat": now.Add(iat).Unix(), "minted_ms": now.Add(minted).UnixMilli()}))
	}
	for name, token := range map[string]string{
		"minted_ms a day ahead": dated(0, 24*time.Hour), "minted_ms just beyond the skew": dated(0, 30*time.Second+time.Millisecond),
		"minted_ms without end": f.sign(f.header(), f.claims().with(object{"minted_ms": int64(1) << 62})),
		"iat ahead":             dated(time.Minute, 0),
	} {
		for _, got := range []*answer{h.call(token, "GET", "/api/v1/session", nil), h.call("", "POST", "/api/v1/session", object{"token": token})} {
			var told struct{ Time int64 }
			if got.refused(401, "token_not_yet_valid").into(&told); told.Time != now.UnixMilli() {
				t.Errorf("%s: the hub's time %d, want %d", name, told.Time, now.UnixMilli())
			}
		}
	}
	fast := dated(29*time.Second, 29*time.Second)
	s := h.signIn(object{"token": fast})
	h.call(fast, "GET", "/api/v1/session", nil).want(200)
	h.operator("other", api.Admin, "")
	h.call(fast, "DELETE", "/api/v1/operators/admin/tokens", nil).want(204)
	h.call(fast, "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	s.do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	h.call(h.admin(), "GET", "/api/v1/session", nil).want(200)
}

// A revocation holds for what a node made whose clock is ahead of that of the node which revokes; so does making an
// operator anew. What is made afterwards is good at once, on both.
func TestRevocationByASlowClock(t *testing.T) {
	slow := start(t)
	fast := startOn(t, slow.bus, slow.keys, func(o *api.Options) { o.Now = func() time.Time { return time.Now().Add(20 * time.Second) } })
	admin := slow.admin()
	for name, end := range map[string]func() (again string){
		"revoked": func() string {
			slow.call(admin, "DELETE", "/api/v1/operators/revoked/tokens", nil).want(204)
			var made struct{ Token string }
			slow.call(admin, "POST", "/api/v1/operators/revoked/tokens", nil).want(201).into(&made)
			return made.Token
		},
		"anew": func() string {
			slow.call(admin, "DELETE", "/api/v1/operators/anew", nil).want(204)
			return slow.operator("anew", api.Viewer, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			slow.t, fast.t = t, t
			slow.operator(name, api.Viewer, "")
			token, _, err := fast.api.MintToken(t.Context(), name, "", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			s := fast.signIn(object{"secret": fast.link(name)})
			v := s.view().live()
			slow.call(token, "GET", "/api/v1/session", nil).want(200)
			again := end()
			v.closed(4401)
			for _, h := range []*hub{slow, fast} {
				h.call(token, "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
				s.at(h).do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
				h.call(again, "GET", "/api/v1/session", nil).want(200)
			}
		})
	}
}

// A view whose operator is disabled while it opens does not stay.
func TestOperatorChangesWhileAViewOpens(t *testing.T) {
	h := start(t)
	token := h.operator("me", api.Viewer, "")
	open := func(between func()) *view {
		there := *h
		there.srv = httptest.NewTLSServer(h.api.LiveAfter(between))
		t.Cleanup(there.srv.Close)
		return there.view(token)
	}
	open(func() {}).live()
	disable := func() { h.call(h.admin(), "PATCH", "/api/v1/operators/me", object{"disabled": true}).want(200) }
	open(disable).closed(4401)
}

// lagging is a node that hears nothing of what others change.
func (h *hub) lagging(o api.Options) *hub {
	h.t.Helper()
	o.Registry = prometheus.NewRegistry()
	a, err := api.New(h.t.Context(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	there := *h
	there.api, there.srv = a, httptest.NewTLSServer(a.Handler())
	h.t.Cleanup(there.srv.Close)
	return &there
}

// An operator that another node has just changed can be removed, and one that it has removed is not there.
func TestOperatorChangedElsewhere(t *testing.T) {
	var o api.Options
	h := start(t, func(given *api.Options) { o = *given })
	admin := h.admin()
	h.operator("me", api.Viewer, "")
	h.operator("you", api.Viewer, "")
	late := h.lagging(o)
	h.call(admin, "PATCH", "/api/v1/operators/me", object{"role": "operator"}).want(200)
	h.call(admin, "DELETE", "/api/v1/operators/you", nil).want(204)
	late.call(admin, "DELETE", "/api/v1/operators/me", nil).want(204)
	late.call(admin, "PATCH", "/api/v1/operators/you", object{"role": "operator"}).refused(404, "operator_not_found")
	h.call(admin, "GET", "/api/v1/operators", nil).want(200)
}
