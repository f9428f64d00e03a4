package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const acmeHost = "hub.fairlead.test"

// directory is Pebble, Let's Encrypt's own directory for tests, with a DNS server that sends every name to loopback.
type directory struct {
	url, ca string
	root    []byte // PEM
	hub     string // the address that it checks names at, by TLS
	http    string // and by HTTP
}

func newDirectory(t *testing.T) *directory {
	t.Helper()
	ca := newAuthority(t, "pebble's own")
	cert, key := ca.issue("pebble")
	api, manage, dns, challenges := freePort(t), freePort(t), freePort(t), freePort(t)
	d := &directory{url: "https://" + api + "/dir", ca: ca.file, hub: freePort(t), http: freePort(t)}
	start(t, "pebble-challtestsrv", exec.Command(goTool(t, "pebble-challtestsrv"), "-dnsserver", dns, "-management", challenges,
		"-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""))
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": api, "managementListenAddress": manage, "certificate": cert, "privateKey": key,
		"tlsPort": portOf(t, d.hub), "httpPort": portOf(t, d.http), "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	pebble := exec.Command(goTool(t, "pebble"), "-config", file, "-dnsserver", dns, "-strict")
	pebble.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_VA_ALWAYS_VALID=0")
	p := start(t, "pebble", pebble)
	conf := ready{CAFile: ca.file}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf.trust(t), DisableKeepAlives: true}, Timeout: waitBound}
	until(t, "pebble serves", func() bool {
		if p.ended() {
			t.Fatalf("pebble ended at its start with code %d", p.wait())
		}
		resp, err := client.Get("https://" + manage + "/roots/0")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		d.root, err = io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return d
}

// goTool finds a program that make setup has installed with go install.
func goTool(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	gopath, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(strings.TrimSpace(string(gopath)), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is neither in PATH nor in $(go env GOPATH)/bin: make check installs it", name)
	}
	return path
}

// freePort is a loopback address that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func portOf(t *testing.T, addr string) (port int) {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

// served is the certificate that a hub serves, verified by the directory's root.
func (d *directory) served(t *testing.T, addr, name string) (*x509.Certificate, error) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(d.root) {
		t.Fatalf("root of pebble: %s", d.root)
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func (d *directory) config(more string) string {
	return loopback + fmt.Sprintf("tls: {mode: acme, acme: {hosts: [%s], email: ops@fairlead.test, directory_url: %q, ca_file: %q%s}}\n", acmeHost, d.url, d.ca, more)
}

// readiness asks the admin listener.
func (h *hub) readiness() (status int, parts map[string]string) {
	h.t.Helper()
	resp, err := http.Get(h.AdminURL + "/readyz")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&parts); err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, parts
}

// serveAt starts a hub at an address that it keeps.
func serveAt(t *testing.T, addr, config string) *hub {
	t.Helper()
	h := &hub{t: t, dir: t.TempDir(), listen: addr}
	h.configure(config)
	h.start()
	return h
}

// TestACME has a certificate issued to a hub that the directory connects to, by each kind of proof, and keeps it over a
// restart.
func TestACME(t *testing.T) {
	t.Parallel()
	for _, proof := range []string{"tls-alpn-01", "tls-alpn-01 where clients show certificates", "http-01"} {
		t.Run(proof, func(t *testing.T) {
			t.Parallel()
			d := newDirectory(t)
			addr, config := d.hub, d.config("")
			switch proof {
			case "http-01":
				addr, config = freePort(t), d.config(", http_listen: \""+d.http+"\"") // nothing is where TLS would be checked
			case "tls-alpn-01":
			default:
				ca := newAuthority(t, "devices")
				config = strings.TrimSuffix(config, "}\n") + fmt.Sprintf(", client_auth: optional, client_ca_file: %q}\n", ca.file)
			}
			h := serveAt(t, addr, config)
			if !strings.HasPrefix(h.URL, "https://"+acmeHost+":") {
				t.Errorf("url %s", h.URL)
			}
			var first *x509.Certificate
			until(t, "a certificate is served", func() bool {
				var err error
				first, err = d.served(t, addr, acmeHost)
				return err == nil
			})
			until(t, "the hub is ready", func() bool { status, _ := h.readiness(); return status == http.StatusOK })
			if _, err := d.served(t, addr, "other.fairlead.test"); err == nil {
				t.Error("a name that is not the hub's has a certificate")
			}
			h.stop()
			// Again without the directory: the certificate was kept.
			h.configure(strings.Replace(config, d.url, "https://"+freePort(t)+"/dir", 1))
			h.listen = addr
			h.start()
			again, err := d.served(t, addr, acmeHost)
			if err != nil || again.SerialNumber.Cmp(first.SerialNumber) != 0 {
				t.Errorf("after a restart: %v, %v", again, err)
			}
			if status, parts := h.readiness(); status != http.StatusOK || parts["certificate"] != "ok" {
				t.Errorf("after a restart: %d %v", status, parts)
			}
			h.stop()
		})
	}
}

// TestACMEThatFails: the hub runs, serves what needs no certificate, and says what is wrong.
func TestACMEThatFails(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	for name, c := range map[string]struct{ config, said string }{
		"no directory":    {strings.Replace(d.config(""), d.url, "https://"+freePort(t)+"/dir", 1), "connection refused"},
		"another's names": {d.config(""), acmeHost}, // the directory checks at d.hub, and this hub is elsewhere
	} {
		h := serveAt(t, "127.0.0.1:0", c.config)
		until(t, name+": the log tells", func() bool { return strings.Contains(h.stderr.String(), "no certificate: clients cannot connect") })
		if !strings.Contains(h.stderr.String(), c.said) {
			t.Errorf("%s: %s", name, h.stderr.String())
		}
		status, parts := h.readiness()
		if status != http.StatusServiceUnavailable || !strings.Contains(parts["certificate"], acmeHost+": ") || parts["bus"] != "ok" {
			t.Errorf("%s: %d %v", name, status, parts)
		}
		h.stop()
	}
}
