package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What a proof of possession calls itself, so that it never passes for a token, nor a token for a proof.
const (
	ProofType     = "fairlead-enroll+jwt"
	ProofAudience = "fairlead-enroll"
)

// maxProofLife bounds how long a proof is good.
const maxProofLife = 10 * time.Minute

// Proof is what a device must show of a key.
type Proof struct {
	Device string
	Now    time.Time
	Skew   time.Duration
}

// CheckProof reports whether raw is a JWT that was made with the private half of key a moment ago, for the device. Its
// error is a *Refusal.
func CheckProof(raw string, key *PublicKey, want Proof) error {
	t, rej := parse(raw, nil)
	if rej != nil {
		return rej
	}
	c := &t.claims
	now, skew := want.Now.UnixMilli(), want.Skew.Milliseconds()
	switch {
	case !strings.EqualFold(t.header.Typ, ProofType):
		return refuse(Malformed, "typ is not "+ProofType)
	case t.header.Alg != key.alg:
		return refuse(Malformed, fmt.Sprintf("alg is %.16q, but the key is for %s", t.header.Alg, key.alg))
	case !slices.Contains(c.Audience, ProofAudience):
		return refuse(WrongAudience, "aud is not "+ProofAudience)
	case c.Subject != want.Device:
		return refuse(Malformed, "sub is not the id")
	case !c.hasIssued:
		return refuse(Malformed, "no iat")
	case now >= c.Expires+skew:
		return refuse(Expired, "the proof has expired")
	case c.IssuedAt > now+skew, c.hasNbf && c.NotBefore > now+skew:
		return refuse(NotYetValid, "the proof is from the future")
	case c.Expires <= c.IssuedAt || c.Expires-c.IssuedAt > maxProofLife.Milliseconds():
		return refuse(Malformed, fmt.Sprintf("exp must be after iat by at most %s", maxProofLife))
	case !key.verify(t.signing, t.signature):
		return refuse(BadSignature, "the key did not sign this")
	}
	return nil
}
