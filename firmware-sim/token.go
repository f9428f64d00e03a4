package sim

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// ErrNoToken is the error of a token source that will never have a token for a device.
var ErrNoToken = errors.New("there is no token for this device")

// TokenSource gives a device the token to connect with. It is asked before every connect and for every renewal, by many
// devices at once, and may go to the network. fresh is set when the token given before nears its end or was refused.
type TokenSource interface {
	Token(ctx context.Context, device string, fresh bool) (string, error)
}

// FileTokens holds tokens that were made elsewhere, one for each device.
type FileTokens map[string]string

// ReadTokens reads lines of a device id, blanks and its token. Empty lines and lines that start with # are skipped.
func ReadTokens(r io.Reader) (FileTokens, error) {
	tokens := FileTokens{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 2 {
			return nil, fmt.Errorf("tokens: line %d has %d words, want a device id and its token", n, len(words))
		}
		if err := wire.CheckID(words[0]); err != nil {
			return nil, fmt.Errorf("tokens: line %d: %w", n, err)
		}
		if _, twice := tokens[words[0]]; twice {
			return nil, fmt.Errorf("tokens: line %d: device %s has a token already", n, words[0])
		}
		tokens[words[0]] = words[1]
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	return tokens, nil
}

// Token returns the device's token, also if a fresh one is asked for: there is no other.
func (f FileTokens) Token(_ context.Context, device string, _ bool) (string, error) {
	if token, ok := f[device]; ok {
		return token, nil
	}
	return "", fmt.Errorf("%w in the file: %s", ErrNoToken, device)
}

// KeyTokens signs the tokens of devices that hold their own private key. The hub has the public keys in its records.
type KeyTokens struct {
	Keys     func(device string) (crypto.Signer, error) // Ed25519 or ECDSA P-256
	KeyID    string                                     // kid: which of the device's keys it is
	Audience string
	TTL      time.Duration
}

// Token signs a token that is valid from now for the TTL.
func (k KeyTokens) Token(_ context.Context, device string, _ bool) (string, error) {
	key, err := k.Keys(device)
	if err != nil {
		return "", fmt.Errorf("key of device %s: %w", device, err)
	}
	var method jwt.SigningMethod
	switch key.(type) {
	case ed25519.PrivateKey:
		method = jwt.SigningMethodEdDSA
	case *ecdsa.PrivateKey:
		method = jwt.SigningMethodES256
	default:
		return "", fmt.Errorf("key of device %s is a %T, want Ed25519 or ECDSA P-256", device, key)
	}
	now := time.Now()
	token := jwt.NewWithClaims(method, jwt.RegisteredClaims{
		Subject: device, Audience: jwt.ClaimStrings{k.Audience},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(k.TTL)),
	})
	token.Header["kid"] = k.KeyID
	signed, err := token.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign token of device %s: %w", device, err)
	}
	return signed, nil
}
