package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/auth"
)

// forgery is a token that must not be taken.
type forgery struct {
	name  string
	token string
	want  auth.Code
}

// TestForgedTokens presents every forgery that we know of. Each is one change away from a token that is good.
func TestForgedTokens(t *testing.T) {
	l := newLogin(t)
	b, _ := issuedBench(t, l, func(c *configs.Issuer) { c.DeviceClaim, c.Audience = "device_id", "plant-api" })
	b.accounts.set("token-less", auth.Account{NotBefore: b.now})
	canary, outbound := listen(t)
	var all []forgery
	all = append(all, b.algorithms()...)
	all = append(all, b.keyNames(canary)...)
	all = append(all, b.headers()...)
	all = append(all, b.dates()...)
	all = append(all, b.audiences()...)
	all = append(all, b.subjects()...)
	all = append(all, b.shapes()...)
	all = append(all, b.foreign(l, canary)...)
	accepted, crashed := 0, 0
	for _, f := range all {
		got := verifySafely(b, f.token)
		switch {
		case got == "":
			accepted++
		case got == "crash":
			crashed++
		}
		if got != f.want {
			t.Errorf("%-40s expected %s, got %q", f.name, f.want, got)
		} else {
			t.Logf("%-40s expected %s, got %s", f.name, f.want, got)
		}
	}
	if n := outbound(); n != 0 {
		t.Errorf("%d connections to addresses that tokens named", n)
	}
	fmt.Printf("jwt corpus: cases=%d accepted=%d crashed=%d\n", len(all), accepted, crashed)
	if len(all) < 160 || accepted+crashed != 0 {
		t.Fail()
	}
}

