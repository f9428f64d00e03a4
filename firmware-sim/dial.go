package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Bounds of one connection.
const (
	devicePath       = "/v1/device"
	handshakeTimeout = 15 * time.Second
	tokenTimeout     = 15 * time.Second
	readBuffer       = 1 << 10
	writeBuffer      = 4 << 10
	readLimit        = 256 << 10 // of a frame from the hub: a desired state may be 32 KiB
	maxRetryAfter    = time.Hour
)

var writeBuffers sync.Pool

// DeviceURL returns the address of the device endpoint for the address of a hub as people write it: https or wss, with
// or without the path.
func DeviceURL(hub string) (string, error) {
	u, err := url.Parse(hub)
	if err != nil {
		return "", fmt.Errorf("hub url: %w", err)
	}
	switch u.Scheme {
	case "https", "wss":
		u.Scheme = "wss"
	case "http", "ws":
		u.Scheme = "ws"
	default:
		return "", fmt.Errorf("hub url %q: want https://host:port or wss://host:port", hub)
	}
	if u.Host == "" {
		return "", fmt.Errorf("hub url %q has no host", hub)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = devicePath
	}
	return u.String(), nil
}

// TrustCA returns a TLS configuration that trusts the certificates in file, or the system's for no file. All devices of
// a process share it and its session cache, as a device does that keeps its ticket over a reconnect.
func TrustCA(file string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	if file == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca file: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca file %s holds no PEM certificate", file)
	}
	return cfg, nil
}

// dial opens a socket; fresh asks for a token other than the one used before. The error is a *Refusal if the hub answered with anything but the upgrade.
func (u *Uplink) dial(ctx context.Context, device string, fresh bool) (*websocket.Conn, error) {
	token, err := u.token(ctx, device, fresh)
	if err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{
		TLSClientConfig: u.TLS, HandshakeTimeout: handshakeTimeout, Subprotocols: []string{u.Codec.Subprotocol()},
		ReadBufferSize: readBuffer, WriteBufferSize: writeBuffer, WriteBufferPool: &writeBuffers,
		Proxy: http.ProxyFromEnvironment,
	}
	conn, resp, err := dialer.DialContext(ctx, u.URL, http.Header{"Authorization": {"Bearer " + token}}) //nolint:bodyclose // the body of a refused handshake is in memory and needs no closing
	if err != nil {
		if errors.Is(err, websocket.ErrBadHandshake) && resp != nil {
			return nil, refusalOf(resp)
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	if got := conn.Subprotocol(); got != u.Codec.Subprotocol() && (got != "" || u.Codec != wire.JSON) {
		_ = conn.Close() // the error below is the one that matters
		return nil, fmt.Errorf("connect: the hub chose subprotocol %q, offered was %q", got, u.Codec.Subprotocol())
	}
	return conn, nil
}

func (u *Uplink) token(ctx context.Context, device string, fresh bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := u.Tokens.Token(ctx, device, fresh)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return token, nil
}

// refusalOf reads the problem document; gorilla has read the first KiB of the body and closed it.
func refusalOf(resp *http.Response) *Refusal {
	r := &Refusal{Status: resp.StatusCode, Detail: "no reason given", Code: "none"}
	var doc struct {
		Title, Detail, Code string
		Time                int64
	}
	if json.NewDecoder(resp.Body).Decode(&doc) == nil {
		r.Time = doc.Time
		if doc.Code != "" {
			r.Code = doc.Code
		}
		if doc.Detail != "" {
			r.Detail = doc.Detail
		} else if doc.Title != "" {
			r.Detail = doc.Title
		}
	}
	r.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	return r
}

// retryAfter reads both forms of the header [RFC9110 10.2.3].
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetryAfter)
	}
	return 0
}
