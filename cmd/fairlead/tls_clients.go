package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/fairlead-hub/fairlead/configs"
)

// clientCAs are the CAs of clients' certificates, read again when their file changes. A resumed session is held against
// those of today too: crypto/tls checks the chain of its ticket anew.
type clientCAs struct {
	file string
	log  *slog.Logger
	base *tls.Config // without a pool

	mu      sync.Mutex
	files   watched     // guarded by mu
	current *tls.Config // guarded by mu
}

// askClients has conf ask clients for certificates.
func askClients(conf *tls.Config, c configs.TLS, log *slog.Logger) error {
	base := conf.Clone()
	base.ClientAuth = tls.VerifyClientCertIfGiven
	if c.ClientAuth == configs.ClientAuthRequire {
		base.ClientAuth = tls.RequireAndVerifyClientCert
	}
	cas := &clientCAs{file: c.ClientCAFile, log: log, base: base, files: watched{files: []string{c.ClientCAFile}}}
	if err := cas.load(); err != nil {
		return fmt.Errorf("tls.client_ca_file: %w", err)
	}
	conf.GetConfigForClient = cas.config
	return nil
}

// config is the configuration of one handshake. A directory that checks the hub's name has no certificate to show.
func (c *clientCAs) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if slices.Equal(hello.SupportedProtos, []string{acmeProtocol}) {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files.changed() {
		if err := c.loadLocked(); err != nil {
			c.log.Error("new CAs of clients are not usable; the old ones stay", "file", c.file, "err", err)
		} else {
			c.log.Info("CAs of clients read again", "file", c.file)
		}
	}
	return c.current, nil
}

func (c *clientCAs) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files.changed()
	return c.loadLocked()
}

func (c *clientCAs) loadLocked() error {
	raw, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return errors.New("holds no certificate")
	}
	conf := c.base.Clone()
	conf.ClientCAs = pool
	c.current = conf
	return nil
}
