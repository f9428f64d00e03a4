package sim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Bounds of provisioning.
const (
	provisionCalls   = 8 // at once
	provisionTries   = 6
	provisionTimeout = 10 * time.Second
	provisionWait    = 500 * time.Millisecond // before a second try; it doubles
	maxAnswer        = 1 << 20                // bytes of an answer of the operator API
	ownKeyID         = "own-1"
	ownTokenTTL      = 15 * time.Minute
)

// APIError is a problem document of the operator API.
type APIError struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Title  string `json:"title"`
	Hint   string `json:"hint"`

	retryAfter time.Duration
}

// final reports whether the same call would be refused again.
func (e *APIError) final() bool {
	return e.Status/100 == 4 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusRequestTimeout
}

// Error names the status, the code, the detail and the hint.
func (e *APIError) Error() string {
	s := fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Detail)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Operator provisions devices through the operator API.
type Operator struct {
	url   string
	token string
	http  *http.Client
	slots chan struct{}
}

// NewOperator returns an operator of the hub at the given https address. The transport carries the trusted CA.
func NewOperator(hub, token string, transport http.RoundTripper) (*Operator, error) {
	u, err := url.Parse(hub)
	if err != nil {
		return nil, fmt.Errorf("hub url: %w", err)
	}
	if u.Scheme = map[string]string{"wss": "https", "https": "https", "ws": "http", "http": "http"}[u.Scheme]; u.Scheme == "" || u.Host == "" {
		return nil, fmt.Errorf("hub url %q: want https://host:port", hub)
	}
	if token == "" {
		return nil, errors.New("an operator token is needed to provision devices")
	}
	return &Operator{
		url: u.Scheme + "://" + u.Host + "/api/v1", token: token, slots: make(chan struct{}, provisionCalls),
		http: &http.Client{Transport: transport, Timeout: provisionTimeout},
	}, nil
}

// key is a public key as the API takes it.
type key struct {
	KeyID     string `json:"kid"`
	PublicKey string `json:"public_key"`
}

type newDeviceRequest struct {
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels,omitempty"`
	Keys   []key             `json:"keys,omitempty"`
}

type tokenAnswer struct {
	Token string `json:"token"`
}

// AddDevice makes the device's record and returns its first token. For a device that is there already it mints one more.
func (o *Operator) AddDevice(ctx context.Context, id string, labels map[string]string) (string, error) {
	var made tokenAnswer
	err := o.call(ctx, "/devices", newDeviceRequest{ID: id, Labels: labels}, &made)
	if conflict(err) {
		return o.MintToken(ctx, id)
	}
	return made.Token, err
}

// MintToken returns a fresh token of a device.
func (o *Operator) MintToken(ctx context.Context, id string) (string, error) {
	var minted tokenAnswer
	err := o.call(ctx, "/devices/"+url.PathEscape(id)+"/tokens", struct{}{}, &minted)
	return minted.Token, err
}

// AddKey gives the device a public key, and makes its record if there is none.
func (o *Operator) AddKey(ctx context.Context, id string, labels map[string]string, public crypto.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("encode public key: %w", err)
	}
	k := key{KeyID: ownKeyID, PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
	err = o.call(ctx, "/devices", newDeviceRequest{ID: id, Labels: labels, Keys: []key{k}}, nil)
	if conflict(err) {
		return o.call(ctx, "/devices/"+url.PathEscape(id)+"/keys", k, nil)
	}
	return err
}

func conflict(err error) bool {
	var problem *APIError
	return errors.As(err, &problem) && problem.Status == http.StatusConflict
}

// call posts and tries again while the hub says that it is busy.
func (o *Operator) call(ctx context.Context, path string, body, into any) error {
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	wait := provisionWait
	for try := 1; ; try++ {
		err := o.post(ctx, path, body, into)
		var problem *APIError
		busy := errors.As(err, &problem) && (problem.Status == http.StatusTooManyRequests || problem.Status == http.StatusServiceUnavailable)
		if !busy || try == provisionTries {
			return err
		}
		if !sleep(ctx, max(wait, problem.retryAfter)) {
			return errors.Join(ctx.Err(), err)
		}
		wait *= 2
	}
}

