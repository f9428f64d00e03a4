package api

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/internal/durable"
)

// Keys are the hub's signing keys for operator tokens: PKCS #8 PEM files with Ed25519 keys, one a file, whose name
// without .pem is the kid. The last name in order signs, all verify; a key is retired by removing its file.
type Keys struct {
	byKID   map[string]ed25519.PrivateKey
	current string
}

const keyFileSuffix = ".pem"

// OpenKeys reads the keys in dir. If there is none it makes the directory and one key.
func OpenKeys(dir string) (*Keys, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+keyFileSuffix))
	if err != nil {
		return nil, fmt.Errorf("operator keys in %s: %w", dir, err)
	}
	if len(names) == 0 {
		name, err := makeKey(dir)
		if err != nil {
			return nil, fmt.Errorf("make an operator key in %s: %w", dir, err)
		}
		names = []string{name}
	}
	sort.Strings(names)
	k := &Keys{byKID: make(map[string]ed25519.PrivateKey, len(names))}
	for _, name := range names {
		key, err := readKey(name)
		if err != nil {
			return nil, fmt.Errorf("operator key %s: %w", name, err)
		}
		k.current = strings.TrimSuffix(filepath.Base(name), keyFileSuffix)
		if !validKID(k.current) {
			return nil, fmt.Errorf("operator key %s: the name is the kid, use 1-64 of A-Z a-z 0-9 _ -", name)
		}
		k.byKID[k.current] = key
	}
	return k, nil
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

func readKey(name string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
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
	kid := "operator-" + time.Now().UTC().Format("20060102") + "-" + hex.EncodeToString(suffix)
	name := filepath.Join(dir, kid+keyFileSuffix)
	return name, durable.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
