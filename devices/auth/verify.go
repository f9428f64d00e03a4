// Package auth decides who a device is: it holds the hub's signing keys, mints device tokens, and verifies what devices
// present at connect and in-band.
//
// A token is a compact JWS of at most MaxToken bytes. It is signed by the hub (iss is the hub's issuer) or by the
// device's own key (no iss, or the device itself), and read strictly: one algorithm per key, every header and claim at
// most once, nothing critical ignored, sub a device id, exp required. Verify fails with a *Refusal.
package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
)

const maxSkew = 10 * time.Minute

// Account is what the verifier must know of a device.
type Account struct {
	Disabled  bool
	NotBefore time.Time // tokens issued earlier are revoked; zero: none are
	Keys      []*PublicKey
}

// Accounts finds devices. Its answers are from memory.
type Accounts interface {
	Account(device string) (Account, bool)
}

// Claims are what a good token says.
type Claims struct {
	Device   string
	KID      string // of the key that verified it
	ID       string // jti, may be empty in a token that the device signed itself
	ByHub    bool   // minted by the hub
	IssuedAt time.Time
	Expires  time.Time

	key       *PublicKey
	notBefore time.Time
}

// Verifier verifies device tokens. It is safe for concurrent use.
type Verifier struct {
	cfg      configs.Auth
	hub      *HubKeys
	accounts Accounts
	now      func() time.Time
	cache    *cache
	decoy    map[string]*PublicKey
}

// NewVerifier returns a verifier; a nil clock is the system's.
func NewVerifier(cfg configs.Auth, hub *HubKeys, accounts Accounts, now func() time.Time) (*Verifier, error) {
	switch {
	case cfg.Issuer == "":
		return nil, errors.New("auth.issuer is empty")
	case cfg.Audience == "":
		return nil, errors.New("auth.audience is empty: tokens for anybody would be good here")
	case cfg.Skew < 0 || cfg.Skew > maxSkew:
		return nil, fmt.Errorf("auth.skew is %s, want 0 to %s", cfg.Skew, maxSkew)
	case cfg.MaxTokenTTL <= 0:
		return nil, errors.New("auth.max_token_ttl must be above zero")
	}
	if now == nil {
		now = time.Now
	}
	decoy, err := decoys()
	if err != nil {
		return nil, err
	}
	return &Verifier{cfg: cfg, hub: hub, accounts: accounts, now: now, cache: newCache(), decoy: decoy}, nil
}

// Verify returns the claims of a good token. A token that was verified before costs a hash and a look at the record.
func (v *Verifier) Verify(raw string) (*Claims, error) {
	if len(raw) > MaxToken {
		return nil, refuse(Malformed, fmt.Sprintf("token is %d bytes, at most %d are allowed", len(raw), MaxToken))
	}
	sum := digest(raw)
	if c, ok := v.cache.get(sum); ok {
		if err := v.recheck(c); err == nil {
			return c, nil
		}
		// The reason is found again from scratch, so that a cached token and a new one are refused alike.
		v.cache.drop(sum)
	}
	c, err := v.verify(raw)
	if err != nil {
		return nil, err
	}
	v.cache.put(sum, c, v.now())
	return c, nil
}

func (v *Verifier) verify(raw string) (*Claims, error) {
	t, rej := parse(raw)
	if rej != nil {
		return nil, rej
	}
	// The claims are looked at first: they cost less than a signature, and a token that is refused for them is refused
	// whoever signed it.
	byHub := t.claims.Issuer == v.cfg.Issuer
	if rej := v.checkHeader(t, byHub); rej != nil {
		return nil, rej
	}
	if rej := v.checkClaims(&t.claims, byHub); rej != nil {
		return nil, rej
	}
	account, known := v.accounts.Account(t.claims.Subject)
	key, err := v.key(t, byHub, account.Keys)
	if err != nil {
		// The same work as for a key that is there, so that time does not tell which devices exist.
		v.decoy[t.header.Alg].verify(t.signing, t.signature)
		return nil, err
	}
	if !key.verify(t.signing, t.signature) {
		return nil, refuse(BadSignature, "the signature does not fit the token")
	}
	c := &Claims{
		Device: strings.Clone(t.claims.Subject), KID: key.kid, ID: t.claims.ID, ByHub: byHub,
		Expires: time.UnixMilli(t.claims.Expires), key: key,
	}
	if t.claims.hasIssued {
		c.IssuedAt = time.UnixMilli(t.claims.IssuedAt)
	}
	if t.claims.hasNbf {
		c.notBefore = time.UnixMilli(t.claims.NotBefore)
	}
	if rej := checkAccount(c, account, known); rej != nil {
		return nil, rej
	}
	return c, nil
}

