package auth

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Type is the typ header of a device token that the hub minted [RFC8725 3.11]: no other token of the hub passes for one.
const Type = "fairlead-device+jwt"

// Minter makes device tokens.
type Minter struct {
	keys *HubKeys
	cfg  configs.Auth
	now  func() time.Time
}

// NewMinter returns a minter; a nil clock is the system's.
func NewMinter(keys *HubKeys, cfg configs.Auth, now func() time.Time) *Minter {
	if now == nil {
		now = time.Now
	}
	return &Minter{keys: keys, cfg: cfg, now: now}
}

// Mint returns a token for a device, and when it expires. A ttl of zero is the configured one.
func (m *Minter) Mint(device string, ttl time.Duration) (string, time.Time, error) {
	return m.MintFrom(device, ttl, time.Time{})
}

// MintFrom is Mint, with a token that is dated from at the earliest: when the device's record was made, or its tokens
// revoked, by a node whose clock is ahead of this one's.
func (m *Minter) MintFrom(device string, ttl time.Duration, from time.Time) (string, time.Time, error) {
	if err := wire.CheckID(device); err != nil {
		return "", time.Time{}, fmt.Errorf("mint token: %w", err)
	}
	if ttl == 0 {
		ttl = m.cfg.TokenTTL
	}
	if ttl < time.Second {
		return "", time.Time{}, errors.New("mint token: ttl is under a second")
	}
	now := m.now()
	if now.Before(from) {
		now = from
	}
	expires := now.Add(ttl).Truncate(time.Second)
	s, err := m.keys.Sign(Type, jwt.MapClaims{
		"iss": m.cfg.Issuer, "aud": m.cfg.Audience, "sub": device, "jti": rand.Text(),
		// Whole seconds would make a token minted right after a revocation look older than it.
		"iat": json.Number(fmt.Sprintf("%d.%03d", now.Unix(), now.UnixMilli()%1000)),
		"exp": expires.Unix(),
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("mint token: %w", err)
	}
	return s, expires, nil
}

// Sign signs claims with the newest hub key. typ keeps the kinds of tokens apart.
func (k *HubKeys) Sign(typ string, claims jwt.Claims) (string, error) {
	key := k.set.Load().newest
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	t.Header["typ"] = typ
	t.Header["kid"] = key.public.kid
	return t.SignedString(key.private)
}
