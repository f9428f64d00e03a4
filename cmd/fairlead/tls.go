package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/fairlead-hub/fairlead/configs"
)

// encryption is how the hub's own listener is encrypted.
type encryption struct {
	conf *tls.Config // nil: not at all
	ca   string      // file with the CA that clients must trust; "" when they know it
	acme *acmeCerts  // nil: the certificate is not from a directory
}

// serverTLS opens what the configuration says; dir is the data directory.
func serverTLS(c configs.TLS, dir string, log *slog.Logger) (e encryption, err error) {
	dir = filepath.Join(dir, "tls")
	switch c.Mode {
	case configs.TLSOff:
		return e, nil
	case configs.TLSFiles:
		e.conf, err = certificateFiles(c.CertFile, c.KeyFile, log)
	case configs.TLSACME:
		if e.acme, err = newACME(c.ACME, filepath.Join(dir, "acme"), log); err == nil {
			e.conf = listenerTLS(e.acme.get, acmeProtocol)
		}
	default:
		e.ca = filepath.Join(dir, caFile)
		if err := selfSigned(dir, c.Hosts); err != nil {
			return e, fmt.Errorf("make a certificate: %w", err)
		}
		e.conf, err = certificateFiles(filepath.Join(dir, certFile), filepath.Join(dir, keyFile), log)
	}
	if err == nil && c.ClientAuth != configs.ClientAuthOff {
		err = askClients(e.conf, c, log)
	}
	return e, err
}

// listenerTLS is what all modes have in common. Session tickets are on, as they are unless switched off: a fleet that
// comes back resumes.
func listenerTLS(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), more ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: get,
		NextProtos:     append([]string{"http/1.1"}, more...), // WebSockets upgrade from it [RFC6455]
	}
}

// address is where clients connect: by the name that the certificate is for, if it is not for the listener's address.
func (e *encryption) address(listener string) string {
	_, port, err := net.SplitHostPort(listener)
	if e.acme == nil || err != nil {
		return listener
	}
	return net.JoinHostPort(e.acme.hosts[0], port)
}