// foreign are forgeries in the name of an outside issuer.
func (b *bench) foreign(l *login, canary string) []forgery {
	ed, ec := newKeys()
	l.publish("ed", ed, "x5u", canary+"/x5u")
	l.publish("ec", ec)
	good := b.issued("sub", "x", "device_id", "pump-7", "aud", "plant-api")
	b.eventually(l.token("ed", good), "")
	_, stranger, _ := newEd()
	raw := func(header string, claims claimSet, key any) string { return b.signRaw(header, jsonOf(claims), key) }
	c := func(kv ...any) string { return l.token("ed", with(good, kv...)) }
	edKID := `{"alg":"EdDSA","kid":"ed"}`
	return []forgery{
		{"issuer: stranger's key", raw(edKID, good, stranger), auth.BadSignature},
		{"issuer: the device's own key of that kid", raw(edKID, good, b.ed), auth.BadSignature},
		{"issuer: kid unknown", raw(`{"alg":"EdDSA","kid":"nobody"}`, good, ed), auth.UnknownKey},
		{"issuer: no kid, two keys", raw(`{"alg":"EdDSA"}`, good, ed), auth.UnknownKey},
		{"issuer: kid empty", raw(`{"alg":"EdDSA","kid":""}`, good, ed), auth.Malformed},
		{"issuer: kid NUL", raw(`{"alg":"EdDSA","kid":"e\u0000d"}`, good, ed), auth.Malformed},
		{"issuer: kid of 1000 characters", raw(`{"alg":"EdDSA","kid":"`+strings.Repeat("a", 1000)+`"}`, good, ed), auth.Malformed},
		{"issuer: kid a hub key's", raw(`{"alg":"EdDSA","kid":"`+b.hubKID()+`"}`, good, ed), auth.UnknownKey},
		{"issuer: alg of another key", raw(`{"alg":"ES256","kid":"ed"}`, good, ec), auth.UnknownKey},
		{"issuer: alg HS256 with the public key", raw(`{"alg":"HS256","kid":"ed"}`, good, []byte(ed.Public().(ed25519.PublicKey))), auth.Malformed},
		{"issuer: alg none", b64(`{"alg":"none","kid":"ed"}`) + "." + jsonB64(good) + ".", auth.Malformed},
		{"issuer: jku", raw(`{"alg":"EdDSA","kid":"ed","jku":"`+canary+`/jwks"}`, good, stranger), auth.BadSignature},
		{"issuer: jwk", raw(`{"alg":"EdDSA","kid":"ed","jwk":{"kty":"OKP","crv":"Ed25519","x":"`+edX(stranger)+`"}}`, good, stranger), auth.BadSignature},
		{"issuer: crit", raw(`{"alg":"EdDSA","kid":"ed","crit":["exp"]}`, good, ed), auth.Malformed},
		{"issuer: typ of an id token's kind", raw(`{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}`, good, ed), auth.Malformed},
		{"issuer: typ of an operator", raw(`{"alg":"EdDSA","kid":"ed","typ":"fairlead-operator+jwt"}`, good, ed), auth.Malformed},
		{"issuer: iss with a trailing slash", c("iss", loginName+"/", "aud", "fairlead"), auth.UnknownKey},
		{"issuer: iss an array", c("iss", []string{loginName}), auth.Malformed},
		{"issuer: its key, the device's iss", raw(edKID, with(good, "iss", "pump-7", "sub", "pump-7", "aud", "fairlead"), ed), auth.BadSignature},
		{"issuer: its key, the hub's iss", raw(`{"alg":"EdDSA","typ":"`+auth.Type+`","kid":"ed"}`, with(good, "iss", "fairlead", "sub", "pump-7", "aud", "fairlead", "jti", "x"), ed), auth.UnknownKey},
		{"issuer: the hub's audience", c("aud", "fairlead"), auth.WrongAudience},
		{"issuer: aud missing", c("aud", nil), auth.WrongAudience},
		{"issuer: device claim missing", c("device_id", nil), auth.Malformed},
		{"issuer: device claim an array", c("device_id", []string{"pump-7"}), auth.Malformed},
		{"issuer: device claim a wildcard", c("device_id", ">"), auth.Malformed},
		{"issuer: device claim twice", b.signRaw(edKID, strings.Replace(jsonOf(good), "{", `{"device_id":"pump-8",`, 1), ed), auth.Malformed},
		{"issuer: device without a record", c("device_id", "nobody"), auth.UnknownDevice},
		{"issuer: expired", c("iat", b.now.Unix()-7200, "exp", b.now.Unix()-61), auth.Expired},
		{"issuer: lives for a year", c("exp", b.now.Unix()+365*24*3600), auth.Malformed},
		{"issuer: exp missing", c("exp", nil), auth.Malformed},
		{"issuer: nbf in the future", c("nbf", b.now.Unix()+62), auth.NotYetValid},
		{"issuer: iat before a revocation", l.token("ed", with(good, "device_id", "token-less", "iat", b.now.Unix()-60)), auth.Revoked},
	}
}

func verifySafely(b *bench, token string) (code auth.Code) {
	defer func() {
		if recover() != nil {
			code = "crash"
		}
	}()
	_, err := b.verifier.Verify(token)
	return codeOf(err)
}

// listen counts connections to an address that only a token names.
func listen(t *testing.T) (url string, count func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := make(chan int)
	go func() {
		seen := 0
		for {
			c, err := l.Accept()
			if err != nil {
				n <- seen
				return
			}
			seen++
			c.Close()
		}
	}()
	return "http://" + l.Addr().String(), func() int { l.Close(); return <-n }
}

