package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/commands/api"
)

type httpRequest = http.Request

// foreign signs an otherwise good token with another kind of key.
func foreign(t *testing.T, alg, kid string, key any) string {
	t.Helper()
	now := time.Now()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{
		"iss": issuer, "sub": "admin", "aud": api.TokenAudience, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"jti": "1", "minted_ms": now.Add(time.Second).UnixMilli(),
	})
	token.Header["typ"], token.Header["kid"] = api.TokenType, kid
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
