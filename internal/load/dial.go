package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// Target is where devices connect to, and from where.
type Target struct {
	URL     string   // ws:// or wss://, with the path
	CAFile  string   // to trust; empty: the system's
	Tokens  []string // one device each
	Sources int      // loopback addresses to connect from; 0: one
	Net     byte     // of the addresses: 127.0.Net.x; 0: 1
	// Lean leaves out what costs the loader, which stands for many machines, more than the hub: it checks no certificate,
	// and offers X25519 alone.
	Lean bool
}

// dialer makes the devices' connections.
type dialer struct {
	Target
	to  *url.URL
	tls *tls.Config // nil: plain
}

const dialTime = 30 * time.Second

func newDialer(t Target) (*dialer, error) {
	to, err := url.Parse(t.URL)
	if err != nil {
		return nil, fmt.Errorf("address of the hub: %w", err)
	}
	d := &dialer{Target: t, to: to}
	d.Net = max(d.Net, 1)
	if to.Scheme != "wss" { // MQTT is measured plain
		return d, nil
	}
	d.tls = &tls.Config{ServerName: to.Hostname(), MinVersion: tls.VersionTLS12}
	if t.Lean {
		d.tls.InsecureSkipVerify = true // the hub on loopback is the bench's own
		d.tls.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA of the hub: %w", err)
		}
		d.tls.RootCAs = x509.NewCertPool()
		if !d.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("CA of the hub: no certificate in " + t.CAFile)
		}
	}
	return d, nil
}

func (d *dialer) mqtt() bool { return d.to.Scheme == "mqtt" }

// dial connects device i and returns what came right behind the answer to the handshake.
func (d *dialer) dial(ctx context.Context, i int) (conn net.Conn, rest []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	nd := net.Dialer{}
	if d.Sources > 1 { // more connections than one address has ports
		nd.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, d.Net, byte(1+i%d.Sources))}
	}
	conn, err = nd.DialContext(ctx, "tcp", d.to.Host)
	if err != nil {
		return nil, nil, err
	}
	if d.tls != nil {
		conn = tls.Client(conn, d.tls)
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if d.mqtt() {
		err = introduce(conn, clientName(i))
	} else {
		rest, err = d.shake(conn, d.Tokens[i])
	}
	_ = conn.SetDeadline(time.Time{}) // if it fails, so does reading
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, rest, nil
}

// shake opens the WebSocket [RFC6455 4.1]. The key is constant: nobody stands between.
func (d *dialer) shake(conn net.Conn, token string) (rest []byte, err error) {
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+
		"Sec-WebSocket-Protocol: fairlead.v1.json\r\nAuthorization: Bearer %s\r\n\r\n", d.to.Path, d.to.Host, token)
	if err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(conn, 1<<10)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, refused(resp)
	}
	rest, err = br.Peek(br.Buffered())
	return append([]byte(nil), rest...), err
}

// refusal is a handshake that the hub answered with another status.
type refusal struct {
	status string
	body   []byte
	after  time.Duration // Retry-After
}

func refused(resp *http.Response) *refusal {
	r := &refusal{status: resp.Status}
	r.body, _ = io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // it only says more
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.after = time.Duration(n) * time.Second
	}
	return r
}

// Error says what the hub said.
func (r *refusal) Error() string { return fmt.Sprintf("handshake: %s: %s", r.status, r.body) }