func (v *Verifier) checkHeader(t *token, byHub bool) *Refusal {
	switch t.header.Alg {
	case EdDSA, ES256, RS256:
	default:
		return refuse(Malformed, "alg must be EdDSA, ES256 or RS256")
	}
	own := t.header.Typ == Type
	if !own && (byHub || t.header.Typ != "" && !strings.EqualFold(t.header.Typ, "JWT")) {
		return refuse(Malformed, "typ is not that of a device token")
	}
	if byHub && t.claims.ID == "" {
		return refuse(Malformed, "no jti")
	}
	return nil
}

func (v *Verifier) checkClaims(c *claims, byHub bool) *Refusal {
	if !slices.Contains(c.Audience, v.cfg.Audience) {
		return refuse(WrongAudience, "aud does not name this hub")
	}
	now, skew := v.now().UnixMilli(), v.cfg.Skew.Milliseconds()
	switch {
	case now >= c.Expires+skew:
		return refuse(Expired, "the token has expired")
	case c.hasNbf && c.NotBefore > now+skew:
		return refuse(NotYetValid, "nbf is in the future; compare your clock with time")
	case c.hasIssued && c.IssuedAt > now+skew:
		return refuse(NotYetValid, "iat is in the future; compare your clock with time")
	case c.hasIssued && c.IssuedAt >= c.Expires:
		return refuse(Malformed, "exp is not after iat")
	}
	from := now
	if c.hasIssued {
		from = c.IssuedAt
	}
	if !byHub && c.Expires-from > v.cfg.MaxTokenTTL.Milliseconds() {
		return refuse(Malformed, fmt.Sprintf("the token lives longer than %s", v.cfg.MaxTokenTTL))
	}
	if byHub && !c.hasIssued {
		return refuse(Malformed, "no iat")
	}
	return nil
}

// key finds the one key that may have signed the token. Issuers other than the hub and the device itself are unknown.
func (v *Verifier) key(t *token, byHub bool, own []*PublicKey) (*PublicKey, error) {
	switch {
	case byHub:
		if k, ok := v.hub.Key(t.header.KID); ok && k.alg == t.header.Alg {
			return k, nil
		}
		return nil, refuse(UnknownKey, "kid is not a key of the hub")
	case t.claims.Issuer == "" || t.claims.Issuer == t.claims.Subject:
		return deviceKey(t.header, own)
	}
	return nil, refuse(UnknownKey, "iss is not an issuer of this hub")
}

func deviceKey(h header, own []*PublicKey) (*PublicKey, error) {
	if h.KID == "" && len(own) == 1 && own[0].alg == h.Alg {
		return own[0], nil
	}
	for _, k := range own {
		if k.kid == h.KID && k.alg == h.Alg {
			return k, nil
		}
	}
	return nil, refuse(UnknownKey, "kid is not a key of the device")
}

func checkAccount(c *Claims, a Account, known bool) *Refusal {
	r := &Refusal{Device: c.Device}
	switch {
	case !known:
		r.Code, r.Detail = UnknownDevice, "this hub has no such device"
	case a.Disabled:
		r.Code, r.Detail = Disabled, "the device is disabled"
	case !a.NotBefore.IsZero() && c.IssuedAt.Before(a.NotBefore):
		r.Code, r.Detail = Revoked, "the device's tokens were revoked; get a new one"
	default:
		return nil
	}
	return r
}

// recheck says whether a token that was good is still good: its time, its key and the device's record.
func (v *Verifier) recheck(c *Claims) error {
	now := v.now()
	if !now.Before(c.Expires.Add(v.cfg.Skew)) || c.notBefore.After(now.Add(v.cfg.Skew)) || c.IssuedAt.After(now.Add(v.cfg.Skew)) {
		return refuse(Expired, "not valid now")
	}
	account, known := v.accounts.Account(c.Device)
	if rej := checkAccount(c, account, known); rej != nil {
		return rej
	}
	if !v.holds(c, account) {
		return refuse(UnknownKey, "the key is gone")
	}
	return nil
}

// holds reports whether the key that verified c is still one that the hub, or the device's record, holds.
func (v *Verifier) holds(c *Claims, a Account) bool {
	if c.ByHub {
		k, ok := v.hub.Key(c.KID)
		return ok && k == c.key
	}
	return slices.Contains(a.Keys, c.key)
}

// Still reports why a token that was good at connect is not good any more, apart from its expiry; nil if it is.
func (v *Verifier) Still(c *Claims) error {
	account, known := v.accounts.Account(c.Device)
	if rej := checkAccount(c, account, known); rej != nil {
		return rej
	}
	if !v.holds(c, account) {
		r := refuse(Revoked, "the key that signed the token was removed")
		r.Device = c.Device
		return r
	}
	return nil
}

// Lenient is how long after a token's expiry it is still taken.
func (v *Verifier) Lenient() time.Duration { return v.cfg.Skew }
