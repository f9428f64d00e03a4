package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxToken is the longest token that is looked at, in bytes.
const MaxToken = 4 << 10

const (
	maxKID     = 128
	maxMembers = 64
	// maxDate is the end of the year 9999; later dates are mistakes or attacks.
	maxDate = 253402300799
)

// header is the part of a JOSE header that the hub looks at.
type header struct {
	Alg, Typ, KID string

	hasKID bool
}

// claims are the registered claims of a device token.
type claims struct {
	Issuer, Subject, ID string
	Audience            []string
	named               map[string]string // claims of outside issuers that may name the device

	Expires, NotBefore, IssuedAt  int64 // Unix milliseconds
	hasExpires, hasNbf, hasIssued bool
}

// token is a split and decoded, but not yet verified, compact JWS [RFC7515 3.1].
type token struct {
	header    header
	claims    claims
	signing   string
	signature []byte
}

// parse splits and decodes a token without believing any of it. named are the claims beside sub that may name a device.
func parse(s string, named []string) (*token, *Refusal) {
	if s == "" {
		return nil, refuse(Missing, "no token; send Authorization: Bearer <JWT>")
	}
	if len(s) > MaxToken {
		return nil, refuse(Malformed, fmt.Sprintf("token is %d bytes, at most %d are allowed", len(s), MaxToken))
	}
	if strings.Count(s, ".") != 2 {
		return nil, refuse(Malformed, "token is not three parts separated by dots")
	}
	head, rest, _ := strings.Cut(s, ".")
	body, sig, _ := strings.Cut(rest, ".")
	t := &token{signing: s[:len(head)+1+len(body)]}
	raw, err := segment(head)
	if err == nil {
		err = t.header.decode(raw)
	}
	if err != nil {
		return nil, refuse(Malformed, "token header: "+err.Error())
	}
	if raw, err = segment(body); err == nil {
		err = t.claims.decode(raw, named)
	}
	if err != nil {
		return nil, refuse(Malformed, "token claims: "+err.Error())
	}
	if t.signature, err = segment(sig); err != nil {
		return nil, refuse(Malformed, "token signature: "+err.Error())
	}
	return t, nil
}

// strictBase64 refuses trailing bits. It would still skip line breaks, so segment refuses those itself.
var strictBase64 = base64.RawURLEncoding.Strict()

func segment(s string) ([]byte, error) {
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("not base64url")
	}
	b, err := strictBase64.DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	return b, nil
}

// members walks one JSON object whose names are single-valued, also when compared without case: two readers of one
// token must never see two subjects.
func members(data []byte, visit func(name string, value json.RawMessage) error) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	var seen []string
	for dec.More() {
		tok, err := dec.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return errors.New("not valid JSON")
		}
		for _, s := range seen {
			if strings.EqualFold(s, name) {
				return fmt.Errorf("%q twice", name)
			}
		}
		if seen = append(seen, name); len(seen) > maxMembers {
			return fmt.Errorf("more than %d members", maxMembers)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return errors.New("not valid JSON")
		}
		if err := visit(name, value); err != nil {
			return err
		}
	}
	if end, err := dec.Token(); err != nil || end != json.Delim('}') {
		return errors.New("not valid JSON")
	}
	if dec.InputOffset() != int64(len(bytes.TrimRight(data, " \t\r\n"))) {
		return errors.New("more after the object")
	}
	return nil
}

func (h *header) decode(data []byte) error {
	err := members(data, func(name string, value json.RawMessage) (err error) {
		switch name {
		case "alg":
			h.Alg, err = text(value)
		case "typ":
			h.Typ, err = text(value)
		case "kid":
			h.KID, err = text(value)
			h.hasKID = true
		case "crit", "b64", "zip", "enc":
			// What we do not process must not be ignored [RFC7515 4.1.11].
			return fmt.Errorf("%q is not supported", name)
		}
		return wrapName(name, err)
	})
	if err == nil && h.Alg == "" {
		return errors.New("no alg")
	}
	return err
}

// CheckKID reports whether kid may name a key. It is an index into memory and nothing else, and its grammar keeps it so.
func CheckKID(kid string) error {
	if kid == "" || len(kid) > maxKID {
		return fmt.Errorf("kid has %d characters, want 1 to %d", len(kid), maxKID)
	}
	for i := range len(kid) {
		c := kid[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.:-", c) >= 0 {
			continue
		}
		return errors.New("kid has characters other than A-Z a-z 0-9 _ . : -")
	}
	return nil
}

func (c *claims) decode(data []byte, named []string) error {
	err := members(data, func(name string, value json.RawMessage) (err error) {
		if slices.Contains(named, name) {
			if s, err := text(value); err == nil { // another issuer may use the name for something else
				if c.named == nil {
					c.named = make(map[string]string, 1)
				}
				c.named[name] = s
			}
		}
		switch name {
		case "iss":
			c.Issuer, err = text(value)
		case "sub":
			c.Subject, err = text(value)
		case "jti":
			c.ID, err = text(value)
		case "aud":
			c.Audience, err = texts(value)
		case "exp":
			c.Expires, err = date(value)
			c.hasExpires = true
		case "nbf":
			c.NotBefore, err = date(value)
			c.hasNbf = true
		case "iat":
			c.IssuedAt, err = date(value)
			c.hasIssued = true
		}
		return wrapName(name, err)
	})
	if err == nil && !c.hasExpires {
		return errors.New("no exp")
	}
	return err
}

// subject is the device that signed, or was given, a token of the hub or its own.
func (c *claims) subject() (string, error) {
	if c.Subject == "" {
		return "", errors.New("no sub")
	}
	return c.Subject, nil
}

func wrapName(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

func text(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", errors.New("not a string")
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", errors.New("not a string")
	}
	return s, nil
}

func texts(raw json.RawMessage) ([]string, error) {
	if len(raw) > 0 && raw[0] == '"' {
		s, err := text(raw)
		return []string{s}, err
	}
	var values []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &values) != nil {
		return nil, errors.New("neither a string nor an array of strings")
	}
	out := make([]string, 0, len(values))
	for _, v := range values {
		s, err := text(v)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// date reads a NumericDate [RFC7519 2], a JSON number of seconds, as Unix milliseconds.
func date(raw json.RawMessage) (int64, error) {
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, errors.New("not a number")
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f < 0 || f > maxDate {
		return 0, errors.New("not a date between 1970 and 9999")
	}
	return int64(math.Round(f * 1000)), nil
}
