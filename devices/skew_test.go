package devices_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// signer is a device that signs its own tokens, by its own clock.
type signer struct {
	t      *testing.T
	device string
	key    ed25519.PrivateKey
}

func (h *hub) signer(t *testing.T, device string) signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := devices.NewKey("key-1", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.records.Create(t.Context(), &devices.Record{ID: device, Keys: []devices.Key{key}}); err != nil {
		t.Fatal(err)
	}
	return signer{t, device, private}
}

func (s signer) sign(now time.Time, life time.Duration) string {
	s.t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"sub": s.device, "aud": "fairlead", "iat": now.Unix(), "exp": now.Add(life).Unix(),
	})
	token.Header["kid"] = "key-1"
	text, err := token.SignedString(s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// A device whose clock is off by less than the skew is let in; its session ends by the hub's clock.
func TestClocksThatDiffer(t *testing.T) {
	for name, c := range map[string]struct {
		ahead time.Duration // the device's clock before the hub's
		code  string        // of the refusal
	}{
		"right":       {0, ""},
		"a bit fast":  {50 * time.Second, ""},
		"too fast":    {70 * time.Second, "token_not_yet_valid"},
		"a bit slow":  {-time.Hour - 50*time.Second, ""},
		"too slow":    {-time.Hour - 70*time.Second, "token_expired"},
		"never set":   {-50 * 365 * 24 * time.Hour, "token_expired"},
		"a year fast": {365 * 24 * time.Hour, "token_not_yet_valid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newStopped()
			h := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.Heartbeat = 1000 * time.Hour })
			device := h.signer(t, "pump-7")
			token := device.sign(clock.now().Add(c.ahead), time.Hour)
			if c.code != "" {
				r := h.refused(h.url, bearerOf(token))
				if r.status != 401 || r.body.Code != c.code || r.body.Time != clock.now().UnixMilli() {
					t.Fatalf("%d %+v, want %s at %d", r.status, r.body, c.code, clock.now().UnixMilli())
				}
				// By the hub's time in the refusal the device can do better.
				token = device.sign(time.UnixMilli(r.body.Time), time.Hour)
			}
			session := h.connect(token)
			session.send(point(1))
			session.wantAck(1)
			clock.advance(2*time.Hour + 2*time.Minute)
			session.wantClose(devices.CloseToken)
		})
	}
}

// A fresh token of a clock that is slow is as good within a connection as at its begin.
func TestRenewalByASlowClock(t *testing.T) {
	clock := newStopped()
	h := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.Heartbeat = 1000 * time.Hour })
	device, other := h.signer(t, "pump-7"), h.signer(t, "pump-8")
	session := h.connect(device.sign(clock.now(), time.Hour))
	session.send(`{"type":"token","token":"` + device.sign(clock.now().Add(-time.Hour-50*time.Second), time.Hour) + `"}`)
	if _, ok := session.read().(*wire.Token); !ok {
		t.Fatal("the token was not taken")
	}
	// Another one's end shows that the hub has looked at the clock since.
	ends := h.connect(other.sign(clock.now().Add(-time.Hour-55*time.Second), time.Hour))
	clock.advance(6 * time.Second)
	ends.wantClose(devices.CloseToken)
	session.send(point(1))
	session.wantAck(1)
	clock.advance(6 * time.Second)
	session.wantClose(devices.CloseToken)
}

// The hub's own clock is set back while devices are on line: nobody is thrown out, and the newest still wins.
func TestHubClockIsSetBack(t *testing.T) {
	t.Parallel()
	clock := newStopped()
	h := startHub(t, func(o *options) { o.now = clock.now; o.cfg.Devices.Heartbeat = time.Second })
	token := h.device("pump-7")
	first := h.connect(token)
	before := h.presence.State("pump-7")
	clock.advance(-30 * time.Second)
	first.send(point(1))
	first.wantAck(1)
	second := h.connect(token)
	first.wantClose(devices.CloseReplaced)
	if st := h.presence.State("pump-7"); st.Epoch <= before.Epoch || st.Session != second.welcome.Session || st.Status != devices.Online {
		t.Fatalf("%+v after %+v", st, before)
	}
	second.send(point(1))
	second.wantAck(1)
}