func (b *bench) algorithms() []forgery {
	good := b.good()
	head := func(alg any) claimSet { return claimSet{"alg": alg, "typ": "JWT", "kid": "ed"} }
	unsigned := func(alg string) string { return b64(`{"alg":"`+alg+`","kid":"ed"}`) + "." + jsonB64(good) + "." }
	hs := func(kid string, secret []byte) string {
		return b.signRaw(`{"alg":"HS256","kid":"`+kid+`"}`, jsonOf(good), secret)
	}
	edRaw := []byte(b.ed.Public().(ed25519.PublicKey))
	der, _ := x509.MarshalPKIXPublicKey(b.rsa.Public())
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	signing := b64(`{"alg":"ES256","kid":"ec"}`) + "." + jsonB64(good)
	sum := sha512.Sum384([]byte(signing))
	r, s, _ := ecdsa.Sign(rand.Reader, p384, sum[:])
	p384sig := base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...))
	zero := base64.RawURLEncoding.EncodeToString(make([]byte, 64))
	rs512, _ := jwt.SigningMethodRS512.Sign(b64(`{"alg":"RS512","kid":"rsa"}`)+"."+jsonB64(good), b.rsa)
	return []forgery{
		{"alg none", unsigned("none"), auth.Malformed},
		{"alg none with signature", b.signRaw(`{"alg":"none"}`, jsonOf(good), b.ed), auth.Malformed},
		{"alg None", b.signRaw(`{"alg":"None"}`, jsonOf(good), b.ed), auth.Malformed},
		{"alg NONE", b.signRaw(`{"alg":"NONE"}`, jsonOf(good), b.ed), auth.Malformed},
		{"alg empty", b.signRaw(`{"alg":"","kid":"ed"}`, jsonOf(good), b.ed), auth.Malformed},
		{"alg missing", b.signRaw(`{"kid":"ed"}`, jsonOf(good), b.ed), auth.Malformed},
		{"alg an array", b.sign(head([]string{"EdDSA"}), good), auth.Malformed},
		{"alg in lower case", b.sign(head("eddsa"), good), auth.Malformed},
		{"alg HS256, RSA public key DER as secret", hs("rsa", der), auth.Malformed},
		{"alg HS256, Ed25519 public key as secret", hs("ed", edRaw), auth.Malformed},
		{"alg HS256, empty secret, unknown kid", hs("nobody", []byte{}), auth.Malformed},
		{"alg HS256, empty secret, empty kid", hs("", []byte{}), auth.Malformed},
		{"alg PS256", b.sign(head("PS256"), good), auth.Malformed},
		{"alg RS512", b64(`{"alg":"RS512","kid":"rsa"}`) + "." + jsonB64(good) + "." + base64.RawURLEncoding.EncodeToString(rs512), auth.Malformed},
		{"alg of another key: ES256 says EdDSA's kid", b.signRaw(`{"alg":"ES256","kid":"ed"}`, jsonOf(good), b.ec), auth.UnknownKey},
		{"alg of another key: EdDSA says RSA's kid", b.signRaw(`{"alg":"EdDSA","kid":"rsa"}`, jsonOf(good), b.ed), auth.UnknownKey},
		{"ES256 signature of zeros", signing + "." + zero, auth.BadSignature},
		{"ES256 signature by a P-384 key", signing + "." + p384sig, auth.BadSignature},
		{"ES256 signature cut short", signing + "." + zero[:80], auth.BadSignature},
	}
}

func (b *bench) keyNames(canary string) []forgery {
	good := b.good()
	_, other, _ := newEd()
	kid := func(k string) string { return b.signRaw(`{"alg":"EdDSA","kid":`+k+`}`, jsonOf(good), b.ed) }
	hubLike := with(good, "iss", "fairlead", "jti", "x")
	attacker := func(extra string) string {
		return b.signRaw(`{"alg":"EdDSA","kid":"ed",`+extra+`}`, jsonOf(good), other)
	}
	hubKID := b.hubKID()
	return []forgery{
		{"kid missing, three keys", b.signRaw(`{"alg":"EdDSA"}`, jsonOf(good), b.ed), auth.UnknownKey},
		{"kid empty", kid(`""`), auth.Malformed},
		{"kid unknown", kid(`"nobody"`), auth.UnknownKey},
		{"kid a path", kid(`"../../dev/null"`), auth.Malformed},
		{"kid SQL", kid(`"x' OR '1'='1"`), auth.Malformed},
		{"kid a URL", kid(`"` + canary + `/key"`), auth.Malformed},
		{"kid NUL", kid(`"e\u0000d"`), auth.Malformed},
		{"kid an array", kid(`["ed"]`), auth.Malformed},
		{"kid a number", kid(`7`), auth.Malformed},
		{"kid of 1 MB", kid(`"` + strings.Repeat("a", 1<<20) + `"`), auth.Malformed},
		{"kid of 200 characters", kid(`"` + strings.Repeat("a", 200) + `"`), auth.Malformed},
		{"kid of a hub key, device's iss", b.signRaw(`{"alg":"EdDSA","kid":"`+hubKID+`"}`, jsonOf(good), b.ed), auth.UnknownKey},
		{"another device's key", b.signRaw(`{"alg":"EdDSA","kid":"ed"}`, jsonOf(with(good, "sub", "pump-8")), b.ed), auth.UnknownKey},
		{"hub's iss signed by the device", b.signRaw(`{"alg":"EdDSA","typ":"`+auth.Type+`","kid":"ed"}`, jsonOf(hubLike), b.ed), auth.UnknownKey},
		{"hub's iss and kid signed by the device", b.signRaw(`{"alg":"EdDSA","typ":"`+auth.Type+`","kid":"`+hubKID+`"}`, jsonOf(hubLike), b.ed), auth.BadSignature},
		{"stranger's key", b.signRaw(`{"alg":"EdDSA","kid":"ed"}`, jsonOf(good), other), auth.BadSignature},
		{"jku", attacker(`"jku":"` + canary + `/jwks"`), auth.BadSignature},
		{"x5u", attacker(`"x5u":"` + canary + `/cert"`), auth.BadSignature},
		{"jwk", attacker(`"jwk":{"kty":"OKP","crv":"Ed25519","x":"` + edX(other) + `"}`), auth.BadSignature},
		{"x5c", attacker(`"x5c":["AAAA"]`), auth.BadSignature},
	}
}

