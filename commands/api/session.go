package api

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	// sessionTTL is the longest that a console stays signed in; a token's own end is earlier or wins.
	sessionTTL = 12 * time.Hour
	// linkTTL is how long a sign-in link waits to be used.
	linkTTL = 24 * time.Hour

	secretBytes  = 32
	secretLength = 43 // of secretBytes in base64url

	cookieSecure    = "__Host-fairlead"
	cookiePlaintext = "fairlead" // the prefix is only for Secure cookies
	csrfHeader      = "X-CSRF-Token"
)

// newSecret returns a random secret and what is stored of it.
func newSecret() (secret, hash string, err error) {
	b := make([]byte, secretBytes)
	if _, err := rand.Read(b); err != nil {
		return "", "", fmt.Errorf("random: %w", err)
	}
	secret = base64.RawURLEncoding.EncodeToString(b)
	return secret, hashSecret(secret), nil
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// csrfOf derives the CSRF token of a session from its secret, so that it need not be stored.
func csrfOf(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("csrf"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// SignInLink makes a one-time link to the console for an operator. The secret is in the fragment, which browsers send
// to nobody, so it is in no access log and no Referer; the page posts it. base is the hub's address.
func (a *API) SignInLink(ctx context.Context, base, name string) (link string, expires time.Time, err error) {
	secret, expires, err := a.makeLink(ctx, name)
	if err != nil {
		return "", time.Time{}, err
	}
	return base + SignInPath + "#" + secret, expires, nil
}

// SignInPath is the console's page that takes a sign-in secret from its fragment and posts it to /api/v1/session.
const SignInPath = "/console/signin"

func (a *API) makeLink(ctx context.Context, name string) (secret string, expires time.Time, err error) {
	op, _, err := a.dir.operator(ctx, name)
	if err != nil {
		return "", time.Time{}, err
	}
	if err := a.trim(ctx, linkPrefix, name, maxLinksPerOwner-1); err != nil {
		return "", time.Time{}, err
	}
	secret, hash, err := newSecret()
	if err != nil {
		return "", time.Time{}, err
	}
	now := a.opts.Now()
	expires = now.Add(linkTTL)
	rec := &linkRecord{Operator: name, Created: max(now.UnixMilli(), op.TokensNotBefore), Expires: expires.UnixMilli()}
	if err := a.dir.put(ctx, linkPrefix+hash, 0, rec); err != nil {
		return "", time.Time{}, fmt.Errorf("store sign-in link: %w", err)
	}
	return secret, expires, nil
}

// redeem uses a link up; of two who try, one succeeds.
func (a *API) redeem(ctx context.Context, secret string) (*identity, error) {
	if len(secret) != secretLength {
		return nil, errSignIn
	}
	key := linkPrefix + hashSecret(secret)
	v, rev, err := a.dir.lookup(ctx, key)
	if err != nil {
		return nil, err
	}
	link, ok := v.(*linkRecord)
	if !ok || link.Expires <= a.opts.Now().UnixMilli() {
		return nil, errSignIn
	}
	who, err := a.identityOf(ctx, link.Operator, "", link.Created)
	if err != nil {
		return nil, errSignIn
	}
	if err := a.dir.remove(ctx, key, rev); err != nil {
		if errors.Is(err, errConflict) {
			return nil, errSignIn
		}
		return nil, err
	}
	who.expires = a.opts.Now().Add(sessionTTL)
	return who, nil
}

// startSession stores a session for who and returns the cookie's secret.
func (a *API) startSession(ctx context.Context, who *identity) (secret string, err error) {
	if err := a.trim(ctx, sessionPrefix, who.name, maxSessionsPerOwner-1); err != nil {
		return "", err
	}
	secret, hash, err := newSecret()
	if err != nil {
		return "", err
	}
	now := a.opts.Now()
	if end := now.Add(sessionTTL); who.expires.After(end) {
		who.expires = end
	}
	rec := &sessionRecord{
		Operator: who.name, Selector: who.tokenSelector, SignedBy: who.signedBy,
		Created: max(now.UnixMilli(), who.minted), Expires: who.expires.UnixMilli(),
	}
	if err := a.dir.put(ctx, sessionPrefix+hash, 0, rec); err != nil {
		return "", fmt.Errorf("store session: %w", err)
	}
	who.secret, who.session = secret, hash
	return secret, nil
}

// trim ends the oldest of an operator's sessions or links until at most keep are left.
func (a *API) trim(ctx context.Context, prefix, name string, keep int) error {
	for {
		var oldest string
		var rev uint64
		n := 0
		a.dir.each(prefix, func(key string, s stored) bool {
			if ownerOf(s.value) == name {
				n++
				// By revision: right after a revocation all are dated alike.
				if oldest == "" || s.rev < rev {
					oldest, rev = key, s.rev
				}
			}
			return true
		})
		if n <= keep {
			return nil
		}
		if err := a.dir.remove(ctx, oldest, rev); err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
}

func ownerOf(v any) string {
	switch v := v.(type) {
	case *sessionRecord:
		return v.Operator
	case *linkRecord:
		return v.Operator
	}
	return ""
}

// endSession signs out; live views opened with the session close.
func (a *API) endSession(ctx context.Context, hash string) error {
	v, rev, err := a.dir.lookup(ctx, sessionPrefix+hash)
	if err != nil || v == nil {
		return err
	}
	if err := a.dir.remove(ctx, sessionPrefix+hash, rev); err != nil && !errors.Is(err, errConflict) {
		return err
	}
	return nil
}

func (a *API) cookieName() string {
	if a.opts.Plaintext {
		return cookiePlaintext
	}
	return cookieSecure
}

func (a *API) cookie(secret string, expires time.Time) *http.Cookie {
	return &http.Cookie{
		Name: a.cookieName(), Value: secret, Path: "/", Expires: expires,
		HttpOnly: true, Secure: !a.opts.Plaintext, SameSite: http.SameSiteStrictMode,
	}
}
