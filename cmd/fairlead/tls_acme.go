package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/fairlead-hub/fairlead/configs"
)

// acmeProtocol is what a directory speaks that checks the hub's name on the listener itself [RFC8737].
const acmeProtocol = acme.ALPNProto

// When the directory is asked again. Directories limit failures: Let's Encrypt to five an hour and host.
const (
	acmeFirstRetry = 2 * time.Minute
	acmeLastRetry  = time.Hour
	acmeLook       = time.Hour        // at certificates that are there
	acmeCall       = 15 * time.Second // to the directory
)

// acmeCerts has certificates issued and renewed. Handshakes never ask the directory: they are served what is there, so
// that a fleet that connects cannot use up what the directory allows.
type acmeCerts struct {
	manager *autocert.Manager
	hosts   []string
	http    string // listens there for http-01; "": it does not
	log     *slog.Logger
	calls   *endable

	mu    sync.Mutex
	fault map[string]error // by host: why it has no certificate, guarded by mu; nil: it has one
}

var errNotIssued = errors.New("no certificate has been issued yet")

// newACME finds the certificates of earlier runs in dir.
func newACME(c configs.ACME, dir string, log *slog.Logger) (*acmeCerts, error) {
	calls, err := directoryCalls(c.CAFile)
	if err != nil {
		return nil, err
	}
	hosts := make([]string, len(c.Hosts))
	for i, h := range c.Hosts {
		hosts[i] = strings.ToLower(strings.TrimSuffix(h, "."))
	}
	a := &acmeCerts{hosts: hosts, http: c.HTTPListen, log: log, calls: calls, fault: map[string]error{}}
	a.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(dir), HostPolicy: autocert.HostWhitelist(hosts...), Email: c.Email,
		Client: &acme.Client{DirectoryURL: c.DirectoryURL, HTTPClient: &http.Client{Transport: calls, Timeout: acmeCall}, UserAgent: "fairlead"},
	}
	for _, h := range a.hosts {
		a.fault[h] = errNotIssued
		if a.kept(h) {
			a.obtain(h) // from the cache, without a call
		}
	}
	return a, nil
}

// kept reports whether the cache holds a certificate of the host that is still good.
func (a *acmeCerts) kept(host string) bool {
	rest, err := a.manager.Cache.Get(context.Background(), host)
	for err == nil {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		leaf, err := x509.ParseCertificate(b.Bytes)
		return err == nil && time.Now().Before(leaf.NotAfter) && leaf.VerifyHostname(host) == nil
	}
	return false
}

// get serves a handshake. Every client is served an ECDSA certificate: a second one for RSA alone would be issued and
// renewed for nobody.
func (a *acmeCerts) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{acmeProtocol}) {
		return a.manager.GetCertificate(hello)
	}
	host := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	a.mu.Lock()
	fault, ours := a.fault[host]
	a.mu.Unlock()
	switch {
	case !ours:
		return nil, fmt.Errorf("%q is none of tls.acme.hosts", hello.ServerName)
	case fault != nil:
		return nil, fault
	}
	return a.ask(host)
}

func (a *acmeCerts) ask(host string) (*tls.Certificate, error) {
	return a.manager.GetCertificate(&tls.ClientHelloInfo{
		ServerName: host, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	})
}

// obtain sees to it that a host has a certificate.
func (a *acmeCerts) obtain(host string) {
	cert, err := a.ask(host)
	if err == nil {
		err = valid(cert)
	}
	a.mu.Lock()
	before := a.fault[host]
	a.fault[host] = err
	a.mu.Unlock()
	if err == nil && before != nil {
		a.log.Info("certificate of the directory", "host", host, "not_after", cert.Leaf.NotAfter)
	}
}

// run asks for what is missing until ctx ends. The manager renews by itself what is there.
func (a *acmeCerts) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, a.calls.end)()
	defer a.calls.CloseIdleConnections()
	retry := acmeFirstRetry
	for {
		for _, h := range a.hosts {
			if ctx.Err() == nil {
				a.obtain(h)
			}
		}
		wait := acmeLook
		if err := a.healthy(); err == nil {
			retry = acmeFirstRetry
		} else if ctx.Err() == nil {
			wait, retry = retry, min(2*retry, acmeLastRetry)
			a.log.Error("no certificate: clients cannot connect; tls.acme.hosts must lead to this hub, port 443 to its listener or 80 to tls.acme.http_listen",
				"err", err, "again_in", wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// healthy reports which hosts have no certificate, or nil.
func (a *acmeCerts) healthy() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, h := range a.hosts {
		if err := a.fault[h]; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", h, err))
		}
	}
	return errors.Join(errs...)
}

// stages are what runs beside the listener. state hears of the connections of theirs.
func (a *acmeCerts) stages(listener string, state func(net.Conn, http.ConnState)) ([]stage, error) {
	out := []stage{{name: "acme", run: a.run}}
	if a.http == "" {
		return out, nil
	}
	ln, err := listen("tls.acme.http_listen", a.http)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(listener) // a listener's own address
	answers := a.manager.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.redirect(w, r, port) }))
	challenges := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.Host); err == nil {
			r.Host = host // the manager knows its hosts without a port, which a directory may name
		}
		answers.ServeHTTP(w, r)
	})
	return append([]stage{{name: "acme http", run: serveHTTP(ln, challenges, a.log, nil, state)}}, out...), nil
}

// redirect sends a browser to the listener, by a name that is ours.
func (a *acmeCerts) redirect(w http.ResponseWriter, r *http.Request, port string) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if !slices.Contains(a.hosts, host) || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "use https", http.StatusNotFound)
		return
	}
	if port != "443" {
		host = net.JoinHostPort(host, port)
	}
	http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusFound)
}

// endable carries calls to the directory until it is ended: the manager knows no context that ends with the hub. A call
// that is under way has its own end.
type endable struct {
	*http.Transport
	ended atomic.Bool
}

func (e *endable) end() { e.ended.Store(true) }

// RoundTrip makes one call.
func (e *endable) RoundTrip(r *http.Request) (*http.Response, error) {
	if e.ended.Load() {
		return nil, http.ErrServerClosed
	}
	return e.Transport.RoundTrip(r)
}

func directoryCalls(ca string) (*endable, error) {
	e := &endable{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if ca == "" {
		return e, nil
	}
	raw, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("tls.acme.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("tls.acme.ca_file: %s holds no certificate", ca)
	}
	e.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	return e, nil
}