func (b *bench) headers() []forgery {
	good := jsonOf(b.good())
	h := func(s string) string { return b.signRaw(s, good, b.ed) }
	operator, err := b.hub.Sign("fairlead-operator+jwt", jwt.MapClaims{
		"iss": "fairlead", "aud": "fairlead", "sub": "pump-8", "jti": "x", "iat": b.now.Unix(), "exp": b.now.Unix() + 60,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return []forgery{
		{"crit unknown", h(`{"alg":"EdDSA","kid":"ed","crit":["x"],"x":1}`), auth.Malformed},
		{"crit empty", h(`{"alg":"EdDSA","kid":"ed","crit":[]}`), auth.Malformed},
		{"crit b64", h(`{"alg":"EdDSA","kid":"ed","crit":["b64"],"b64":false}`), auth.Malformed},
		{"b64 false without crit", h(`{"alg":"EdDSA","kid":"ed","b64":false}`), auth.Malformed},
		{"zip", h(`{"alg":"EdDSA","kid":"ed","zip":"DEF"}`), auth.Malformed},
		{"typ of another kind", h(`{"alg":"EdDSA","kid":"ed","typ":"fairlead-operator+jwt"}`), auth.Malformed},
		{"typ a number", h(`{"alg":"EdDSA","kid":"ed","typ":1}`), auth.Malformed},
		{"operator's token of the hub", operator, auth.Malformed},
		{"alg twice", h(`{"alg":"none","alg":"EdDSA","kid":"ed"}`), auth.Malformed},
		{"alg twice in other case", h(`{"ALG":"none","alg":"EdDSA","kid":"ed"}`), auth.Malformed},
		{"kid twice", h(`{"alg":"EdDSA","kid":"x","kid":"ed"}`), auth.Malformed},
		{"kid twice, one escaped", h(`{"alg":"EdDSA","\u006bid":"x","kid":"ed"}`), auth.Malformed},
		{"BOM", h("\xef\xbb\xbf" + `{"alg":"EdDSA","kid":"ed"}`), auth.Malformed},
		{"header an array", h(`["EdDSA"]`), auth.Malformed},
		{"header null", h(`null`), auth.Malformed},
		{"two objects", h(`{"alg":"EdDSA","kid":"ed"}{}`), auth.Malformed},
		{"header not UTF-8", h("{\"alg\":\"EdDSA\",\"kid\":\"ed\",\"x\":\"\xff\"}"), auth.Malformed},
		{"a hundred members", h(`{"alg":"EdDSA","kid":"ed"` + manyMembers(100) + `}`), auth.Malformed},
	}
}

func (b *bench) dates() []forgery {
	now := b.now.Unix()
	c := func(kv ...any) string { return b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), kv...)) }
	raw := func(exp string) string {
		return b.signRaw(`{"alg":"EdDSA","kid":"ed"}`, fmt.Sprintf(`{"sub":"pump-7","aud":"fairlead","iat":%d,"exp":%s}`, now, exp), b.ed)
	}
	return []forgery{
		{"exp missing", c("exp", nil), auth.Malformed},
		{"exp zero", raw("0"), auth.Expired},
		{"exp negative", raw("-1"), auth.Malformed},
		{"exp 1e300", raw("1e300"), auth.Malformed},
		{"exp 1e999", raw("1e999"), auth.Malformed},
		{"exp NaN", raw(`"NaN"`), auth.Malformed},
		{"exp a string", raw(fmt.Sprintf(`"%d"`, now+60)), auth.Malformed},
		{"exp null", raw("null"), auth.Malformed},
		{"exp an array", raw(fmt.Sprintf("[%d]", now+60)), auth.Malformed},
		{"exp in the year 3 million", raw("99999999999999"), auth.Malformed},
		{"exp in other case only", b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "exp", nil, "EXP", now+60)), auth.Malformed},
		{"exp past the skew", c("iat", now-7200, "exp", now-60), auth.Expired},
		{"exp a day and a second after iat", c("exp", now+24*3600+1), auth.Malformed},
		{"exp in a day and a second, no iat", c("iat", nil, "exp", now+24*3600+2), auth.Malformed},
		{"exp before iat", c("iat", now+30, "exp", now+10), auth.Malformed},
		{"iat beyond the skew", c("iat", now+62, "exp", now+3600), auth.NotYetValid},
		{"iat a string", c("iat", "now"), auth.Malformed},
		{"nbf beyond the skew", c("nbf", now+62), auth.NotYetValid},
		{"nbf a boolean", c("nbf", true), auth.Malformed},
		{"iat old, so the life is too long", c("iat", now-25*3600, "exp", now+60), auth.Malformed},
	}
}

