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
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-hub/fairlead/internal/durable"
)

const (
	keySuffix   = ".pem"
	maxHubKeys  = 64
	reloadEvery = 10 * time.Second
	// lookEvery bounds how often a token with a kid that is not known has the directory read: another node may have
	// made the key a moment ago.
	lookEvery = time.Second
)

// ErrNoKey says that the hub has no key of that kid.
var ErrNoKey = errors.New("no such key")

// ErrMints says that a key cannot go, because it is the one that mints.
var ErrMints = errors.New("this key mints; rotate first")

// HubKeys are the hub's own signing keys: one Ed25519 key in PKCS #8 PEM per file of a directory, the file's name
// being its kid. The newest file mints, all of them verify. Rotation is adding a file; revocation is removing one.
type HubKeys struct {
	dir string
	log *slog.Logger
	set atomic.Pointer[hubSet]

	mu     sync.Mutex // guards all below; held while the directory is read or changed
	looked time.Time  // when a token last had the directory read
	gone   []func()
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
	k.mu.Lock()
	full := k.set.Load() != nil && len(k.set.Load().byKID) >= maxHubKeys
	k.mu.Unlock()
	if full {
		return "", fmt.Errorf("make hub key: there are %d keys, as many as there may be; remove one that no token in use was minted with", maxHubKeys)
	}
	kid := "hub-" + now.UTC().Format("20060102-150405.000")
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := durable.WriteFile(filepath.Join(k.dir, kid+keySuffix), text, 0o600); err != nil {
		return "", fmt.Errorf("make hub key: %w", err)
	}
	return kid, k.Reload()
}

// Remove takes a key away for good: what it minted is not good any more, on any node within seconds. The key that mints
// stays; ErrMints says so.
func (k *HubKeys) Remove(kid string) error {
	set := k.set.Load()
	if _, ok := set.byKID[kid]; !ok {
		return fmt.Errorf("remove hub key %s: %w", kid, ErrNoKey)
	}
	if set.newest.public.kid == kid {
		return fmt.Errorf("remove hub key %s: %w", kid, ErrMints)
	}
	err := durable.Remove(filepath.Join(k.dir, kid+keySuffix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // another node may have been first
		return fmt.Errorf("remove hub key %s: %w", kid, err)
	}
	for _, fn := range k.drop(kid) {
		fn()
	}
	return nil
}

// drop forgets a key, also if the directory cannot be read because of another file, and returns who must hear of it.
func (k *HubKeys) drop(kid string) (told []func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set := *k.set.Load()
	set.byKID = maps.Clone(set.byKID)
	delete(set.byKID, kid)
	k.set.Store(&set)
	return slices.Clone(k.gone)
}

// HubKey is one of the hub's keys, without what is secret.
type HubKey struct {
	KID, Alg string
	Made     time.Time
	Mints    bool
}

// List returns the keys, newest first.
func (k *HubKeys) List() []HubKey {
	set := k.set.Load()
	out := make([]HubKey, 0, len(set.byKID))
	for kid, key := range set.byKID {
		out = append(out, HubKey{KID: kid, Alg: key.public.alg, Made: key.made, Mints: kid == set.newest.public.kid})
	}
	slices.SortFunc(out, func(a, b HubKey) int { return cmp.Or(b.Made.Compare(a.Made), strings.Compare(b.KID, a.KID)) })
	return out
}

// Reload reads the directory again. On an error the keys stay as they were.
func (k *HubKeys) Reload() error {
	told, err := k.reload()
	for _, fn := range told {
		fn()
	}
	return err
}

// reload returns who must hear that a key is gone.
func (k *HubKeys) reload() (told []func(), err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.set.Load()
	set, err := k.read()
	if err != nil {
		return nil, err
	}
	if len(set.byKID) == 0 {
		return nil, fmt.Errorf("hub keys: no *%s file in %s; put one back, or restart the hub to make a new one", keySuffix, k.dir)
	}
	k.set.Store(set)
	if old == nil {
		return nil, nil
	}
	for kid, key := range old.byKID {
		if set.byKID[kid].public != key.public {
			return slices.Clone(k.gone), nil
		}
	}
	return nil, nil
}

func (k *HubKeys) onGone(fn func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = append(k.gone, fn)
}

// find is Key for a token that just came: for a kid that is not known the directory is read again, but seldom.
func (k *HubKeys) find(kid string) (*PublicKey, bool) {
	if key, ok := k.Key(kid); ok {
		return key, true
	}
	k.mu.Lock()
	now := time.Now()
	look := now.Sub(k.looked) >= lookEvery
	if look {
		k.looked = now
	}
	k.mu.Unlock()
	if !look || k.Reload() != nil { // Run tells the log of what is wrong
		return nil, false
	}
	return k.Key(kid)
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
