// Package auth decides who a device is: it holds the hub's signing keys, mints device tokens, and verifies what devices
// present at connect and in-band.
//
// A token is a compact JWS of at most MaxToken bytes. It is signed by the hub (iss is the hub's issuer), by an outside
// issuer that the configuration names, or by the device's own key (no iss, or the device itself), and read strictly: one
// algorithm per key, every header and claim at most once, nothing critical ignored, sub (or the claim that stands for it)
// a device id, exp required. Verify fails with a *Refusal.
package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

const maxSkew = 10 * time.Minute

// Account is what the verifier must know of a device.
type Account struct {
	Disabled  bool
	Pending   bool      // enrolled, and not approved yet
	Created   time.Time // tokens issued earlier were an older device's of this id
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
	Issuer   string // the outside issuer, if it was one
	IssuedAt time.Time
	Expires  time.Time

	key       *PublicKey
	issuer    *issuer
	notBefore time.Time
}

// Verifier verifies device tokens. It is safe for concurrent use.
type Verifier struct {
	cfg      configs.Auth
	hub      *HubKeys
	issuers  *Issuers
	accounts Accounts
	now      func() time.Time
	cache    *cache
	decoy    map[string]*PublicKey
}

// VerifierOptions are the parts that a verifier works with.
type VerifierOptions struct {
	Config   configs.Auth
	Hub      *HubKeys
	Issuers  *Issuers // nil: none
	Accounts Accounts
	Now      func() time.Time // nil: the system's clock
}

// NewVerifier returns a verifier.
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	cfg := o.Config
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
	if o.Now == nil {
		o.Now = time.Now
	}
	decoy, err := decoys()
	if err != nil {
		return nil, err
	}
	return &Verifier{
		cfg: cfg, hub: o.Hub, issuers: o.Issuers, accounts: o.Accounts, now: o.Now, cache: newCache(), decoy: decoy,
	}, nil
}

// OnKeysGone calls fn whenever keys of the hub or of an issuer are gone: what they verified is not good any more. fn must
// not block.
func (v *Verifier) OnKeysGone(fn func()) {
	v.hub.onGone(fn)
	if v.issuers != nil {
		v.issuers.onGone(fn)
	}
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
	t, rej := parse(raw, v.issuers.deviceClaims())
	if rej != nil {
		return nil, rej
	}
	// The claims are looked at first: they cost less than a signature, and a token that is refused for them is refused
	// whoever signed it.
	s := v.signer(t)
	device, rej := s.device(t)
	if rej != nil {
		return nil, rej
	}
	if rej := s.checkHeader(t); rej != nil {
		return nil, rej
	}
	if rej := v.checkClaims(&t.claims, s); rej != nil {
		return nil, rej
	}
	account, known := v.accounts.Account(device)
	key, err := v.key(t, s, account.Keys)
	if err != nil {
		// The same work as for a key that is there, so that time does not tell which devices exist.
		v.decoy[t.header.Alg].verify(t.signing, t.signature)
		return nil, err
	}
	if !key.verify(t.signing, t.signature) {
		return nil, refuse(BadSignature, "the signature does not fit the token")
	}
	c := &Claims{
		Device: strings.Clone(device), KID: key.kid, ID: t.claims.ID, ByHub: s.hub, Expires: time.UnixMilli(t.claims.Expires),
		key: key, issuer: s.issuer,
	}
	if s.issuer != nil {
		c.Issuer = s.issuer.name
	}
	if t.claims.hasIssued {
		c.IssuedAt = time.UnixMilli(t.claims.IssuedAt)
	}
	if t.claims.hasNbf {
		c.notBefore = time.UnixMilli(t.claims.NotBefore)
	}
	if rej := v.checkAccount(c, account, known); rej != nil {
		return nil, rej
	}
	return c, nil
}

// signer is who a token says has signed it: the hub, an outside issuer, or else the device itself.
type signer struct {
	hub    bool
	issuer *issuer
	aud    string
}

func (v *Verifier) signer(t *token) signer {
	s := signer{hub: t.claims.Issuer == v.cfg.Issuer, aud: v.cfg.Audience}
	if !s.hub {
		if s.issuer = v.issuers.issuer(t.claims.Issuer); s.issuer != nil {
			s.aud = s.issuer.audience
		}
	}
	return s
}

// device is the id that the token is for. It comes first: a token without one is malformed, whatever else it says.
func (s signer) device(t *token) (string, *Refusal) {
	name := t.claims.subject
	if s.issuer != nil {
		name = func() (string, error) { return s.issuer.subject(&t.claims) }
	}
	device, err := name()
	if err == nil {
		err = wire.CheckID(device)
	}
	if err != nil {
		return "", refuse(Malformed, "token claims: "+err.Error())
	}
	return device, nil
}

