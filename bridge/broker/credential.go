package broker

import (
	"crypto/sha256"
	"crypto/subtle"
)

// credential is kept hashed so that comparing takes the same time whatever the length.
type credential struct{ name, password [sha256.Size]byte }

func newCredential(name, password string) credential {
	return credential{name: sha256.Sum256([]byte(name)), password: sha256.Sum256([]byte(password))}
}

func (c credential) matches(name, password []byte) bool {
	n, p := sha256.Sum256(name), sha256.Sum256(password)
	return subtle.ConstantTimeCompare(n[:], c.name[:])&subtle.ConstantTimeCompare(p[:], c.password[:]) == 1
}

// isNamed tells whether it is this user who tries.
func (c credential) isNamed(name []byte) bool { return sha256.Sum256(name) == c.name }
