package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// The times of a connection.
const (
	keepAlive        = 30 * time.Second
	pingTimeout      = 10 * time.Second
	connectTimeout   = 10 * time.Second
	writeTimeout     = 10 * time.Second
	subscribeTimeout = 20 * time.Second
	goodbye          = 250 * time.Millisecond
)

// errLost is why a link ended when paho names no reason.
var errLost = errors.New("connection lost")

// link is one connection to the broker, from CONNECT to its end. Each has a paho client of its own: paho may not be
// used again after a disconnect, completes tokens across its own reconnects though no PUBACK came, and resends what it
// kept on its own account. A link that ends takes all that with it; what it had not confirmed is published again by
// whoever published it.
type link struct {
	epoch  uint64
	client mqtt.Client
	over   chan struct{} // closed when it ends
	once   sync.Once
	up     atomic.Bool
	cause  error // set before over is closed
}

func (l *link) isUp() bool { return l.up.Load() }

// end marks the link as over; the first cause counts.
func (l *link) end(cause error) {
	l.once.Do(func() {
		l.up.Store(false)
		l.cause = cause
		close(l.over)
	})
}

// dialer is what is needed to open links.
type dialer struct {
	name     string
	url      *url.URL
	clientID string
	username string
	password string
	tls      *tls.Config
}

// open connects. handle is called for each message, one after the other.
func (d *dialer) open(ctx context.Context, epoch uint64, handle func(*link, mqtt.Message)) (*link, error) {
	l := &link{epoch: epoch, over: make(chan struct{})}
	opts := mqtt.NewClientOptions().
		AddBroker(d.url.String()).
		SetClientID(d.clientID).
		SetUsername(d.username).
		SetPassword(d.password).
		SetProtocolVersion(4).
		SetCleanSession(false).
		SetAutoAckDisabled(true).
		SetOrderMatters(true).
		SetAutoReconnect(false). // the connection opens a new link instead
		SetConnectRetry(false).
		SetKeepAlive(keepAlive).
		SetPingTimeout(pingTimeout).
		SetConnectTimeout(connectTimeout).
		SetWriteTimeout(writeTimeout).
		SetStore(mqtt.NewOrderedMemoryStore()).
		SetTLSConfig(d.tls).
		SetCustomOpenConnectionFn(func(uri *url.URL, o mqtt.ClientOptions) (net.Conn, error) { return d.dial(ctx, uri, o) }).
		// The session's messages may come before SUBSCRIBE is answered, so the handler is there from the start.
		SetDefaultPublishHandler(func(_ mqtt.Client, msg mqtt.Message) { handle(l, msg) }).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { l.end(fmt.Errorf("%w: %w", errLost, err)) })
	l.client = mqtt.NewClient(opts)
	l.up.Store(true)
	token := l.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		<-token.Done() // the dial ends with ctx, the handshake with connectTimeout
	}
	if err := token.Error(); err != nil {
		l.end(err)
		return nil, d.explain(err)
	}
	if err := ctx.Err(); err != nil {
		d.close(l, err)
		return nil, err
	}
	return l, nil
}

// close ends the link politely.
func (d *dialer) close(l *link, cause error) {
	l.end(cause)
	l.client.Disconnect(uint(goodbye / time.Millisecond))
}

// explain says what to look at.
func (d *dialer) explain(err error) error {
	where := d.url.Redacted()
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return fmt.Errorf("connect to %s: the broker refuses user %q: wrong username or password, or not allowed: %w", where, d.username, err)
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return fmt.Errorf("connect to %s: the broker refuses client_id %q: %w", where, d.clientID, err)
	}
	return fmt.Errorf("connect to %s: %w", where, err)
}

func (d *dialer) dial(ctx context.Context, uri *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var conn net.Conn
	var err error
	switch uri.Scheme {
	case "ws", "wss":
		conn, err = mqtt.NewWebsocket(uri.String(), d.tls, connectTimeout, nil, nil)
	case "ssl":
		conn, err = (&tls.Dialer{Config: d.tls}).DialContext(ctx, "tcp", uri.Host)
	default:
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", uri.Host)
	}
	if err != nil {
		return nil, err
	}
	return &timedConn{Conn: conn}, nil
}

// timedConn bounds each write: paho does so for publishes only.
type timedConn struct{ net.Conn }

// Write fails after writeTimeout.
func (c *timedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// subscribe asks for filters, which fit one packet, and returns those that the broker refuses.
func (l *link) subscribe(ctx context.Context, filters []string, qos func(filter string) byte) (refused []string, err error) {
	asked := make(map[string]byte, len(filters))
	for _, filter := range filters {
		asked[filter] = qos(filter)
	}
	token := l.client.SubscribeMultiple(asked, nil)
	if err := l.await(ctx, token, subscribeTimeout); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if granted, ok := token.(*mqtt.SubscribeToken); ok {
		for filter, qos := range granted.Result() {
			if qos > 2 {
				refused = append(refused, filter)
			}
		}
	}
	return refused, nil
}

func (l *link) unsubscribe(ctx context.Context, filters []string) error {
	if err := l.await(ctx, l.client.Unsubscribe(filters...), subscribeTimeout); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	return nil
}

// await waits for a token of this link. A nil error is the broker's own word: the link does not reconnect, so nothing
// but its answer completes a token without an error.
func (l *link) await(ctx context.Context, token mqtt.Token, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-l.over:
		return l.cause
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("no answer from the broker within %s", timeout)
	}
}

// tlsConfig trusts the system's certificates, or those in caFile instead.
func tlsConfig(caFile string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s: no certificate in it", caFile)
	}
	return cfg, nil
}

// schemes are the accepted URL schemes and what they become.
var schemes = map[string]string{
	"tcp": "tcp", "mqtt": "tcp", "ssl": "ssl", "tls": "ssl", "mqtts": "ssl", "ws": "ws", "wss": "wss",
}

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	scheme, ok := schemes[strings.ToLower(u.Scheme)]
	if !ok || u.Host == "" {
		return nil, fmt.Errorf("url %q: want tcp://host:port, ssl://, ws:// or wss://, or embedded", u.Redacted())
	}
	if u.User != nil {
		return nil, fmt.Errorf("url %q: put username and password into their own keys", u.Redacted())
	}
	u.Scheme = scheme
	if u.Port() == "" && scheme != "ws" && scheme != "wss" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"tcp": "1883", "ssl": "8883"}[scheme])
	}
	return u, nil
}
