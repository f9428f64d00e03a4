package devices_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// raw is a WebSocket peer that can do everything wrong.
type raw struct {
	t    testing.TB
	conn net.Conn
	br   *bufio.Reader
}

const handshake = "GET /v1/device HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// rawConn opens a TCP connection to the hub.
func rawConn(t testing.TB, h *hub) *raw {
	t.Helper()
	addr := strings.TrimSuffix(strings.TrimPrefix(h.url, "ws://"), "/v1/device")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &raw{t: t, conn: conn, br: bufio.NewReader(conn)}
}

// rawDial connects and reads the welcome.
func rawDial(t testing.TB, h *hub, token string) *raw {
	t.Helper()
	r := rawConn(t, h)
	r.write([]byte(handshake + "Authorization: Bearer " + token + "\r\n\r\n"))
	if status := r.status(); status != "101" {
		t.Fatalf("handshake answered %s", status)
	}
	if !strings.Contains(r.text(), `"welcome"`) {
		t.Fatal("no welcome")
	}
	return r
}

func (r *raw) write(b []byte) {
	_, _ = r.conn.Write(b) // the hub may have closed already; what it says is read after
}

// status reads a response's head and returns its status code, or "closed".
func (r *raw) status() string {
	line, err := r.br.ReadString('\n')
	if err != nil {
		return "closed"
	}
	for {
		l, err := r.br.ReadString('\n')
		if err != nil || l == "\r\n" {
			break
		}
	}
	return strings.Fields(line)[1]
}

// frame reads one frame of the hub; the first byte is 0 if the connection ended.
func (r *raw) frame() (first byte, payload []byte) {
	var head [2]byte
	if _, err := io.ReadFull(r.br, head[:]); err != nil {
		return 0, nil
	}
	n := uint64(head[1] & 0x7f)
	switch n {
	case 126:
		var b [2]byte
		_, _ = io.ReadFull(r.br, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, _ = io.ReadFull(r.br, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r.br, payload); err != nil {
		return 0, nil
	}
	return head[0], payload
}

// text reads up to the next text frame.
func (r *raw) text() string {
	for {
		first, payload := r.frame()
		if first == 0 || first == 0x81 {
			return string(payload)
		}
	}
}

// closeCode reads to the end: the code of the close frame, 0 if there was none.
func (r *raw) closeCode() int {
	for {
		first, payload := r.frame()
		if first == 0 {
			return 0
		}
		if first == 0x88 {
			if len(payload) < 2 {
				return 1005
			}
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}

// frameHeader is a masked frame's head that claims n bytes.
func frameHeader(first byte, n uint64) []byte {
	b := []byte{first}
	switch {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), n)
	}
	return append(b, 1, 2, 3, 4)
}

// maskedFrame is one frame of a client.
func maskedFrame(first byte, payload []byte) []byte {
	b := frameHeader(first, uint64(len(payload)))
	for i, c := range payload {
		b = append(b, c^byte(1+i%4))
	}
	return b
}
