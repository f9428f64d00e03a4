package api

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/internal/selector"
)

// What sets an operator token apart from every other JWT that the hub sees.
const (
	TokenAudience = "fairlead-operator"
	TokenType     = "fairlead-operator+jwt"

	maxTokenBytes = 4 << 10
)

// errToken is the one refusal of a token; what is wrong with it is for the log at debug level.
var errToken = errors.New("operator token refused")

// claims are all the claims that an operator token has; any other is refused, since nobody but the hub makes them.
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
	Issued   int64  `json:"iat"`
	ID       string `json:"jti"`
	// MintedMS orders tokens against the operator's tokens-not-before more finely than iat.
	MintedMS int64  `json:"minted_ms"`
	Selector string `json:"selector,omitempty"`

	signedBy signedBy
}

// tokenHeader are all the header fields that an operator token has; crit, jku, x5u, jwk and the like are refused.
type tokenHeader struct {
	Alg string `json:"alg"`
	KID string `json:"kid"`
	Typ string `json:"typ"`
}

// The jwt.Claims of the library, for its own checks.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return numericDate(c.Expires) }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return numericDate(c.Issued) }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{c.Audience}, nil }

func numericDate(seconds int64) (*jwt.NumericDate, error) {
	if seconds == 0 {
		return nil, nil
	}
	return jwt.NewNumericDate(time.Unix(seconds, 0)), nil
}

// tokens mints and verifies operator tokens.
type tokens struct {
	keys   *Keys
	issuer string
	maxTTL time.Duration
	skew   time.Duration
	now    func() time.Time
	parser *jwt.Parser
	known  *verified
}

func newTokens(keys *Keys, o Options) *tokens {
	return &tokens{
		keys: keys, issuer: o.Issuer, maxTTL: o.MaxTokenTTL, skew: o.Skew, now: o.Now, known: newVerified(),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithIssuer(o.Issuer),
			jwt.WithAudience(TokenAudience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(o.Skew),
			jwt.WithStrictDecoding(),
			jwt.WithTimeFunc(o.Now),
		),
	}
}

// mint makes a token of name that is younger than notBefore.
func (t *tokens) mint(name string, bind selector.Selector, ttl time.Duration, notBefore int64) (string, *claims, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", nil, fmt.Errorf("mint token: %w", err)
	}
	now := t.now()
	c := &claims{
		Issuer: t.issuer, Subject: name, Audience: TokenAudience, ID: hex.EncodeToString(id),
		Issued: now.Unix(), Expires: now.Add(ttl).Unix(), MintedMS: max(now.UnixMilli(), notBefore), Selector: bind.String(),
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	kid, key := t.keys.signing()
	token.Header["typ"], token.Header["kid"] = TokenType, kid
	signed, err := token.SignedString(key)
	if err != nil {
		return "", nil, fmt.Errorf("sign token: %w", err)
	}
	return signed, c, nil
}

// verify returns the claims of a good token, which are not to be changed. Every error wraps errToken.
func (t *tokens) verify(raw string) (*claims, error) {
	if len(raw) > maxTokenBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errToken, len(raw), maxTokenBytes)
	}
	digest := sha256.Sum256([]byte(raw))
	if c := t.known.find(digest, t.now(), t.skew); c != nil {
		if t.keys.holds(c.signedBy) { // it may have been removed since
			return c, nil
		}
	}
	c, err := t.check(raw)
	if err == nil {
		t.known.keep(digest, c)
	}
	return c, err
}

// check verifies a token that is seen for the first time.
func (t *tokens) check(raw string) (*claims, error) {
	if err := checkForm(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", errToken, err)
	}
	c := &claims{}
	_, err := t.parser.ParseWithClaims(raw, c, func(token *jwt.Token) (any, error) { return t.key(token, c) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errToken, err)
	}
	switch {
	case c.ID == "" || len(c.ID) > 64:
		return nil, fmt.Errorf("%w: jti missing", errToken)
	case c.Issued <= 0 || c.MintedMS <= 0:
		return nil, fmt.Errorf("%w: iat missing", errToken)
	case c.Expires-c.Issued > int64(t.maxTTL/time.Second) || c.Expires <= c.Issued:
		return nil, fmt.Errorf("%w: valid for longer than %s", errToken, t.maxTTL)
	}
	if err := checkName(c.Subject); err != nil {
		return nil, fmt.Errorf("%w: sub: %w", errToken, err)
	}
	return c, nil
}

// key looks the kid up and notes it in c. A missing one is an error: the library would verify against an empty key.
func (t *tokens) key(token *jwt.Token, c *claims) (any, error) {
	kid, _ := token.Header["kid"].(string)
	key, ok := t.keys.key(kid)
	if !ok {
		return nil, errors.New("unknown kid")
	}
	c.signedBy = signedBy{kid, key.digest}
	return key.Public().(ed25519.PublicKey), nil
}

// checkForm is what the library leaves open: size, characters, header fields, their types, unknown and repeated claims.
func checkForm(raw string) error {
	for _, c := range []byte(raw) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return errors.New("characters that no compact JWT has")
		}
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return fmt.Errorf("%d parts, want 3", len(parts))
	}
	var h tokenHeader
	if err := decodePart(parts[0], &h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Typ != TokenType {
		return fmt.Errorf("typ %q", h.Typ)
	}
	if !validKID(h.KID) {
		return errors.New("kid missing or not a key name")
	}
	if err := decodePart(parts[1], &claims{}); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	return nil
}

func decodePart(part string, v any) error {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	if data = bytes.TrimSpace(data); len(data) == 0 || data[0] != '{' || !json.Valid(data) {
		return errors.New("not a JSON object")
	}
	return decodeStrict(data, v)
}
