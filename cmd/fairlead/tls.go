package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/durable"
)

// The files of mode auto below data_dir/tls.
const (
	caFile   = "ca.pem"
	certFile = "hub.pem"
	keyFile  = "hub-key.pem"
)

// How long self-made certificates are good. The key of the CA is thrown away once it has signed the hub's: whoever steals
// the data directory cannot make more.
const (
	selfSignedFor = 10 * 365 * 24 * time.Hour
	clockMargin   = 24 * time.Hour
)

// serverTLS returns how the hub's listener is encrypted (nil: not at all) and the CA that clients must trust ("" when it
// is one that they know).
func serverTLS(c configs.TLS, dir string, log *slog.Logger) (conf *tls.Config, ca string, err error) {
	switch c.Mode {
	case configs.TLSOff:
		return nil, "", nil
	case configs.TLSFiles:
		conf, err = certificateFiles(c.CertFile, c.KeyFile, log)
		return conf, "", err
	}
	dir = filepath.Join(dir, "tls")
	ca = filepath.Join(dir, caFile)
	if err := selfSigned(dir, c.Hosts); err != nil {
		return nil, "", fmt.Errorf("make a certificate: %w", err)
	}
	conf, err = certificateFiles(filepath.Join(dir, certFile), filepath.Join(dir, keyFile), log)
	return conf, ca, err
}

// reloading serves a certificate and reads it again when its file changes.
type reloading struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	loaded  *tls.Certificate // guarded by mu
	changed time.Time        // of the file; guarded by mu
	checked time.Time        // guarded by mu
}

// checkEvery bounds how often a handshake looks at the file.
const checkEvery = time.Second

func certificateFiles(cert, key string, log *slog.Logger) (*tls.Config, error) {
	r := &reloading{cert: cert, key: key, log: log}
	if _, err := r.get(nil); err != nil {
		return nil, fmt.Errorf("tls.cert_file, tls.key_file: %w", err)
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: r.get,
		NextProtos:     []string{"http/1.1"}, // WebSockets upgrade from it [RFC6455]
	}, nil
}

func (r *reloading) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded != nil && time.Since(r.checked) < checkEvery {
		return r.loaded, nil
	}
	r.checked = time.Now()
	info, err := os.Stat(r.cert)
	if err == nil && r.loaded != nil && info.ModTime().Equal(r.changed) {
		return r.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(r.cert, r.key)
	if err != nil {
		if r.loaded != nil {
			r.log.Error("new certificate is not usable; the old one stays", "err", err)
			return r.loaded, nil
		}
		return nil, err
	}
	if r.loaded != nil {
		r.log.Info("certificate read again", "file", r.cert)
	}
	r.loaded, r.changed = &pair, info.ModTime()
	return r.loaded, nil
}

// selfSigned makes a CA and a certificate for hosts, unless dir has one for them.
func selfSigned(dir string, hosts []string) error {
	if covers(filepath.Join(dir, certFile), hosts) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Fairlead hub CA"},
		NotBefore: now.Add(-clockMargin), NotAfter: now.Add(selfSignedFor),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Fairlead hub"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(dir, keyFile), 0o600, block("PRIVATE KEY", keyDER)),
		writePEM(filepath.Join(dir, certFile), 0o644, block("CERTIFICATE", der), block("CERTIFICATE", caDER)),
		writePEM(filepath.Join(dir, caFile), 0o644, block("CERTIFICATE", caDER)),
	)
}

// covers reports whether the certificate in file is good for hosts and for another month.
func covers(file string, hosts []string) bool {
	raw, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	b, _ := pem.Decode(raw)
	if b == nil {
		return false
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil || time.Until(cert.NotAfter) < 30*24*time.Hour {
		return false
	}
	for _, h := range hosts {
		if cert.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}

func block(kind string, der []byte) *pem.Block { return &pem.Block{Type: kind, Bytes: der} }

func writePEM(file string, mode fs.FileMode, blocks ...*pem.Block) error {
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(b)...)
	}
	return durable.WriteFile(file, out, mode)
}
