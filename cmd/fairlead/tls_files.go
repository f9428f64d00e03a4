package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkEvery bounds how often handshakes look at files.
const checkEvery = time.Second

// watched says whether files have changed. It is for one goroutine at a time.
type watched struct {
	files   []string
	checked time.Time
	seen    string
}

// changed reports whether the files are others than at the last call that said so. A file that is away is one that has
// changed.
func (w *watched) changed() bool {
	if w.seen != "" && time.Since(w.checked) < checkEvery {
		return false
	}
	w.checked = time.Now()
	now := ""
	for _, f := range w.files {
		info, err := os.Stat(f)
		if err != nil {
			now += "away;"
			continue
		}
		now += fmt.Sprint(info.ModTime().UnixNano(), info.Size(), ";")
	}
	if now == w.seen {
		return false
	}
	w.seen = now
	return true
}

// reloading serves a certificate and reads it again when its files change.
type reloading struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	files  watched          // guarded by mu
	loaded *tls.Certificate // guarded by mu
}

func certificateFiles(cert, key string, log *slog.Logger) (*tls.Config, error) {
	r := &reloading{cert: cert, key: key, log: log, files: watched{files: []string{cert, key}}}
	if _, err := r.get(nil); err != nil {
		return nil, fmt.Errorf("tls.cert_file, tls.key_file: %w", err)
	}
	if err := valid(r.loaded); err != nil {
		log.Error("clients will refuse the hub's certificate", "file", cert, "err", err)
	}
	return listenerTLS(r.get), nil
}

// get returns the certificate. New connections get a new one; those that stand keep theirs.
func (r *reloading) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.files.changed() {
		return r.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(r.cert, r.key)
	if r.loaded == nil {
		if err == nil {
			r.loaded = &pair
		} else {
			r.files.seen = "" // look again at the next
		}
		return r.loaded, err
	}
	if err == nil && valid(r.loaded) == nil {
		err = valid(&pair)
	}
	if err != nil {
		r.log.Error("new certificate is not usable; the old one stays", "file", r.cert, "err", err)
		return r.loaded, nil
	}
	r.log.Info("certificate read again", "file", r.cert, "not_after", pair.Leaf.NotAfter)
	r.loaded = &pair
	return r.loaded, nil
}

// valid reports why a certificate is not good now.
func valid(c *tls.Certificate) error {
	switch now := time.Now(); {
	case now.After(c.Leaf.NotAfter):
		return fmt.Errorf("it expired at %s", c.Leaf.NotAfter.Format(time.RFC3339))
	case now.Before(c.Leaf.NotBefore):
		return fmt.Errorf("it is not good before %s", c.Leaf.NotBefore.Format(time.RFC3339))
	}
	return nil
}
