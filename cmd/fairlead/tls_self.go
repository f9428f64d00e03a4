package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

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
