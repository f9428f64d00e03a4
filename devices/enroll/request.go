package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
	"github.com/fairlead-hub/fairlead/internal/strictjson"
)

// Request is what a device sends.
type Request struct {
	Secret    string          `json:"secret"`
	ID        string          `json:"id"`
	KID       string          `json:"kid"`        // optional
	PublicKey string          `json:"public_key"` // PEM; or
	JWK       json.RawMessage `json:"jwk"`
	Proof     string          `json:"proof"`
	Model     string          `json:"model"`    // optional
	Firmware  string          `json:"firmware"` // optional
}

// parse reads a request. Unknown members are ignored, as everywhere in the device protocol; one that comes twice is not.
func parse(data []byte) (*Request, *problem.Document) {
	r := &Request{}
	if err := strictjson.DecodeOpen(data, r); err != nil {
		doc := problem.New(http.StatusBadRequest, codeBody, err.Error())
		if fault := (*strictjson.Fault)(nil); errors.As(err, &fault) {
			doc = doc.WithPath(fault.Path)
		}
		return nil, doc
	}
	switch {
	case r.Secret == "":
		return nil, missing("secret")
	case r.Proof == "":
		return nil, missing("proof")
	case (r.PublicKey == "") == (len(r.JWK) == 0):
		return nil, problem.New(http.StatusBadRequest, codeKey, "want either public_key (PEM) or jwk").WithPath("public_key")
	}
	if err := wire.CheckID(r.ID); err != nil {
		return nil, problem.New(http.StatusBadRequest, codeID, err.Error()).WithPath("id")
	}
	return r, nil
}

func missing(name string) *problem.Document {
	return problem.New(http.StatusBadRequest, codeBody, name+" is missing").WithPath(name)
}

// key is the device's public key, which the proof must be signed with.
func (r *Request) key(now time.Time, skew time.Duration) (devices.Key, *problem.Document) {
	text, path := r.PublicKey, "public_key"
	if text == "" {
		text, path = string(r.JWK), "jwk"
	}
	k, err := auth.ParsePublicKey(r.KID, text)
	if err != nil {
		return devices.Key{}, problem.New(http.StatusBadRequest, codeKey, err.Error()).WithPath(path).
			WithHint("an Ed25519, EC P-256 or RSA key of 2048 to 4096 bits; the public half only")
	}
	if err := auth.CheckProof(r.Proof, k, auth.Proof{Device: r.ID, Now: now, Skew: skew}); err != nil {
		detail := err.Error()
		if rej := (*auth.Refusal)(nil); errors.As(err, &rej) {
			detail = rej.Detail
		}
		return devices.Key{}, problem.New(http.StatusUnauthorized, codeProof, detail).WithPath("proof").
			WithHint("a JWT of typ " + auth.ProofType + " and aud " + auth.ProofAudience + ", signed with this key; compare your clock with time")
	}
	out, err := devices.NewKey(k.KID(), text)
	if err != nil {
		return devices.Key{}, problem.New(http.StatusBadRequest, codeKey, err.Error()).WithPath(path)
	}
	return out, nil
}

// outcome is what became of a good request.
type outcome struct {
	rec  *devices.Record
	kid  string
	code string
}

// enroll makes the record of a device, or finds the one that it made before.
func (e *Enrollments) enroll(ctx context.Context, en *Enrollment, r *Request, key devices.Key) (outcome, error) {
	if en.Prefix != "" && !strings.HasPrefix(r.ID, en.Prefix) {
		return outcome{}, problem.New(http.StatusForbidden, codeNotHere, "this enrollment takes ids that begin with "+en.Prefix).WithPath("id")
	}
	if rec, ok := e.records.Record(r.ID); ok {
		return repeated(rec, key)
	}
	number, err := e.take(ctx, en.ID, slot{Device: r.ID, Key: key.PEM, Since: e.now().UTC()})
	if err != nil {
		return outcome{}, err
	}
	rec, err := e.records.Create(ctx, &devices.Record{
		ID: r.ID, Labels: en.Labels, Keys: []devices.Key{key}, Model: r.Model, Firmware: r.Firmware,
		Enrollment: en.ID, Slot: number, Pending: en.Approve,
	})
	switch {
	case err == nil && rec.Pending:
		return outcome{rec: rec, kid: key.KID, code: codePending}, nil
	case err == nil:
		return outcome{rec: rec, kid: key.KID, code: codeEnrolled}, nil
	case errors.Is(err, devices.ErrExists):
		if rec, err = e.records.Refresh(ctx, r.ID); err != nil {
			return outcome{}, fmt.Errorf("enrol %s: %w", r.ID, err)
		}
		if rec.Enrollment != en.ID || rec.Slot != number { // else it was the same device, which asked twice at once
			if err := e.giveBack(ctx, en.ID, number); err != nil {
				return outcome{}, err
			}
		}
		return repeated(rec, key)
	case errors.Is(err, devices.ErrInvalid):
		refused := problem.New(http.StatusBadRequest, codeBody, err.Error())
		if err := e.giveBack(ctx, en.ID, number); err != nil {
			return outcome{}, errors.Join(refused, err)
		}
		return outcome{}, refused
	}
	// Whether there is a record now is not known. The slot stays taken: settle looks into it.
	return outcome{}, err
}

// repeated answers for a device that has a record: it is the same one if it holds the same key.
func repeated(rec *devices.Record, key devices.Key) (outcome, error) {
	at := holdsKey(rec, key)
	switch {
	case at < 0:
		return outcome{}, refuseExists()
	case rec.Disabled:
		return outcome{}, problem.New(http.StatusForbidden, codeDisabled, "the device is disabled")
	case rec.Pending:
		return outcome{rec: rec, kid: rec.Keys[at].KID, code: codePending}, nil
	}
	return outcome{rec: rec, kid: rec.Keys[at].KID, code: codeRepeated}, nil
}

// holdsKey is the place of a key in a record, whatever it is called there, or -1.
func holdsKey(rec *devices.Record, key devices.Key) int {
	for i, k := range rec.Keys {
		if k.PEM == key.PEM {
			return i
		}
	}
	return -1
}