func (b *bench) audiences() []forgery {
	c := func(aud any) string { return b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "aud", aud)) }
	iss := func(iss any) string { return b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "iss", iss)) }
	return []forgery{
		{"aud missing", c(nil), auth.WrongAudience},
		{"aud of another hub", c("other"), auth.WrongAudience},
		{"aud empty", c(""), auth.WrongAudience},
		{"aud an empty array", c([]string{}), auth.WrongAudience},
		{"aud an array without us", c([]string{"a", "b"}), auth.WrongAudience},
		{"aud in another case", c("Fairlead"), auth.WrongAudience},
		{"aud a number", c(7), auth.Malformed},
		{"aud an array of numbers", c([]any{"fairlead", 7}), auth.Malformed},
		{"aud an object", c(claimSet{"fairlead": true}), auth.Malformed},
		{"iss of a stranger", iss("https://evil.example"), auth.UnknownKey},
		{"iss with a trailing slash", iss("fairlead/"), auth.UnknownKey},
		{"iss in another case", iss("FAIRLEAD"), auth.UnknownKey},
		{"iss of another device", iss("pump-8"), auth.UnknownKey},
		{"iss a number", iss(7), auth.Malformed},
	}
}

func (b *bench) subjects() []forgery {
	c := func(sub any) string { return b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "sub", sub)) }
	raw := func(claims string) string {
		return b.signRaw(`{"alg":"EdDSA","kid":"ed"}`, fmt.Sprintf(claims, b.now.Unix()+60), b.ed)
	}
	return []forgery{
		{"sub missing", c(nil), auth.Malformed},
		{"sub empty", c(""), auth.Malformed},
		{"sub *", c("*"), auth.Malformed},
		{"sub >", c(">"), auth.Malformed},
		{"sub a.b", c("a.b"), auth.Malformed},
		{"sub a/b", c("a/b"), auth.Malformed},
		{"sub with NUL", c("pump-7\x00"), auth.Malformed},
		{"sub with a newline", c("pump-7\n"), auth.Malformed},
		{"sub of 10 KB", c(strings.Repeat("a", 10<<10)), auth.Malformed},
		{"sub of 65 characters", c(strings.Repeat("a", 65)), auth.Malformed},
		{"sub homoglyph", c("рump-7"), auth.Malformed},
		{"sub a number", c(7), auth.Malformed},
		{"sub null", raw(`{"sub":null,"aud":"fairlead","exp":%d}`), auth.Malformed},
		{"sub twice", raw(`{"sub":"pump-8","sub":"pump-7","aud":"fairlead","exp":%d}`), auth.Malformed},
		{"sub twice in other case", raw(`{"sub":"pump-7","SUB":"pump-8","aud":"fairlead","exp":%d}`), auth.Malformed},
		{"sub in other case only", raw(`{"Sub":"pump-7","aud":"fairlead","exp":%d}`), auth.Malformed},
		{"exp twice", raw(`{"sub":"pump-7","aud":"fairlead","exp":1,"exp":%d}`), auth.Malformed},
		{"claims not UTF-8", raw("{\"sub\":\"pump-7\",\"aud\":\"fairlead\",\"x\":\"\xff\",\"exp\":%d}"), auth.Malformed},
		{"claims an array", raw(`[%d]`), auth.Malformed},
		{"revoked: no iat", b.noIAT(), auth.Revoked},
	}
}

