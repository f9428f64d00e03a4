package devices_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
)

// authority issues certificates.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate; change says what it names.
func (a *authority) issue(change func(*x509.Certificate)) *tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	change(template)
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func cn(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.CommonName = name }
}

func dns(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

func uri(raw string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		u, err := url.Parse(raw)
		if err != nil {
			panic(err)
		}
		c.URIs = []*url.URL{u}
	}
}

// encrypt serves a hub's endpoint with certificates of clients asked for.
func encrypt(t testing.TB, h *hub, ca *authority) (addr string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/v1/device", h.handler)
	mux.Handle("/v1/device/telemetry", devices.NewUplink(h.handler.(*devices.Handler)))
	s := httptest.NewUnstartedServer(mux)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	own := ca.issue(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*own}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func (a *authority) client(cert *tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return c
}

// tryTLS connects and returns the code of the refusal, "" for none.
func tryTLS(t *testing.T, addr, token string, conf *tls.Config) string {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: conf, HandshakeTimeout: patience}
	ws, resp, err := d.Dial("wss://"+addr+"/v1/device", http.Header{"Authorization": {"Bearer " + token}})
	if err == nil {
		defer ws.Close()
		if _, _, err := ws.ReadMessage(); err != nil { // the welcome; with it come the session tickets
			t.Fatal(err)
		}
		return ""
	}
	if resp == nil {
		t.Fatal(err)
	}
	raw, _ := io.ReadAll(resp.Body)
	var doc struct{ Code, Detail, Hint string }
	if err := json.Unmarshal(raw, &doc); err != nil || resp.StatusCode != http.StatusForbidden || doc.Detail == "" || doc.Hint == "" {
		t.Fatalf("%s %s", resp.Status, raw)
	}
	return doc.Code
}

func TestCertificateIsBoundToTheToken(t *testing.T) {
	bind := func(mode string) func(*options) {
		return func(o *options) {
			o.cfg.Devices.BindCertificate, o.cfg.Devices.ConnectsPerMinute = mode, 0
			o.cfg.Devices.CertificateNames = []string{"cn", "dns", "dns:.plant.example", "uri:urn:device:"}
		}
	}
	ca := newAuthority(t, "devices")
	for _, mode := range []string{configs.BindOff, configs.BindMatch, configs.BindRequire} {
		t.Run(mode, func(t *testing.T) {
			h := startHub(t, bind(mode))
			addr, token := encrypt(t, h, ca), h.device("pump-7")
			for name, c := range map[string]struct {
				cert *tls.Certificate
				good bool
			}{
				"cn":                     {ca.issue(cn("pump-7")), true},
				"dns":                    {ca.issue(dns("other", "pump-7")), true},
				"dns with the suffix":    {ca.issue(dns("pump-7.plant.example")), true},
				"uri":                    {ca.issue(uri("urn:device:pump-7")), true},
				"another's cn":           {ca.issue(cn("pump-8")), false},
				"longer":                 {ca.issue(cn("pump-77")), false},
				"another case":           {ca.issue(cn("Pump-7")), false},
				"dns with another place": {ca.issue(dns("pump-7.evil.example")), false},
				"uri of another kind":    {ca.issue(uri("urn:user:pump-7")), false},
				"uri with more":          {ca.issue(uri("urn:device:pump-7/x")), false},
				"nobody's":               {ca.issue(func(*x509.Certificate) {}), false},
			} {
				want := ""
				if !c.good && mode != configs.BindOff {
					want = "certificate_mismatch"
				}
				if got := tryTLS(t, addr, token, ca.client(c.cert)); got != want {
					t.Errorf("%s: refused with %q, want %q", name, got, want)
				}
			}
			want := ""
			if mode == configs.BindRequire {
				want = "certificate_missing"
			}
			if got := tryTLS(t, addr, token, ca.client(nil)); got != want {
				t.Errorf("no certificate: refused with %q, want %q", got, want)
			}
		})
	}
}

// TestCertificateOfAPost holds the other way in to the same rule.
func TestCertificateOfAPost(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.BindCertificate = configs.BindRequire })
	ca := newAuthority(t, "devices")
	addr, token := encrypt(t, h, ca), h.device("pump-7")
	for name, want := range map[string]int{"pump-7": http.StatusNoContent, "pump-8": http.StatusForbidden} {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: ca.client(ca.issue(cn(name))), DisableKeepAlives: true}, Timeout: patience}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+addr+"/v1/device/telemetry", strings.NewReader(point(1)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("certificate of %s: %s", name, resp.Status)
		}
	}
}

// TestResumptionKeepsTheBinding resumes with a ticket instead of a certificate.
func TestResumptionKeepsTheBinding(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			h := startHub(t, func(o *options) {
				o.cfg.Devices.BindCertificate, o.cfg.Devices.ConnectsPerMinute = configs.BindRequire, 0
			})
			ca := newAuthority(t, "devices")
			addr := encrypt(t, h, ca)
			mine, other := h.device("pump-7"), h.device("pump-8")
			conf := ca.client(ca.issue(cn("pump-7")))
			conf.ClientSessionCache, conf.MaxVersion = tls.NewLRUClientSessionCache(4), version
			resumed := false
			conf.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
			if got := tryTLS(t, addr, mine, conf); got != "" || resumed {
				t.Fatalf("first: refused with %q, resumed %v", got, resumed)
			}
			conf.Certificates = nil // only the ticket says who it is
			if got := tryTLS(t, addr, mine, conf); got != "" || !resumed {
				t.Errorf("again: refused with %q, resumed %v", got, resumed)
			}
			if got := tryTLS(t, addr, other, conf); got != "certificate_mismatch" || !resumed {
				t.Errorf("another's token: refused with %q, resumed %v", got, resumed)
			}
		})
	}
}
