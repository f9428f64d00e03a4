package api_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// at is the same browser at another node.
func (s *signedIn) at(h *hub) *signedIn { return &signedIn{h, s.cookie, s.csrf} }

func (s *signedIn) view() *view {
	s.h.t.Helper()
	v, _, err := s.h.dial(func(header http.Header) {
		header.Set("Cookie", s.cookie.Name+"="+s.cookie.Value)
		header.Set("Origin", s.h.srv.URL)
	}, api.LiveProtocol)
	if err != nil {
		s.h.t.Fatal(err)
	}
	return v
}

func (v *view) live() *view {
	v.t.Helper()
	v.subscribe(`["*"]`, `["presence"]`)
	return v
}

// rotate makes a new operator key and returns the kid of the one that signed before.
func (h *hub) rotate() (old string) {
	h.t.Helper()
	var list struct{ Keys []api.HubKey }
	h.call(h.admin(), "GET", "/api/v1/keys", nil).want(200).into(&list)
	for _, k := range list.Keys {
		if k.Kind == api.OperatorKeys && k.Mints {
			old = k.KID
		}
	}
	h.call(h.admin(), "POST", "/api/v1/keys", object{"kind": "operator"}).want(201)
	return old
}

// reread has the node read its keys, as any token with a kid that it does not know does.
func (h *hub) reread(f *forge) {
	h.t.Helper()
	h.call(f.sign(f.header().with(object{"kid": "nobody"}), f.claims()), "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
}

func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(to, "*.pem"))
	for _, name := range names {
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Sessions and live views end with the key that signed the token they were opened with, on every node, also on one whose
// look at the directory lags behind. What other keys signed, and what came of a link, goes on.
func TestSessionsEndWithTheirKey(t *testing.T) {
	t.Parallel()
	one := start(t)
	stolen := one.admin()
	lagging := filepath.Join(t.TempDir(), "keys")
	in := one.signIn(object{"token": stolen})
	old := one.rotate()
	copyFiles(t, one.keys, lagging)
	two := startOn(t, one.bus, lagging)
	fresh := one.admin()
	other, linked := one.signIn(object{"token": fresh}), one.signIn(object{"secret": one.link("admin")})
	var ending, staying []*view
	for _, h := range []*hub{one, two} {
		ending = append(ending, h.view(stolen).live(), in.at(h).view().live())
		staying = append(staying, h.view(fresh).live(), other.at(h).view().live(), linked.at(h).view().live())
	}
	one.call(fresh, "DELETE", "/api/v1/keys/"+old, nil).want(204)
	one.call(stolen, "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	in.do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	for _, v := range ending {
		v.closed(4401)
	}
	two.call(stolen, "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	two.call("", "POST", "/api/v1/session", object{"token": stolen}).refused(401, "sign_in_refused")
	in.at(two).do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	one.presence("pump-7")
	for _, v := range staying {
		if f := v.next(); f.Event != "presence" {
			t.Errorf("a view of another key, or of a link: %+v", f)
		}
	}
	for _, s := range []*signedIn{other.at(two), linked.at(two)} {
		s.do("GET", "/api/v1/session", nil).want(200)
	}
}

// A key whose file somebody takes away, or replaces under the same name, ends what it signed as one that was removed by
// the API.
func TestSessionsEndWithTheirKeysFile(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, file string){
		"taken away": func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, file string) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			f := newForge(h, time.Now)
			token := h.admin()
			s := h.signIn(object{"token": token})
			h.rotate()
			fresh := h.signIn(object{"token": h.admin()})
			views := []*view{h.view(token).live(), s.view().live()}
			change(t, filepath.Join(h.keys, f.kid+".pem"))
			h.reread(f)
			for _, v := range views {
				v.closed(4401)
			}
			h.call(token, "GET", "/api/v1/session", nil).refused(401, "unauthenticated") // though it was remembered as good
			s.do("GET", "/api/v1/session", nil).refused(401, "unauthenticated")
			fresh.do("GET", "/api/v1/session", nil).want(200)
		})
	}
}

// A key is removed whatever else lies in the directory.
func TestKeyIsRemovedBesideAnUnreadableOne(t *testing.T) {
	h := start(t)
	stolen := h.admin()
	old := h.rotate()
	fresh := h.admin()
	if err := os.WriteFile(filepath.Join(h.keys, "broken.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.call(fresh, "DELETE", "/api/v1/keys/"+old, nil).want(204)
	h.call(stolen, "GET", "/api/v1/session", nil).refused(401, "unauthenticated")
	h.call(fresh, "GET", "/api/v1/session", nil).want(200)
}

// reloads are device keys that tell when they are read again.
type reloads struct {
	signers
	read chan struct{}
}

func (r *reloads) Reload() error {
	select {
	case r.read <- struct{}{}:
	default:
	}
	return nil
}

// A device key that one node removes has the others read theirs, which ends what it signed.
func TestOtherNodesHearOfARemovedDeviceKey(t *testing.T) {
	one := start(t)
	theirs := &reloads{read: make(chan struct{}, 1)}
	startOn(t, one.bus, one.keys, func(o *api.Options) { o.DeviceKeys = theirs })
	one.call(one.admin(), "DELETE", "/api/v1/keys/hub-new", nil).refused(409, "hub_key_in_use")
	select {
	case <-theirs.read:
		t.Fatal("told of a key that stays")
	default:
	}
	one.call(one.admin(), "DELETE", "/api/v1/keys/hub-old", nil).want(204)
	select {
	case <-theirs.read:
	case <-time.After(20 * time.Second):
		t.Fatal("the other node was not told")
	}
}
