package auth

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// The bounds of a key set.
const (
	jwksTimeout   = 5 * time.Second
	jwksBytes     = 1 << 20
	jwksRedirects = 3
	maxIssuerKeys = 64
	maxForeignKID = 256
)

// published is what a JWKS address answered.
type published struct {
	keys    []*PublicKey
	skipped []error // why other keys of the set are not used
}

// jwksClient returns a client that trusts the CA in caFile, if one is named, and reads no more than it must.
func jwksClient(caFile string) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate", caFile)
		}
	}
	return &http.Client{
		Transport: boundedBodies{&http.Transport{
			// A fetch every few minutes is not worth a connection that stays.
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, ForceAttemptHTTP2: true, DisableKeepAlives: true,
		}},
		Timeout: jwksTimeout,
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) > jwksRedirects || next.URL.Scheme != via[0].URL.Scheme {
				return errors.New("redirected too often, or to another scheme")
			}
			return nil
		},
	}, nil
}

// boundedBodies cuts bodies off; a cut key set does not parse.
type boundedBodies struct{ next http.RoundTripper }

// RoundTrip passes the request on.
func (b boundedBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, jwksBytes), resp.Body}
	return resp, nil
}

// fetchKeys reads a key set. Keys that device tokens may not be signed with are left out.
func fetchKeys(ctx context.Context, client *http.Client, url string) (published, error) {
	store, err := jwkset.NewStorageFromHTTP(url, jwkset.HTTPClientStorageOptions{
		Client: client, Ctx: ctx, HTTPTimeout: jwksTimeout,
		// A use that nobody has heard of leaves its key out, not the whole set. What x5u names is never fetched.
		ValidateOptions: jwkset.JWKValidateOptions{SkipUse: true, SkipKeyOps: true, SkipX5UScheme: true},
	})
	if err != nil {
		return published{}, fmt.Errorf("fetch keys: %w", err)
	}
	all, err := store.KeyReadAll(ctx)
	if err != nil {
		return published{}, fmt.Errorf("read keys: %w", err)
	}
	if len(all) > maxIssuerKeys {
		return published{}, fmt.Errorf("%d keys, at most %d are read", len(all), maxIssuerKeys)
	}
	rules, err := keyfunc.New(keyfunc.Options{Ctx: ctx, Storage: store, UseWhitelist: []jwkset.USE{jwkset.UseSig, ""}})
	if err != nil {
		return published{}, fmt.Errorf("read keys: %w", err)
	}
	var out published
	for _, j := range all {
		k, err := usable(j, rules)
		if err != nil {
			out.skipped = append(out.skipped, fmt.Errorf("key %.40q: %w", j.Marshal().KID, err))
			continue
		}
		out.keys = append(out.keys, k)
	}
	return out, nil
}

// usable is the key of j if device tokens may be signed with it: what the hub asks of every key, and what the set itself
// says of it.
func usable(j jwkset.JWK, rules keyfunc.Keyfunc) (*PublicKey, error) {
	key := j.Key()
	if _, private := key.(crypto.Signer); private {
		return nil, errors.New("published with its private half: whoever reads the set can sign")
	}
	k, err := newPublicKey(j.Marshal().KID, key, checkForeignKID)
	if err != nil {
		return nil, err
	}
	for _, op := range j.Marshal().KEYOPS {
		if op != jwkset.KeyOpsVerify {
			return nil, fmt.Errorf("key_ops has %q", op)
		}
	}
	named, err := rules.Keyfunc(&jwt.Token{Header: map[string]any{jwkset.HeaderKID: j.Marshal().KID, "alg": k.alg}})
	if err != nil {
		return nil, err
	}
	if own, ok := key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(named) {
		return nil, errors.New("another key of the set has the same kid")
	}
	return k, nil
}

// checkForeignKID is CheckKID for the keys of others, who also use all of base64. It stays an index into memory.
func checkForeignKID(kid string) error {
	if kid == "" || len(kid) > maxForeignKID {
		return fmt.Errorf("kid has %d characters, want 1 to %d", len(kid), maxForeignKID)
	}
	for i := range len(kid) {
		if kid[i] <= ' ' || kid[i] > '~' {
			return errors.New("kid has blanks, control characters or other than ASCII")
		}
	}
	return nil
}
