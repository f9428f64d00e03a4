package embedded

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
)

var (
	errNoCredentials = errors.New("unable to parse authentication credentials")
	errUnauthorized  = errors.New("authorization failed")
)

// authorizer knows the one token, as a digest, so that a comparison tells nothing about its length either.
type authorizer struct{ digest [sha256.Size]byte }

func newAuthorizer(token string) authorizer { return authorizer{sha256.Sum256([]byte(token))} }

func (a authorizer) check(r *http.Request) error {
	given := credentials(r)
	if len(given) == 0 {
		return errNoCredentials
	}
	good := 0
	for _, token := range given {
		d := sha256.Sum256([]byte(token))
		good |= subtle.ConstantTimeCompare(d[:], a.digest[:])
	}
	if good == 0 {
		return errUnauthorized
	}
	return nil
}

// credentials returns what may be the token: u and p parameters before the Authorization header, as in InfluxDB. Of
// "Token user:password" it may be the whole or the password.
func credentials(r *http.Request) []string {
	q := r.URL.Query()
	if u, p := q.Get("u"), q.Get("p"); u != "" && p != "" {
		return []string{p}
	}
	if _, p, ok := r.BasicAuth(); ok {
		return []string{p}
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" {
		return nil
	}
	switch scheme {
	case "Bearer":
		return []string{token}
	case "Token":
		if _, password, ok := strings.Cut(token, ":"); ok {
			return []string{token, password}
		}
		return []string{token}
	}
	return nil
}

// authorized lets only requests with the token through.
func (h *handler) authorized(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.auth.check(r); err != nil {
			h.metrics.unauthorized.Inc()
			respondError(w, http.StatusUnauthorized, err)
			return
		}
		next(w, r)
	})
}
