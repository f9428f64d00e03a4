package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// jwk holds the members of a JSON Web Key that make a public key [RFC7517 4, RFC7518 6, RFC8037 2].
type jwk map[string]string

func parseJWK(kid string, data []byte) (*PublicKey, error) {
	j := jwk{}
	err := members(data, func(name string, value json.RawMessage) (err error) {
		switch name {
		case "kty", "crv", "x", "y", "n", "e", "kid", "alg", "use":
			j[name], err = text(value)
		case "d", "p", "q", "dp", "dq", "qi", "k":
			return errors.New("has private parts; send the public key only")
		}
		return wrapName(name, err)
	})
	if err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	if u := j["use"]; u != "" && u != "sig" {
		return nil, fmt.Errorf("jwk: use is %q, want sig", u)
	}
	key, err := j.public()
	if err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	if kid == "" {
		kid = j["kid"]
	}
	k, err := NewPublicKey(kid, key)
	if err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	if a := j["alg"]; a != "" && a != k.alg {
		return nil, fmt.Errorf("jwk: alg is %q, but the key is for %s", a, k.alg)
	}
	return k, nil
}

func (j jwk) public() (crypto.PublicKey, error) {
	switch j["kty"] + " " + j["crv"] {
	case "OKP Ed25519":
		x, err := segment(j["x"])
		if err != nil {
			return nil, wrapName("x", err)
		}
		return ed25519.PublicKey(x), nil
	case "EC P-256":
		return j.ec()
	case "RSA ":
		return j.rsa()
	}
	return nil, fmt.Errorf("kty %q with crv %q; use OKP Ed25519, EC P-256 or RSA", j["kty"], j["crv"])
}

func (j jwk) ec() (crypto.PublicKey, error) {
	const size = 32
	point := []byte{4} // uncompressed [SEC1 2.3.3]
	for _, name := range []string{"x", "y"} {
		b, err := segment(j[name])
		if err != nil {
			return nil, wrapName(name, err)
		}
		if len(b) != size {
			return nil, fmt.Errorf("%s has %d bytes, want %d", name, len(b), size)
		}
		point = append(point, b...)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

func (j jwk) rsa() (crypto.PublicKey, error) {
	n, err := segment(j["n"])
	if err != nil {
		return nil, wrapName("n", err)
	}
	e, err := segment(j["e"])
	if err != nil {
		return nil, wrapName("e", err)
	}
	exp := new(big.Int).SetBytes(e)
	if exp.BitLen() > 31 {
		return nil, errors.New("e is too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exp.Int64())}, nil
}
