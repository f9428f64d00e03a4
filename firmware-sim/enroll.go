package sim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What a proof of possession says of itself, as docs/device-protocol.md has it.
const (
	proofType     = "fairlead-enroll+jwt"
	proofAudience = "fairlead-enroll"
	proofTTL      = 2 * time.Minute

	// approvalWait is how long a device that waits for an operator waits before it asks again; up to twice that.
	approvalWait = 3 * time.Second
)

// EnrollOptions say how devices enrol themselves.
type EnrollOptions struct {
	Hub       string // https address
	Secret    string
	Algorithm string // ES256 or EdDSA
	KeysDir   string // where the devices keep their private keys; empty: in memory only
	Transport http.RoundTripper
	Log       *slog.Logger // nil: none
}

// Enrollment is the token source of devices that make their own records: each makes a key, shows the fleet's secret and
// the key's public half to the hub, and signs its tokens with the key from then on.
type Enrollment struct {
	opts  EnrollOptions
	url   string
	http  *http.Client
	slots chan struct{}

	mu       sync.Mutex
	keys     map[string]crypto.Signer // of devices that are about to be enrolled: a second try must come with the same
	enrolled map[string]enrolled
}

// enrolled is what a device knows after its enrollment.
type enrolled struct {
	key      crypto.Signer
	kid      string
	audience string
}

// NewEnrollment returns the source.
func NewEnrollment(o EnrollOptions) (*Enrollment, error) {
	u, err := url.Parse(o.Hub)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("hub url %q: want https://host:port", o.Hub)
	}
	if o.Secret == "" {
		return nil, errors.New("an enrollment needs its secret")
	}
	if o.Algorithm != "ES256" && o.Algorithm != "EdDSA" {
		return nil, fmt.Errorf("algorithm %q: want ES256 or EdDSA", o.Algorithm)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.KeysDir != "" {
		if err := os.MkdirAll(o.KeysDir, 0o700); err != nil {
			return nil, fmt.Errorf("keys of devices: %w", err)
		}
	}
	return &Enrollment{
		opts: o, url: u.Scheme + "://" + u.Host + "/v1/enroll", slots: make(chan struct{}, provisionCalls), enrolled: map[string]enrolled{},
		keys: map[string]crypto.Signer{},
		http: &http.Client{Transport: o.Transport, Timeout: provisionTimeout},
	}, nil
}

// Token signs a short token, after enrolling the device if that was not done yet. While the device waits for an
// operator's approval, so does Token.
func (e *Enrollment) Token(ctx context.Context, device string, fresh bool) (string, error) {
	e.mu.Lock()
	known, ok := e.enrolled[device]
	e.mu.Unlock()
	if !ok {
		var err error
		if known, err = e.enroll(ctx, device); err != nil {
			return "", fmt.Errorf("enrol %s: %w", device, err)
		}
		e.mu.Lock()
		e.enrolled[device] = known
		delete(e.keys, device)
		e.mu.Unlock()
	}
	source := KeyTokens{
		Keys:  func(string) (crypto.Signer, error) { return known.key, nil },
		KeyID: known.kid, Audience: known.audience, TTL: ownTokenTTL,
	}
	return source.Token(ctx, device, fresh)
}

type enrollRequest struct {
	Secret    string `json:"secret"`
	ID        string `json:"id"`
	PublicKey string `json:"public_key"`
	Proof     string `json:"proof"`
}

type enrollAnswer struct {
	Device struct {
		Pending bool `json:"pending"`
	} `json:"device"`
	KID      string `json:"kid"`
	Audience string `json:"audience"`
}

func (e *Enrollment) enroll(ctx context.Context, device string) (enrolled, error) {
	e.mu.Lock()
	key := e.keys[device]
	e.mu.Unlock()
	told := key != nil
	if key == nil {
		var err error
		if key, err = e.key(device); err != nil {
			return enrolled{}, err
		}
		e.mu.Lock()
		e.keys[device] = key
		e.mu.Unlock()
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return enrolled{}, fmt.Errorf("encode public key: %w", err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	for {
		proof, err := prove(device, key)
		if err != nil {
			return enrolled{}, err
		}
		got, err := e.ask(ctx, enrollRequest{Secret: e.opts.Secret, ID: device, PublicKey: public, Proof: proof})
		if err != nil {
			return enrolled{}, err
		}
		if !got.Device.Pending {
			e.opts.Log.Debug("enrolled", keyDevice, device, "kid", got.KID)
			return enrolled{key: key, kid: got.KID, audience: got.Audience}, nil
		}
		if !told {
			e.opts.Log.Info("waits for an operator's approval", keyDevice, device)
			told = true
		}
		if !sleep(ctx, approvalWait+mrand.N(approvalWait)) {
			return enrolled{}, ctx.Err()
		}
	}
}

// prove signs what shows that the device holds the private half of its key.
func prove(device string, key crypto.Signer) (string, error) {
	var method jwt.SigningMethod = jwt.SigningMethodEdDSA
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		method = jwt.SigningMethodES256
	}
	now := time.Now()
	t := jwt.NewWithClaims(method, jwt.MapClaims{
		"sub": device, "aud": proofAudience, "iat": now.Unix(), "exp": now.Add(proofTTL).Unix(),
	})
	t.Header["typ"] = proofType
	s, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign proof: %w", err)
	}
	return s, nil
}

// ask posts, and again while the hub is busy.
func (e *Enrollment) ask(ctx context.Context, r enrollRequest) (enrollAnswer, error) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return enrollAnswer{}, ctx.Err()
	}
	wait := provisionWait
	for {
		got, err := e.post(ctx, r)
		var problem *APIError
		if err == nil || errors.As(err, &problem) && problem.final() {
			return got, err
		}
		asked := time.Duration(0)
		if problem != nil {
			asked = problem.retryAfter
		}
		if !sleep(ctx, max(wait, asked)) {
			return got, errors.Join(ctx.Err(), err)
		}
		wait = min(2*wait, defaultBackoffMax)
	}
}

func (e *Enrollment) post(ctx context.Context, r enrollRequest) (got enrollAnswer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(mustJSON(r)))
	if err != nil {
		return got, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return got, err
	}
	if resp.StatusCode/100 != 2 {
		problem := &APIError{retryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
		if json.Unmarshal(answer, problem) != nil || problem.Detail == "" {
			problem.Detail = strings.TrimSpace(string(answer[:min(len(answer), 200)]))
		}
		problem.Status = resp.StatusCode
		return got, problem
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return got, fmt.Errorf("answer: %w", err)
	}
	return got, nil
}

// key is the device's private key: the one that it has kept, or a new one.
func (e *Enrollment) key(device string) (crypto.Signer, error) {
	if e.opts.KeysDir == "" {
		return e.newKey()
	}
	name := filepath.Join(e.opts.KeysDir, device+".pem")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return e.keepKey(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("key %s is not PEM", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key %s is a %T", name, parsed)
	}
	return key, nil
}

func (e *Enrollment) newKey() (crypto.Signer, error) {
	if e.opts.Algorithm == "ES256" {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

func (e *Enrollment) keepKey(name string) (crypto.Signer, error) {
	key, err := e.newKey()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("keep key: %w", err)
	}
	return key, nil
}
