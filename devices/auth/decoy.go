package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
)

// decoys are keys nobody holds, one per algorithm: to verify with one costs as much as with a real one.
func decoys() (map[string]*PublicKey, error) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("decoy key: %w", err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("decoy key: %w", err)
	}
	// Any odd number of the right size will do for a modulus whose factors nobody needs.
	mod := make([]byte, minRSABits/8)
	if _, err := rand.Read(mod); err != nil {
		return nil, fmt.Errorf("decoy key: %w", err)
	}
	mod[0] |= 0x80
	mod[len(mod)-1] |= 1
	out := make(map[string]*PublicKey, 3)
	for _, key := range []any{ed, &ec.PublicKey, &rsa.PublicKey{N: new(big.Int).SetBytes(mod), E: 65537}} {
		k, err := NewPublicKey("", key)
		if err != nil {
			return nil, fmt.Errorf("decoy key: %w", err)
		}
		out[k.alg] = k
	}
	return out, nil
}
