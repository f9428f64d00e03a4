package api

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
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
	// static after New
	dir       string
	withdrawn func(kid string) bool // the key was removed, whatever this node's look at the directory says
	gone      func()                // keys are not good any more; it must not block

	mu     sync.RWMutex // guards all below
	byKID  map[string]signingKey
	signs  string
	looked time.Time // when a token last had the directory read
}

type signingKey struct {
	ed25519.PrivateKey
	made   time.Time
	digest string // SHA-256 of the public key
}

// signedBy names the key that signed a token; none if it is empty. It has the key's digest, since a file of the same name
// may come to hold another key.
type signedBy struct {
	KID    string `json:"kid"`
	Digest string `json:"digest"`
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
	k := &Keys{dir: dir, withdrawn: func(string) bool { return false }, gone: func() {}}
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
	lost, err := k.reloadLocked()
	k.mu.Unlock()
	if lost {
		k.gone()
	}
	return err
}

// reloadLocked reports whether a key is not there any more, or is another one.
func (k *Keys) reloadLocked() (lost bool, err error) {
	byKID, signs, err := k.read()
	if err != nil {
		return false, err
	}
	if len(byKID) == 0 && len(k.byKID) > 0 {
		return false, fmt.Errorf("operator keys: none left in %s; put one back, or restart the hub to make a new one", k.dir)
	}
	for kid, key := range k.byKID {
		lost = lost || byKID[kid].digest != key.digest
	}
	k.byKID, k.signs = byKID, signs
	return lost, nil
}

func (k *Keys) read() (byKID map[string]signingKey, signs string, err error) {
	names, err := filepath.Glob(filepath.Join(k.dir, "*"+keyFileSuffix))
	if err != nil {
		return nil, "", fmt.Errorf("operator keys in %s: %w", k.dir, err)
	}
	if len(names) > maxHubKeys {
		return nil, "", fmt.Errorf("operator keys: %d files in %s, at most %d are read", len(names), k.dir, maxHubKeys)
	}
	sort.Strings(names)
	byKID = make(map[string]signingKey, len(names))
	for _, name := range names {
		kid := strings.TrimSuffix(filepath.Base(name), keyFileSuffix)
		if !validKID(kid) {
			return nil, "", fmt.Errorf("operator key %s: the name is the kid, use 1-64 of A-Z a-z 0-9 _ -", name)
		}
		if k.withdrawn(kid) {
			continue
		}
		key, err := readKey(name)
		if err != nil {
			return nil, "", fmt.Errorf("operator key %s: %w", name, err)
		}
		byKID[kid] = key
		if signs == "" || !key.made.Before(byKID[signs].made) {
			signs = kid
		}
	}
	return byKID, signs, nil
}

// Rotate makes a key that signs from now on. What the others signed stays good.
func (k *Keys) Rotate() (HubKey, error) {
	k.mu.Lock()
	made, lost, err := k.rotateLocked()
	k.mu.Unlock()
	if lost {
		k.gone()
	}
	return made, err
}

func (k *Keys) rotateLocked() (made HubKey, lost bool, err error) {
	if len(k.byKID) >= maxHubKeys {
		return HubKey{}, false, ErrTooManyHubKeys
	}
	kid, err := makeKey(k.dir)
	if err == nil {
		lost, err = k.reloadLocked()
	}
	if err != nil {
		return HubKey{}, false, fmt.Errorf("make an operator key in %s: %w", k.dir, err)
	}
	return k.hubKeyLocked(kid), lost, nil
}

// Remove takes a key away: what it signed, and sessions that were opened with that, are refused from now on.
func (k *Keys) Remove(kid string) error {
	k.mu.Lock()
	err := k.removeLocked(kid)
	k.mu.Unlock()
	if err == nil {
		k.gone()
	}
	return err
}

func (k *Keys) removeLocked(kid string) error {
	if _, ok := k.byKID[kid]; !ok {
		return ErrHubKeyNotFound
	}
	if kid == k.signs {
		return ErrHubKeyMints
	}
	if err := durable.Remove(filepath.Join(k.dir, kid+keyFileSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove operator key %s: %w", kid, err)
	}
	delete(k.byKID, kid) // also if the directory cannot be read because of another file
	return nil
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
func (k *Keys) key(kid string) (signingKey, bool) {
	if k.withdrawn(kid) {
		return signingKey{}, false
	}
	k.mu.RLock()
	key, ok := k.byKID[kid]
	k.mu.RUnlock()
	if ok {
		return key, true
	}
	lost := false
	k.mu.Lock()
	if now := time.Now(); now.Sub(k.looked) >= lookEvery {
		k.looked = now
		lost, _ = k.reloadLocked() // the sweep tells the log of what is wrong
	}
	key, ok = k.byKID[kid]
	k.mu.Unlock()
	if lost {
		k.gone()
	}
	return key, ok
}

// holds reports whether the key that signed is still one of the hub's.
func (k *Keys) holds(s signedBy) bool {
	key, ok := k.key(s.KID)
	return ok && key.digest == s.Digest
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
	if err != nil {
		return signingKey{}, err
	}
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return signingKey{key, info.ModTime(), hex.EncodeToString(sum[:])}, nil
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
