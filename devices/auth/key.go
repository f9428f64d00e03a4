package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// The algorithms a device token may have. HS256 is not among them: who can check such a token can also make it.
const (
	EdDSA = "EdDSA"
	ES256 = "ES256"
	RS256 = "RS256"
)

// RSA keys below the least are weak, above the most they are a way to keep the hub busy.
const (
	minRSABits = 2048
	maxRSABits = 4096
)

// PublicKey verifies tokens of one algorithm: the key fixes it, never the token.
type PublicKey struct {
	kid    string
	alg    string
	method jwt.SigningMethod
	key    crypto.PublicKey
}

// KID is the name under which tokens refer to the key.
func (k *PublicKey) KID() string { return k.kid }

// Alg is the one algorithm the key is for.
func (k *PublicKey) Alg() string { return k.alg }

// NewPublicKey checks that key is strong enough and of a supported kind. An empty kid becomes the key's thumbprint.
func NewPublicKey(kid string, key crypto.PublicKey) (*PublicKey, error) {
	return newPublicKey(kid, key, CheckKID)
}

func newPublicKey(kid string, key crypto.PublicKey, check func(kid string) error) (*PublicKey, error) {
	k := &PublicKey{kid: kid, key: key}
	switch p := key.(type) {
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("ed25519 key has %d bytes, want %d", len(p), ed25519.PublicKeySize)
		}
		k.alg, k.method = EdDSA, jwt.SigningMethodEdDSA
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return nil, fmt.Errorf("EC key is on curve %s, want P-256", p.Curve.Params().Name)
		}
		if _, err := p.ECDH(); err != nil {
			return nil, fmt.Errorf("EC key: %w", err)
		}
		k.alg, k.method = ES256, jwt.SigningMethodES256
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < minRSABits || n > maxRSABits {
			return nil, fmt.Errorf("RSA key has %d bits, want %d to %d", n, minRSABits, maxRSABits)
		}
		if p.E < 3 || p.E&1 == 0 {
			return nil, fmt.Errorf("RSA key has exponent %d", p.E)
		}
		k.alg, k.method = RS256, jwt.SigningMethodRS256
	default:
		return nil, fmt.Errorf("key is a %T; use Ed25519, EC P-256 or RSA", key)
	}
	if k.kid == "" {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		sum := sha256.Sum256(der)
		k.kid = base64.RawURLEncoding.EncodeToString(sum[:9])
	}
	if err := check(k.kid); err != nil {
		return nil, err
	}
	return k, nil
}

// ParsePublicKey reads a public key as PEM (SubjectPublicKeyInfo) or JWK [RFC7517]. A JWK's own kid is used if kid is
// empty. A private key is refused: it should never have left the device.
func ParsePublicKey(kid, text string) (*PublicKey, error) {
	for _, c := range []byte(text) {
		if c == '{' {
			return parseJWK(kid, []byte(text))
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			break
		}
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("public key: neither PEM nor JWK")
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("public key: PEM block is %q, want PUBLIC KEY", block.Type)
	}
	if len(rest) > 0 && len(trimSpace(rest)) > 0 {
		return nil, errors.New("public key: more after the PEM block")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return NewPublicKey(kid, key)
}

// PEM is the key as SubjectPublicKeyInfo.
func (k *PublicKey) PEM() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k.key)
	if err != nil {
		return "", fmt.Errorf("public key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// verify reports whether signature is the key's over signing.
func (k *PublicKey) verify(signing string, signature []byte) bool {
	return k.method.Verify(signing, signature, k.key) == nil
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}
