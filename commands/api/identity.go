package api

import (
	"context"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/internal/selector"
)

// identity is who a request comes from, and what that allows.
type identity struct {
	name          string
	role          Role
	bind          []selector.Selector // all must match; empty: every device
	tokenSelector string
	minted        int64 // when its token, link or session was made, Unix milliseconds
	notBefore     int64 // what was made earlier is revoked
	signedBy      signedBy
	expires       time.Time
	session       string // hash of the session's secret; empty: came with a token
	secret        string // of the session
}

// sees reports whether the operator's selectors let it see a device with these labels.
func (w *identity) sees(labels map[string]string) bool {
	for _, s := range w.bind {
		if !s.Match(labels) {
			return false
		}
	}
	return true
}

// bounded reports whether the operator sees only part of the fleet.
func (w *identity) bounded() bool { return len(w.bind) > 0 }

// identify finds out who sent r: by Authorization header, by WebSocket subprotocol, or by cookie. A token that is
// offered but not good is refused even if a good cookie came with it.
func (a *API) identify(c *call) (who *identity, err error) {
	if raw, ok := bearer(c.Request); ok {
		who, err = a.identifyToken(c.Context(), raw)
	} else {
		who, err = a.identifyCookie(c)
	}
	if errors.Is(err, errUnauthenticated) || errors.Is(err, errTokenAhead) {
		a.metrics.refused.WithLabelValues("unauthenticated").Inc()
	}
	return who, err
}

// identifyCookie finds the session of a cookie. One that this node does not know is looked up where another node may just
// have put it; anybody can make such a cookie up, so that waits in a stranger's place.
func (a *API) identifyCookie(c *call) (*identity, error) {
	cookie, err := c.Cookie(a.cookieName())
	if err != nil || len(cookie.Value) != secretLength {
		return nil, errUnauthenticated
	}
	if !a.dir.knows(sessionPrefix + hashSecret(cookie.Value)) {
		var stranger place
		if err := a.enter(&stranger, a.strangers, network(c.audit.Remote)); err != nil {
			return nil, err
		}
		defer stranger.leave()
	}
	return a.identifySession(c.Context(), cookie.Value)
}

// bearer returns the token of the Authorization header, or on the live path of the subprotocol offer.
func bearer(r *http.Request) (string, bool) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", true // refused as a token, not passed over
		}
		return strings.TrimSpace(token), true
	}
	if r.URL.Path != livePath {
		return "", false
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(offer), bearerPrefix); ok {
				return token, true
			}
		}
	}
	return "", false
}

func (a *API) identifyToken(ctx context.Context, raw string) (*identity, error) {
	c, err := a.tokens.verify(raw)
	if err != nil {
		a.opts.Log.Debug("operator token refused", "err", err)
		if errors.Is(err, jwt.ErrTokenUsedBeforeIssued) { // told once the signature is found good
			return nil, errTokenAhead
		}
		return nil, errUnauthenticated
	}
	who, err := a.identityOf(ctx, c.Subject, c.Selector, c.MintedMS)
	if err != nil {
		return nil, err
	}
	// A token that is dated ahead would outlive a revocation. The hub itself dates one ahead only to the operator's last.
	if c.MintedMS > max(a.opts.Now().Add(a.opts.Skew).UnixMilli(), who.notBefore) {
		return nil, errTokenAhead
	}
	who.signedBy, who.expires = c.signedBy, time.Unix(c.Expires, 0)
	return who, nil
}

func (a *API) identifySession(ctx context.Context, secret string) (*identity, error) {
	hash := hashSecret(secret)
	who, err := a.sessionIdentity(ctx, hash)
	if err != nil {
		return nil, err
	}
	who.secret = secret
	return who, nil
}

func (a *API) sessionIdentity(ctx context.Context, hash string) (*identity, error) {
	v, _, err := a.dir.lookup(ctx, sessionPrefix+hash)
	if err != nil {
		return nil, err
	}
	s, ok := v.(*sessionRecord)
	if !ok || s.Expires <= a.opts.Now().UnixMilli() || !a.signs(s.SignedBy) {
		return nil, errUnauthenticated
	}
	who, err := a.identityOf(ctx, s.Operator, s.Selector, s.Created)
	if err != nil {
		return nil, err
	}
	who.session, who.signedBy, who.expires = hash, s.SignedBy, time.UnixMilli(s.Expires)
	return who, nil
}

// signs reports whether what a key signed is good as far as the key goes, and so is what came of a sign-in link, which no
// key signed.
func (a *API) signs(s signedBy) bool { return s == signedBy{} || a.tokens.keys.holds(s) }

// identityOf is the operator's identity as it stands now, for something made at minted.
func (a *API) identityOf(ctx context.Context, name, tokenSelector string, minted int64) (*identity, error) {
	op, _, err := a.dir.operator(ctx, name)
	if errors.Is(err, ErrOperatorNotFound) {
		return nil, errUnauthenticated
	}
	if err != nil {
		return nil, err
	}
	if op.Disabled || minted < op.TokensNotBefore {
		return nil, errUnauthenticated
	}
	bind, err := bound(op.Selector, tokenSelector)
	if err != nil {
		return nil, errUnauthenticated
	}
	return &identity{
		name: name, role: op.Role, bind: bind, tokenSelector: tokenSelector, minted: minted, notBefore: op.TokensNotBefore,
	}, nil
}

// current returns who as it stands now, or why it is nobody any more.
func (a *API) current(ctx context.Context, who *identity) (*identity, error) {
	if !who.expires.After(a.opts.Now()) {
		return nil, errUnauthenticated
	}
	if who.session != "" {
		return a.sessionIdentity(ctx, who.session)
	}
	if !a.signs(who.signedBy) {
		return nil, errUnauthenticated
	}
	now, err := a.identityOf(ctx, who.name, who.tokenSelector, who.minted)
	if err != nil {
		return nil, err
	}
	now.signedBy, now.expires = who.signedBy, who.expires
	return now, nil
}

// checkCSRF holds a change that came by cookie against the session's token.
func (w *identity) checkCSRF(r *http.Request) error {
	if w.session == "" {
		return nil
	}
	want := csrfOf(w.secret)
	if subtle.ConstantTimeCompare([]byte(r.Header.Get(csrfHeader)), []byte(want)) != 1 {
		return errCSRF
	}
	return nil
}

// peer is the caller's address without its port.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// boundTo writes the selectors of who as one.
func (w *identity) boundTo() string { return joinSelectors(w.bind) }

func joinSelectors(all []selector.Selector) string {
	var parts []string
	for _, s := range all {
		if !s.Empty() {
			parts = append(parts, s.String())
		}
	}
	return strings.Join(parts, ",")
}
