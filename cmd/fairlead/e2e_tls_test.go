package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// authority issues certificates into a directory.
type authority struct {
	t    testing.TB
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// issue writes a certificate for a name, which as a server's is for loopback.
func (a *authority) issue(name string, change ...func(*x509.Certificate)) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, c := range change {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+"-key.pem", "PRIVATE KEY", private)
}

// replace puts a file's content in the place of another's, as a renewal does.
func replace(t testing.TB, file, by string) {
	t.Helper()
	raw, err := os.ReadFile(by)
	if err == nil {
		err = os.WriteFile(file+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestClientCertificates runs devices with certificates of their own, and without.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	old, next := newAuthority(t, "devices"), newAuthority(t, "devices of next year")
	cas := filepath.Join(t.TempDir(), "cas.pem")
	replace(t, cas, old.file)
	h := serve(t, loopback[:strings.Index(loopback, "devices:")]+fmt.Sprintf(`
tls: {client_auth: optional, client_ca_file: %q}
devices: {bind_certificate: require, connects_per_minute: 0, drain_for: 500ms}
`, cas))
	// The API works as ever: an operator has no certificate.
	mine, other := h.addDevice(t, "pump-7", "plant-1"), h.addDevice(t, "pump-8", "plant-1")
	cert, key := old.issue("pump-7")
	strangeCert, strangeKey := newAuthority(t, "somebody").issue("pump-7")
	device := func(token string, own ...string) string {
		code, out, said := run(t, exec.Command("/usr/bin/python3", append([]string{filepath.Join(clientsDir, "mtls.py"), h.deviceURL(), h.CAFile, token}, own...)...))
		if code != 0 {
			t.Fatalf("mtls.py: %s", said)
		}
		return strings.TrimSpace(out)
	}
	for name, c := range map[string]struct{ got, want string }{
		"its own":         {device(mine, cert, key), "acked 1"},
		"another's token": {device(other, cert, key), "refused 403"},
		"none":            {device(mine), "refused 403"},
		"a stranger's":    {device(mine, strangeCert, strangeKey), "no TLS"},
	} {
		if c.got != c.want {
			t.Errorf("certificate %s: %s, want %s", name, c.got, c.want)
		}
	}

	// A live device stays when the CA changes; a ticket of the old one is not good any more.
	conf := h.trust(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	resumed := false
	conf.Certificates, conf.ClientSessionCache = []tls.Certificate{pair}, tls.NewLRUClientSessionCache(4)
	conf.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
	connect := func() (*websocket.Conn, error) {
		d := &websocket.Dialer{TLSClientConfig: conf, HandshakeTimeout: waitBound}
		ws, _, err := d.Dial(h.deviceURL(), http.Header{"Authorization": {"Bearer " + mine}})
		if err == nil {
			_, _, err = ws.ReadMessage() // with the welcome come the tickets; a refused certificate shows here at the latest
		}
		return ws, err
	}
	first, err := connect()
	if err != nil || resumed {
		t.Fatal(err, resumed)
	}
	first.Close()
	live, err := connect()
	if err != nil || !resumed {
		t.Fatalf("not resumed: %v", err)
	}
	defer live.Close()
	replace(t, cas, next.file)
	nextCert, nextKey := next.issue("pump-8")
	until(t, "the new CA is known", func() bool { return device(other, nextCert, nextKey) == "acked 1" })
	if got := device(mine, cert, key); got != "no TLS" {
		t.Errorf("certificate of the old CA: %s", got)
	}
	if ws, err := connect(); err == nil {
		ws.Close()
		t.Error("a ticket of the old CA is still good")
	}
	l := &link{t, live}
	l.text(`{"type":"telemetry","seq":1,"fields":{"temp":1}}`)
	l.wantAck(1)

	// A file that holds no CA changes nothing.
	if err := os.WriteFile(cas, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the faulty file is told", func() bool {
		if got := device(other, nextCert, nextKey); got != "acked 1" {
			t.Fatalf("with a faulty file: %s", got)
		}
		return strings.Contains(h.stderr.String(), "new CAs of clients are not usable; the old ones stay")
	})
	h.stop()
}

// TestEveryClientShowsACertificate: with require, also those of the API do.
func TestEveryClientShowsACertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "all")
	h := serve(t, loopback+fmt.Sprintf("tls: {client_auth: require, client_ca_file: %q}\n", ca.file))
	pair, err := tls.LoadX509KeyPair(ca.issue("operator"))
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []bool{true, false} {
		conf := h.trust(t)
		if with {
			conf.Certificates = []tls.Certificate{pair}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}, Timeout: waitBound}
		resp, err := client.Get(h.URL + "/api/openapi.json")
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != with {
			t.Errorf("with a certificate %v: %v", with, err)
		}
	}
}

// TestCertificateIsReadAgain changes the files of a hub at work.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "hubs")
	cert, key := ca.issue("first")
	nextCert, nextKey := ca.issue("second")
	lateCert, lateKey := ca.issue("late", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	h := serve(t, loopback+fmt.Sprintf("tls: {mode: files, cert_file: %q, key_file: %q}\n", cert, key))
	h.CAFile = ca.file
	served := func() string {
		conf := h.trust(t)
		conn, err := tls.Dial("tcp", h.listen, conf)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := served(); got != "first" {
		t.Fatalf("served %q", got)
	}
	live := h.connect(t, "pump-7", h.addDevice(t, "pump-7", "plant-1"), jsonFrames)

	// The key does not fit for as long as only one file is there; both together are taken.
	replace(t, cert, nextCert)
	refused := func(n int) func() bool {
		return func() bool {
			if got := served(); got != "first" && n == 1 || got != "second" && n > 1 {
				t.Fatalf("served %q", got)
			}
			return strings.Count(h.stderr.String(), "new certificate is not usable; the old one stays") >= n
		}
	}
	until(t, "half of a change is told", refused(1))
	replace(t, key, nextKey)
	until(t, "the new certificate is served", func() bool { return served() == "second" })
	live.text(`{"type":"telemetry","seq":1,"fields":{"temp":1}}`)
	live.wantAck(1)

	// Neither what is no certificate nor what has expired is taken.
	if err := os.WriteFile(cert, []byte("-----BEGIN CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "a broken file is told", refused(2))
	replace(t, key, lateKey)
	replace(t, cert, lateCert)
	until(t, "an expired one is told", func() bool {
		return refused(3)() && strings.Contains(h.stderr.String(), "it expired at")
	})

	// TLS below 1.2 is refused.
	conf := h.trust(t)
	conf.MinVersion, conf.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if conn, err := tls.Dial("tcp", h.listen, conf); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is taken")
	}
	h.stop()
}