func (o *Operator) post(ctx context.Context, path string, body, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+path, bytes.NewReader(mustJSON(body)))
	if err != nil {
		return fmt.Errorf("post %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := o.http.Do(req)
	if err != nil {
		return fmt.Errorf("post %s: %w", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("post %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		problem := &APIError{retryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
		if json.Unmarshal(answer, problem) != nil || problem.Detail == "" {
			problem.Detail = strings.TrimSpace(string(answer[:min(len(answer), 200)]))
		}
		problem.Status = resp.StatusCode
		return fmt.Errorf("post %s: %w", path, problem)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("post %s: answer: %w", path, err)
	}
	return nil
}

// MintedTokens is the token source of devices that the hub mints tokens for. It adds a device when it is first asked for
// it, and mints another token when a fresh one is asked for.
type MintedTokens struct {
	operator *Operator
	labels   func(device string) map[string]string // may be nil

	mu     sync.Mutex
	tokens map[string]string // the last of each device
}

// NewMintedTokens returns the source; labels, which may be nil, gives the labels of a new device.
func NewMintedTokens(o *Operator, labels func(device string) map[string]string) *MintedTokens {
	return &MintedTokens{operator: o, labels: labels, tokens: map[string]string{}}
}

// Token returns the device's last token, as a device keeps it over a reconnect, or mints a fresh one.
func (m *MintedTokens) Token(ctx context.Context, device string, fresh bool) (string, error) {
	m.mu.Lock()
	token, added := m.tokens[device]
	m.mu.Unlock()
	var err error
	switch {
	case added && !fresh:
		return token, nil
	case added:
		token, err = m.operator.MintToken(ctx, device)
	default:
		token, err = m.operator.AddDevice(ctx, device, labelsOf(m.labels, device))
	}
	if err != nil {
		return "", err
	}
	if token == "" {
		return "", fmt.Errorf("the hub gave no token for device %s", device)
	}
	m.mu.Lock()
	m.tokens[device] = token
	m.mu.Unlock()
	return token, nil
}

func labelsOf(labels func(string) map[string]string, device string) map[string]string {
	if labels == nil {
		return nil
	}
	return labels(device)
}

// OwnKeys is the token source of devices that have a key of their own and sign their tokens with it. It makes the key and
// takes its public half to the hub when it is first asked for a device.
type OwnKeys struct {
	operator *Operator
	labels   func(device string) map[string]string
	audience string

	mu   sync.Mutex
	keys map[string]ed25519.PrivateKey
}

// NewOwnKeys returns the source; labels may be nil.
func NewOwnKeys(o *Operator, audience string, labels func(device string) map[string]string) *OwnKeys {
	return &OwnKeys{operator: o, labels: labels, audience: audience, keys: map[string]ed25519.PrivateKey{}}
}

// Token signs a short token with the device's own key.
func (k *OwnKeys) Token(ctx context.Context, device string, fresh bool) (string, error) {
	k.mu.Lock()
	private := k.keys[device]
	k.mu.Unlock()
	if private == nil {
		public, fresh, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return "", fmt.Errorf("make key of device %s: %w", device, err)
		}
		if err := k.operator.AddKey(ctx, device, labelsOf(k.labels, device), public); err != nil {
			return "", err
		}
		k.mu.Lock()
		k.keys[device] = fresh
		k.mu.Unlock()
		private = fresh
	}
	source := KeyTokens{
		Keys:  func(string) (crypto.Signer, error) { return private, nil },
		KeyID: ownKeyID, Audience: k.audience, TTL: ownTokenTTL,
	}
	return source.Token(ctx, device, fresh)
}
