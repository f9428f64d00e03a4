package api

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/internal/durable"
)

// Keys are the hub's signing keys for operator tokens: PKCS #8 PEM files with Ed25519 keys, one a file, whose name
// without .pem is the kid. The newest file signs, all verify; a key is retired by removing its file.
type Keys struct {
	dir string

	mu     sync.RWMutex // guards all below
	byKID  map[string]signingKey
	signs  string
	looked time.Time // when a token last had the directory read
}

type signingKey struct {
	ed25519.PrivateKey
	made time.Time
}

const (
	keyFileSuffix = ".pem"
	maxHubKeys    = 64
	// lookEvery bounds how often a token with a kid that is not known has the directory read: another node may have
	// made the key a moment ago. Removed keys are found by the sweep.
	lookEvery = time.Second
)

// OpenKeys reads the keys in dir. If there is none it makes the directory and one key.
func OpenKeys(dir string) (*Keys, error) {
	k := &Keys{dir: dir}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	if len(k.byKID) > 0 {
		return k, nil
	}
	_, err := k.Rotate()
	return k, err
}

// Reload reads the directory again. On an error the keys stay as they were.
func (k *Keys) Reload() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reloadLocked()
}

func (k *Keys) reloadLocked() error {
	names, err := filepath.Glob(filepath.Join(k.dir, "*"+keyFileSuffix))
	if err != nil {
		return fmt.Errorf("operator keys in %s: %w", k.dir, err)
	}
	if len(names) == 0 && len(k.byKID) > 0 {
		return fmt.Errorf("operator keys: none left in %s; put one back, or restart the hub to make a new one", k.dir)
	}
	if len(names) > maxHubKeys {
		return fmt.Errorf("operator keys: %d files in %s, at most %d are read", len(names), k.dir, maxHubKeys)
	}
	sort.Strings(names)
	byKID, signs := make(map[string]signingKey, len(names)), ""
	for _, name := range names {
		key, err := readKey(name)
		if err != nil {
			return fmt.Errorf("operator key %s: %w", name, err)
		}
		kid := strings.TrimSuffix(filepath.Base(name), keyFileSuffix)
		if !validKID(kid) {
			return fmt.Errorf("operator key %s: the name is the kid, use 1-64 of A-Z a-z 0-9 _ -", name)
		}
		byKID[kid] = key
		if signs == "" || !key.made.Before(byKID[signs].made) {
			signs = kid
		}
	}
	k.byKID, k.signs = byKID, signs
	return nil
}

// Rotate makes a key that signs from now on. What the others signed stays good.
func (k *Keys) Rotate() (HubKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.byKID) >= maxHubKeys {
		return HubKey{}, ErrTooManyHubKeys
	}
	kid, err := makeKey(k.dir)
	if err == nil {
		err = k.reloadLocked()
	}
	if err != nil {
		return HubKey{}, fmt.Errorf("make an operator key in %s: %w", k.dir, err)
	}
	return k.hubKeyLocked(kid), nil
}

// Remove takes a key away: tokens that it signed are refused from now on.
func (k *Keys) Remove(kid string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.byKID[kid]; !ok {
		return ErrHubKeyNotFound
	}
	if kid == k.signs {
		return ErrHubKeyMints
	}
	if err := os.Remove(filepath.Join(k.dir, kid+keyFileSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove operator key %s: %w", kid, err)
	}
	return k.reloadLocked()
}

// List returns the keys, newest first.
func (k *Keys) List() []HubKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make([]HubKey, 0, len(k.byKID))
	for kid := range k.byKID {
		out = append(out, k.hubKeyLocked(kid))
	}
	slices.SortFunc(out, func(a, b HubKey) int { return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(b.KID, a.KID)) })
	return out
}

func (k *Keys) hubKeyLocked(kid string) HubKey {
	return HubKey{KID: kid, Kind: OperatorKeys, Alg: "EdDSA", Created: k.byKID[kid].made.UnixMilli(), Mints: kid == k.signs}
}

// signing is the key that signs, and its kid.
func (k *Keys) signing() (string, ed25519.PrivateKey) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.signs, k.byKID[k.signs].PrivateKey
}

// key finds a key by the kid of a token.
func (k *Keys) key(kid string) (ed25519.PrivateKey, bool) {
	k.mu.RLock()
	key, ok := k.byKID[kid]
	k.mu.RUnlock()
	if ok {
		return key.PrivateKey, true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.looked) >= lookEvery {
		k.looked = now
		_ = k.reloadLocked() // the sweep tells the log of what is wrong
	}
	key, ok = k.byKID[kid]
	return key.PrivateKey, ok
}

func validKID(kid string) bool {
	if kid == "" || len(kid) > 64 {
		return false
	}
	for _, c := range []byte(kid) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func readKey(name string) (signingKey, error) {
	info, err := os.Stat(name)
	if err != nil {
		return signingKey{}, err
	}
	key, err := privateKey(name, info)
	return signingKey{key, info.ModTime()}, err
}

func privateKey(name string, info fs.FileInfo) (ed25519.PrivateKey, error) {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("mode %04o lets others read it; chmod 600", mode)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("want a PEM block PRIVATE KEY (PKCS #8)")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%T, want an Ed25519 key", parsed)
	}
	return key, nil
}

func makeKey(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	suffix := make([]byte, 4)
	if _, err := rand.Read(suffix); err != nil {
		return "", err
	}
	kid := "operator-" + time.Now().UTC().Format("20060102-150405") + "-" + hex.EncodeToString(suffix)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return kid, durable.WriteFile(filepath.Join(dir, kid+keyFileSuffix), text, 0o600)
}