func (s signer) checkHeader(t *token) *Refusal {
	if t.header.hasKID {
		check := CheckKID
		if s.issuer != nil {
			check = checkForeignKID
		}
		if err := check(t.header.KID); err != nil {
			return refuse(Malformed, "token header: "+err.Error())
		}
	}
	switch t.header.Alg {
	case EdDSA, ES256, RS256:
	default:
		return refuse(Malformed, "alg must be EdDSA, ES256 or RS256")
	}
	if t.header.Typ != Type && (s.hub || !s.general(t.header.Typ)) {
		return refuse(Malformed, "typ is not that of a device token")
	}
	if s.hub && t.claims.ID == "" {
		return refuse(Malformed, "no jti")
	}
	return nil
}

// general reports whether typ says no more than that this is a token, or for an issuer that it is an access token
// [RFC9068 2.1].
func (s signer) general(typ string) bool {
	if typ == "" || strings.EqualFold(typ, "JWT") {
		return true
	}
	return s.issuer != nil && (strings.EqualFold(typ, "at+jwt") || strings.EqualFold(typ, "application/at+jwt"))
}

func (v *Verifier) checkClaims(c *claims, s signer) *Refusal {
	if !slices.Contains(c.Audience, s.aud) {
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
	if !s.hub && c.Expires-from > v.cfg.MaxTokenTTL.Milliseconds() {
		return refuse(Malformed, fmt.Sprintf("the token lives longer than %s", v.cfg.MaxTokenTTL))
	}
	if s.hub && !c.hasIssued {
		return refuse(Malformed, "no iat")
	}
	return nil
}

// key finds the one key that may have signed the token. Only for an outside issuer's new key may it take a moment.
func (v *Verifier) key(t *token, s signer, own []*PublicKey) (*PublicKey, error) {
	switch {
	case s.issuer != nil:
		return s.issuer.key(t.header)
	case s.hub:
		if k, ok := v.hub.find(t.header.KID); ok && k.alg == t.header.Alg {
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

func (v *Verifier) checkAccount(c *Claims, a Account, known bool) *Refusal {
	r := &Refusal{Device: c.Device}
	switch {
	case !known:
		r.Code, r.Detail = UnknownDevice, "this hub has no such device"
	case a.Disabled:
		r.Code, r.Detail = Disabled, "the device is disabled"
	case a.Pending:
		r.Code, r.Detail = Pending, "the device waits for an operator's approval"
	case !a.NotBefore.IsZero() && c.IssuedAt.Before(a.NotBefore):
		r.Code, r.Detail = Revoked, "the device's tokens were revoked; get a new one"
	case v.precedes(c, a):
		r.Code, r.Detail = Revoked, "the token is older than the device's record; get a new one"
	default:
		return nil
	}
	return r
}

// leastForeign is what an issuer's iat may lie behind whatever the skew: most tell whole seconds.
const leastForeign = time.Second

// precedes reports whether a token is older than the device's record. Then it was issued to a device that had this id
// before and was deleted, and with its record went what revoked it.
//
// The hub's own tokens get no allowance for clocks. They need none: MintFrom dates no token before its record, whichever
// node mints it. With one, a token that was revoked in the last minute would be good again once the device is made anew. An
// issuer knows no records and has a clock of its own, so the first token that it gives a new device may look older by the
// skew. A device's own token was signed with a key that stands in this very record, and may have no iat.
func (v *Verifier) precedes(c *Claims, a Account) bool {
	switch {
	case c.ByHub:
		return c.IssuedAt.Before(a.Created)
	case c.issuer != nil && !c.IssuedAt.IsZero():
		return c.IssuedAt.Before(a.Created.Add(-max(v.cfg.Skew, leastForeign)))
	}
	return false
}

// recheck says whether a token that was good is still good: its time, its key and the device's record.
func (v *Verifier) recheck(c *Claims) error {
	now := v.now()
	if !now.Before(c.Expires.Add(v.cfg.Skew)) || c.notBefore.After(now.Add(v.cfg.Skew)) || c.IssuedAt.After(now.Add(v.cfg.Skew)) {
		return refuse(Expired, "not valid now")
	}
	account, known := v.accounts.Account(c.Device)
	if rej := v.checkAccount(c, account, known); rej != nil {
		return rej
	}
	if !v.holds(c, account) {
		return refuse(UnknownKey, "the key is gone")
	}
	return nil
}

// holds reports whether the key that verified c is still one that the hub, or the device's record, holds.
func (v *Verifier) holds(c *Claims, a Account) bool {
	if c.issuer != nil {
		return c.issuer.holds(c.key)
	}
	if c.ByHub {
		k, ok := v.hub.Key(c.KID)
		return ok && k == c.key
	}
	return slices.Contains(a.Keys, c.key)
}

// Still reports why a token that was good at connect is not good any more, apart from its expiry; nil if it is.
func (v *Verifier) Still(c *Claims) error {
	account, known := v.accounts.Account(c.Device)
	if rej := v.checkAccount(c, account, known); rej != nil {
		return rej
	}
	if v.holds(c, account) {
		return nil
	}
	r := refuse(Revoked, "the key that signed the token was removed")
	if c.ByHub || c.issuer != nil {
		r = refuse(UnknownKey, "the key that signed the token was withdrawn; get a new token") // which the device may have
	}
	r.Device = c.Device
	return r
}

// Lenient is how long after a token's expiry it is still taken.
func (v *Verifier) Lenient() time.Duration { return v.cfg.Skew }
