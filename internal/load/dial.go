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
	"time"
)

// dialer makes the devices' connections.
type dialer struct {
	spec Spec
	to   *url.URL
	tls  *tls.Config // nil: plain
}

const dialTime = 30 * time.Second

func newDialer(spec Spec) (*dialer, error) {
	to, err := url.Parse(spec.URL)
	if err != nil {
		return nil, fmt.Errorf("address of the hub: %w", err)
	}
	d := &dialer{spec: spec, to: to}
	if to.Scheme != "wss" { // MQTT is measured plain
		return d, nil
	}
	d.tls = &tls.Config{ServerName: to.Hostname(), MinVersion: tls.VersionTLS12}
	if spec.CAFile != "" {
		pem, err := os.ReadFile(spec.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA of the hub: %w", err)
		}
		d.tls.RootCAs = x509.NewCertPool()
		if !d.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("CA of the hub: no certificate in " + spec.CAFile)
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
	if d.spec.Sources > 1 { // more connections than one address has ports
		nd.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%d.spec.Sources))}
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
		rest, err = d.shake(conn, d.spec.Tokens[i])
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
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // it only says more
		return nil, fmt.Errorf("handshake: %s: %s", resp.Status, body)
	}
	rest, err = br.Peek(br.Buffered())
	return append([]byte(nil), rest...), err
}