// noIAT is a token that cannot say whether it is older than a revocation.
func (b *bench) noIAT() string {
	key, err := auth.NewPublicKey("ed", b.ed.Public())
	if err != nil {
		b.t.Fatal(err)
	}
	b.accounts.set("token-less", auth.Account{NotBefore: b.now, Keys: []*auth.PublicKey{key}})
	return b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, with(b.good(), "sub", "token-less", "iat", nil))
}

func (b *bench) shapes() []forgery {
	good := b.sign(claimSet{"alg": "EdDSA", "kid": "ed"}, b.good())
	head, rest, _ := strings.Cut(good, ".")
	body, sig, _ := strings.Cut(rest, ".")
	trailing := sig[:len(sig)-1] + string(nextInAlphabet(sig[len(sig)-1]))
	return []forgery{
		{"empty", "", auth.Missing},
		{"one part", head, auth.Malformed},
		{"two parts", head + "." + body, auth.Malformed},
		{"four parts", good + ".x", auth.Malformed},
		{"no signature", head + "." + body + ".", auth.Malformed},
		{"no header", "." + body + "." + sig, auth.Malformed},
		{"only dots", "..", auth.Malformed},
		{"1 MB of dots", strings.Repeat(".", 1<<20), auth.Malformed},
		{"4 KB of dots", strings.Repeat(".", 4<<10), auth.Malformed},
		{"over 4 KiB", good + strings.Repeat("A", 4<<10), auth.Malformed},
		{"JWE compact", strings.Repeat("e30.", 4) + "e30", auth.Malformed},
		{"JSON serialisation", `{"payload":"e30","signatures":[]}`, auth.Malformed},
		{"newline in the signature", head + "." + body + "." + sig[:10] + "\n" + sig[10:], auth.Malformed},
		{"newline in the claims", head + "." + body[:4] + "\n" + body[4:] + "." + sig, auth.Malformed},
		{"trailing bits in the signature", head + "." + body + "." + trailing, auth.Malformed},
		{"padded", head + "." + body + "." + sig + "==", auth.Malformed},
		{"standard alphabet", strings.NewReplacer("-", "+", "_", "/").Replace(head + "." + body + ".+/" + sig[2:]), auth.Malformed},
		{"another's claims under the signature", head + "." + jsonB64(with(b.good(), "exp", b.now.Unix()+7200)) + "." + sig, auth.BadSignature},
		{"another header over the signature", b64(`{"alg":"EdDSA","kid":"ed","typ":"JWT"}`) + "." + body + "." + sig, auth.BadSignature},
		{"deep JSON", head + "." + b64(strings.Repeat(`{"a":`, 400)+"1"+strings.Repeat("}", 400)) + "." + sig, auth.Malformed},
		{"blank in front", " " + good, auth.Malformed},
		{"blank behind", good + " ", auth.Malformed},
	}
}
