package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fairlead-hub/fairlead/internal/durable"
)

const (
	keySuffix   = ".pem"
	maxHubKeys  = 64
	reloadEvery = 10 * time.Second
)

// HubKeys are the hub's own signing keys: one Ed25519 key in PKCS #8 PEM per file of a directory, the file's name
// being its kid. The newest file mints, all of them verify. Rotation is adding a file; revocation is removing one.
type HubKeys struct {
	dir string
	log *slog.Logger
	set atomic.Pointer[hubSet]
}

type hubSet struct {
	byKID  map[string]hubKey
	newest hubKey
}

type hubKey struct {
	public  *PublicKey
	private ed25519.PrivateKey
	made    time.Time
}

// OpenHubKeys reads the keys of dir. If there is none it makes the first one.
func OpenHubKeys(dir string, log *slog.Logger) (*HubKeys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("hub keys: %w", err)
	}
	k := &HubKeys{dir: dir, log: log}
	set, err := k.read()
	if err != nil {
		return nil, err
	}
	if len(set.byKID) == 0 {
		if _, err := k.Add(time.Now()); err != nil {
			return nil, err
		}
		return k, nil
	}
	k.set.Store(set)
	return k, nil
}

// Add makes one more key, which mints from now on, and returns its kid.
func (k *HubKeys) Add(now time.Time) (string, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make hub key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("make hub key: %w", err)
	}
	kid := "hub-" + now.UTC().Format("20060102-150405.000")
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := durable.WriteFile(filepath.Join(k.dir, kid+keySuffix), text, 0o600); err != nil {
		return "", fmt.Errorf("make hub key: %w", err)
	}
	return kid, k.Reload()
}

// Reload reads the directory again. On an error the keys stay as they were.
func (k *HubKeys) Reload() error {
	set, err := k.read()
	if err != nil {
		return err
	}
	if len(set.byKID) == 0 {
		return fmt.Errorf("hub keys: no *%s file in %s; put one back, or restart the hub to make a new one", keySuffix, k.dir)
	}
	k.set.Store(set)
	return nil
}

// Run reloads the keys while files come and go, until ctx ends.
func (k *HubKeys) Run(ctx context.Context) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := k.Reload()
		if err != nil && !failing {
			k.log.Error("hub keys not reloaded", "err", err)
		}
		failing = err != nil
	}
}

func (k *HubKeys) read() (*hubSet, error) {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, fmt.Errorf("hub keys: %w", err)
	}
	set := &hubSet{byKID: make(map[string]hubKey)}
	old := k.set.Load()
	var all []hubKey
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), keySuffix) {
			continue
		}
		key, err := readKey(k.dir, e)
		if err != nil {
			return nil, fmt.Errorf("hub key %s: %w", e.Name(), err)
		}
		if old != nil {
			key = old.keep(key)
		}
		all = append(all, key)
		set.byKID[key.public.kid] = key
	}
	if len(all) > maxHubKeys {
		return nil, fmt.Errorf("hub keys: %d files in %s, at most %d are read", len(all), k.dir, maxHubKeys)
	}
	if len(all) > 0 {
		set.newest = slices.MaxFunc(all, func(a, b hubKey) int {
			return cmp.Or(a.made.Compare(b.made), strings.Compare(a.public.kid, b.public.kid))
		})
	}
	return set, nil
}

// keep returns the key as it was read before if it is the same, so that tokens verified with it stay verified.
func (s *hubSet) keep(key hubKey) hubKey {
	if was, ok := s.byKID[key.public.kid]; ok && bytes.Equal(was.private, key.private) {
		key.public = was.public
	}
	return key
}

func readKey(dir string, e fs.DirEntry) (hubKey, error) {
	info, err := e.Info()
	if err != nil {
		return hubKey{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return hubKey{}, fmt.Errorf("mode is %#o: others can read it; chmod 600, and make a new key if they did", info.Mode().Perm())
	}
	text, err := os.ReadFile(filepath.Join(dir, e.Name()))
	if err != nil {
		return hubKey{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return hubKey{}, errors.New("not a PKCS #8 PEM file")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return hubKey{}, err
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return hubKey{}, fmt.Errorf("holds a %T, want an Ed25519 key", parsed)
	}
	public, err := NewPublicKey(strings.TrimSuffix(e.Name(), keySuffix), private.Public())
	if err != nil {
		return hubKey{}, err
	}
	return hubKey{public: public, private: private, made: info.ModTime()}, nil
}

// Key returns the hub key that tokens call kid.
func (k *HubKeys) Key(kid string) (*PublicKey, bool) {
	key, ok := k.set.Load().byKID[kid]
	return key.public, ok
}
