package devices_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
)

// hostile is something a device may send, and what the hub does. After it, if the session still lives, a good frame is
// sent and must be acknowledged: "ok" is at the end of what is wanted then, else the close code.
type hostile struct {
	name  string
	send  []byte
	want  string
	store int // frames that reach the log, the good one not counted
}

func text(s string) []byte { return maskedFrame(0x81, []byte(s)) }

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func point(seq int) string { return fmt.Sprintf(`{"type":"telemetry","seq":%d,"fields":{"a":1}}`, seq) }

func closeFrame(code int, reason string) []byte {
	return maskedFrame(0x88, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// pad makes a telemetry frame of n bytes.
func pad(n int) string {
	head := `{"type":"telemetry","seq":1,"fields":{"a":1}`
	return head + strings.Repeat(" ", n-len(head)-1) + "}"
}

func framing() []hostile {
	var all []hostile
	for bit, name := range map[byte]string{0x40: "RSV1", 0x20: "RSV2", 0x10: "RSV3", 0x70: "all RSV bits"} {
		all = append(all,
			hostile{name + " on text", maskedFrame(0x81|bit, []byte(point(1))), "1002", 0},
			hostile{name + " on ping", maskedFrame(0x89|bit, nil), "1002", 0})
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all = append(all, hostile{fmt.Sprintf("reserved opcode %d", op), maskedFrame(0x80|op, nil), "1002", 0})
	}
	unmasked := append([]byte{0x81, byte(len(point(1)))}, point(1)...)
	huge := func(n uint64) []byte { return frameHeader(0x81, n) }
	all = append(
		all,
		hostile{"unmasked text", unmasked, "1002", 0},
		hostile{"unmasked ping", []byte{0x89, 0}, "1002", 0},
		hostile{"unmasked close", []byte{0x88, 0}, "1002", 0},
		hostile{"fragmented ping", maskedFrame(0x09, nil), "1002", 0},
		hostile{"fragmented close", maskedFrame(0x08, nil), "1002", 0},
		hostile{"ping of 125", maskedFrame(0x89, make([]byte, 125)), "pong ok", 0},
		hostile{"ping of 126", maskedFrame(0x89, make([]byte, 126)), "1002", 0},
		hostile{"pong of 126", maskedFrame(0x8a, make([]byte, 126)), "1002", 0},
		hostile{"close of 126", maskedFrame(0x88, make([]byte, 126)), "1002", 0},
		hostile{"ping of 64 KiB", maskedFrame(0x89, make([]byte, 64<<10)), "1002", 0},
		hostile{"continuation first", maskedFrame(0x80, []byte("x")), "1002", 0},
		hostile{"continuation first, not final", maskedFrame(0x00, []byte("x")), "1002", 0},
		hostile{"text inside a message", cat(maskedFrame(0x01, []byte("{")), text(point(1))), "1002", 0},
		hostile{"binary inside a message", cat(maskedFrame(0x01, []byte("{")), maskedFrame(0x82, nil)), "1002", 0},
		hostile{"continuation after the end", cat(maskedFrame(0x01, []byte(point(1)[:9])), maskedFrame(0x80, []byte(point(1)[9:])), maskedFrame(0x80, nil)), "1002", 1},
		hostile{"ping inside a message", cat(maskedFrame(0x01, []byte(point(1)[:9])), maskedFrame(0x89, []byte("p")), maskedFrame(0x80, []byte(point(1)[9:]))), "pong ok", 1},
		hostile{"close inside a message", cat(maskedFrame(0x01, []byte(point(1)[:9])), closeFrame(1000, "")), "1000", 0},
		hostile{"16 bit length for 5 bytes", cat([]byte{0x81, 0x80 | 126, 0, 5, 0, 0, 0, 0}, []byte("hello")), "1002", 0},
		hostile{"16 bit length for 125 bytes", cat([]byte{0x82, 0x80 | 126, 0, 125, 0, 0, 0, 0}, make([]byte, 125)), "1002", 0},
		hostile{"64 bit length for 300 bytes", cat([]byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 1, 44, 0, 0, 0, 0}, make([]byte, 300)), "1002", 0},
		hostile{"64 bit length for 65535 bytes", cat([]byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, make([]byte, 65535)), "1002", 0},
		hostile{"highest bit of the length", huge(1<<63 + 5), "1002", 0},
		hostile{"length of all ones", huge(1<<64 - 1), "1002", 0},
		hostile{"length 2^63-1", huge(1<<63 - 1), "1009", 0},
		hostile{"length 2^32", huge(1 << 32), "1009", 0},
		hostile{"length 2^31", huge(1 << 31), "1009", 0},
		hostile{"compressed without agreement", maskedFrame(0xc1, []byte{0xaa, 0x56, 0x2a}), "1002", 0},
		hostile{"nothing in a text", text(""), "reject:* ok", 0},
		hostile{"nothing in a binary", maskedFrame(0x82, nil), "4502", 0},
		hostile{"binary in a JSON session", maskedFrame(0x82, []byte(point(1))), "4502", 0},
		hostile{"HTTP in the stream", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "1002", 0},
		hostile{"zeros: empty fragments, unmasked", make([]byte, 4096), "4502", 0},
	)
	return all
}

func sizes() []hostile {
	const limit = 64 << 10
	half := pad(limit)
	return []hostile{
		{"frame of the limit", text(pad(limit)), "ok", 1},
		{"frame of the limit and one", text(pad(limit + 1)), "1009", 0},
		{"frame of 125", text(pad(125)), "ok", 1},
		{"frame of 126", text(pad(126)), "ok", 1},
		{"frame of 65535", text(pad(65535)), "ok", 1},
		{"two halves of the limit", cat(maskedFrame(0x01, []byte(half[:limit/2])), maskedFrame(0x80, []byte(half[limit/2:]))), "ok", 1},
		{"two halves over the limit", cat(maskedFrame(0x01, make([]byte, limit/2)), maskedFrame(0x80, make([]byte, limit/2+1))), "1009", 0},
		{"one byte per fragment, 45 of them", fragments(point(1), 1), "ok", 1},
		{"one byte per fragment, 65 of them", fragments(pad(65), 1), "4502", 0},
		{"empty fragments, a million", cat(maskedFrame(0x01, nil), bytes.Repeat(maskedFrame(0x00, nil), 1_000_000)), "4502", 0},
		{"pongs nobody asked for, 50,000", bytes.Repeat(maskedFrame(0x8a, []byte("x")), 50_000), "ok", 0},
		{"pongs without payload", bytes.Repeat(maskedFrame(0x8a, nil), 1000), "ok", 0},
		{"pings, 1,000", bytes.Repeat(maskedFrame(0x89, []byte("x")), 1000), "4429", 0},
		{"pings, ten", bytes.Repeat(maskedFrame(0x89, []byte("x")), 10), strings.Repeat("pong ", 10) + "ok", 0},
		{"pings inside a message, 1,000", cat(maskedFrame(0x01, []byte("{")), bytes.Repeat(maskedFrame(0x89, []byte("x")), 1000)), "4429", 0},
		{"fragment, 1,000 pongs, fragment", cat(maskedFrame(0x01, []byte(point(1)[:5])), bytes.Repeat(maskedFrame(0x8a, nil), 1000), maskedFrame(0x80, []byte(point(1)[5:]))), "ok", 1},
	}
}

// fragments cuts a message into fragments of n bytes.
func fragments(s string, n int) []byte {
	var out []byte
	for i := 0; i < len(s); i += n {
		first, end := byte(0x00), min(i+n, len(s))
		if i == 0 {
			first = 0x01
		}
		if end == len(s) {
			first |= 0x80
		}
		out = append(out, maskedFrame(first, []byte(s[i:end]))...)
	}
	return out
}

func utf8Cases() []hostile {
	var all []hostile
	good := `{"type":"telemetry","seq":1,"fields":{"a":"κόσμε 😀"}}`
	for i := strings.Index(good, "κ"); i < strings.Index(good, `"}}`); i++ {
		all = append(all, hostile{
			fmt.Sprintf("UTF-8 cut at byte %d", i),
			cat(maskedFrame(0x01, []byte(good[:i])), maskedFrame(0x80, []byte(good[i:]))), "ok", 1,
		})
	}
	for name, bad := range map[string]string{
		"lone continuation": "\x80", "0xff": "\xff", "0xfe 0xff": "\xfe\xff", "overlong slash": "\xc0\xaf",
		"overlong NUL": "\xc0\x80", "overlong of three": "\xe0\x80\xaf", "overlong of four": "\xf0\x80\x80\xaf",
		"surrogate": "\xed\xa0\x80", "surrogate pair": "\xed\xa0\x80\xed\xb0\x80", "above U+10FFFF": "\xf4\x90\x80\x80",
		"five bytes": "\xf8\x88\x80\x80\x80", "cut short": "\xe2\x82", "cut at the end of four": "\xf0\x9f\x98",
	} {
		msg := `{"type":"telemetry","seq":1,"fields":{"a":"` + bad + `"}}`
		all = append(all,
			hostile{"not UTF-8: " + name, text(msg), "1007", 0},
			hostile{"not UTF-8, in fragments: " + name, fragments(msg, 7), "1007", 0})
	}
	return all
}

func closings() []hostile {
	var all []hostile
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		all = append(all, hostile{fmt.Sprintf("close %d", code), closeFrame(code, "done"), fmt.Sprint(code), 0})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all, hostile{fmt.Sprintf("close %d", code), closeFrame(code, ""), "1002", 0})
	}
	return append(
		all,
		hostile{"close without a code", maskedFrame(0x88, nil), "1000", 0},
		hostile{"close with half a code", maskedFrame(0x88, []byte{3}), "1002", 0},
		hostile{"close, reason of 123", closeFrame(1000, strings.Repeat("x", 123)), "1000", 0},
		hostile{"close, reason not UTF-8", closeFrame(1000, "\xff\xfe"), "1002", 0},
		hostile{"data after close", cat(closeFrame(1000, ""), text(point(1))), "1000", 0},
		hostile{"two closes", cat(closeFrame(1000, ""), closeFrame(1001, "")), "1000", 0},
		hostile{"ping after close", cat(closeFrame(1000, ""), maskedFrame(0x89, nil)), "1000", 0},
	)
}

func protocol() []hostile {
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	return []hostile{
		{"not JSON", text("hello"), "reject:* ok", 0},
		{"array", text("[]"), "reject:invalid_frame ok", 0},
		{"null", text("null"), "reject:invalid_frame ok", 0},
		{"no type", text("{}"), "reject:invalid_frame ok", 0},
		{"type a number", text(`{"type":7}`), "reject:invalid_frame ok", 0},
		{"unknown type", text(`{"type":"welcome"}`), "error:unknown_type ok", 0},
		{"unknown type of 10 KB", text(`{"type":"` + strings.Repeat("x", 10<<10) + `"}`), "error:unknown_type ok", 0},
		{"seq zero", text(point(0)), "reject:invalid_frame ok", 0},
		{"seq negative", text(`{"type":"telemetry","seq":-1,"fields":{"a":1}}`), "reject:invalid_frame ok", 0},
		{"seq a string", text(`{"type":"telemetry","seq":"1","fields":{"a":1}}`), "reject:invalid_frame ok", 0},
		{"seq a fraction", text(`{"type":"telemetry","seq":1.5,"fields":{"a":1}}`), "reject:invalid_frame ok", 0},
		{"seq twice", cat(text(point(5)), text(point(5))), "4502", 1},
		{"seq backwards", cat(text(point(5)), text(point(4))), "4502", 1},
		{"seq jumps", cat(text(point(5)), text(point(500))), "ok", 2},
		{"no points", text(`{"type":"telemetry","seq":1,"points":[]}`), "reject:invalid_frame ok", 0},
		{"too many points", text(`{"type":"telemetry","seq":1,"points":[` + strings.Repeat(`{"fields":{"a":1}},`, 1000) + `{"fields":{"a":1}}]}`), "reject:too_many_points ok", 0},
		{"JSON 10,000 deep", text(`{"type":"telemetry","seq":1,"x":` + deep[:30_000] + "}"), "reject:invalid_json ok", 0},
		{"1e400", text(`{"type":"telemetry","seq":1,"fields":{"a":1e400}}`), "reject:invalid_field ok", 0},
		{"NaN", text(`{"type":"telemetry","seq":1,"fields":{"a":NaN}}`), "reject:* ok", 0},
		{"a name of 60 KB that JSON escapes", text(`{"type":"telemetry","seq":1,"fields":{"` + strings.Repeat("<", 60_000) + `":{}}}`), "reject:invalid_field ok", 0},
		{"two objects", text(point(1) + point(2)), "reject:invalid_json ok", 0},
		{"hello too big", text(`{"type":"hello","firmware":"` + strings.Repeat("x", 1000) + `"}`), "error:invalid_hello ok", 0},
		{"hello with commands that are none", text(`{"type":"hello","commands":[{"name":""}]}`), "error:invalid_hello ok", 0},
		{"state nobody keeps", text(`{"type":"state","reported":{}}`), "error:unsupported ok", 0},
		{"token that is none", text(`{"type":"token","token":"x"}`), "4401", 0},
		{"twenty malformed frames", bytes.Repeat(text("{"), 20), strings.Repeat("reject:invalid_json ", 20) + "ok", 0},
		{"twenty-one malformed frames", bytes.Repeat(text("{"), 21), "4400", 0},
	}
}

// TestHostileFrames sends every abuse of the WebSocket protocol and of ours that we know of, each on a connection of
// its own.
func TestHostileFrames(t *testing.T) {
	h := startHub(t, func(o *options) { o.cfg.Devices.ConnectsPerMinute = 0 })
	var all []hostile
	for _, part := range [][]hostile{framing(), sizes(), utf8Cases(), closings(), protocol()} {
		all = append(all, part...)
	}
	before := settled(t)
	var wg sync.WaitGroup
	wrong := make([]string, len(all))
	turns := make(chan struct{}, 8)
	for i, c := range all {
		token := h.device(fmt.Sprintf("case-%d", i))
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			got := provoke(t, h, token, c.send)
			stored := h.log.from(fmt.Sprintf("case-%d", i))
			if strings.HasSuffix(got, "ok") {
				stored--
			}
			if ok, _ := path.Match(c.want, got); !ok || stored != c.store {
				wrong[i] = fmt.Sprintf("%s: expected %s and %d stored, got %s and %d", c.name, c.want, c.store, got, stored)
			}
			t.Logf("%-45s expected %.60s, got %.60s", c.name, c.want, got)
		})
	}
	wg.Wait()
	for _, w := range wrong {
		if w != "" {
			t.Error(w)
		}
	}
	// Crashed would be: the test process is gone, or the hub serves no more.
	c := h.connect(h.device("after"))
	c.send(point(1))
	c.wantAck(1)
	fmt.Printf("websocket corpus: cases=%d crashed=0 rss_growth_mb=%.1f\n", len(all), (settled(t).rss-before.rss)/(1<<20))
	if len(all) < 120 {
		t.Fatalf("%d cases", len(all))
	}
}

// provoke connects, sends, and tells what came back.
func provoke(t *testing.T, h *hub, token string, send []byte) string {
	r := rawDial(t, h, token)
	defer r.conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer r.conn.Close()
	wg.Go(func() {
		r.write(send)
		r.write(text(point(100_000)))
	})
	var got []string
	for {
		first, payload := r.frame()
		s := string(payload)
		switch {
		case first == 0:
			return strings.Join(append(got, "lost"), " ")
		case first == 0x88 && len(payload) >= 2:
			return fmt.Sprint(binary.BigEndian.Uint16(payload))
		case first == 0x88:
			return "1005"
		case first == 0x8a:
			got = append(got, "pong")
		case strings.Contains(s, `"ack"`) && strings.Contains(s, "100000"):
			return strings.Join(append(got, "ok"), " ")
		case strings.Contains(s, `"reject"`), strings.Contains(s, `"error"`):
			kind, _, _ := strings.Cut(strings.SplitN(s, `"type":"`, 2)[1], `"`)
			code, _, _ := strings.Cut(strings.SplitN(s, `"code":"`, 2)[1], `"`)
			got = append(got, kind+":"+code)
		}
	}
}

func (l *telemetryLog) from(device string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, d := range l.frames {
		if d == device {
			n++
		}
	}
	return n
}

// TestMessageMustEnd holds messages open in every way; each session ends ten seconds after the message began.
func TestMessageMustEnd(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	var wg sync.WaitGroup
	for i, c := range []struct {
		name  string
		start []byte
		drip  []byte
	}{
		{"half a frame, then nothing", frameHeader(0x81, 100), nil},
		{"half a frame header", []byte{0x81}, nil},
		{"half a ping", []byte{0x89, 0x85, 1, 2}, nil},
		{"one fragment, then nothing", maskedFrame(0x01, []byte("{")), nil},
		{"one fragment, then pongs for ever", maskedFrame(0x01, []byte("{")), maskedFrame(0x8a, nil)},
		{"a byte at a time", frameHeader(0x81, 60_000), []byte("x")},
	} {
		r := rawDial(t, h, h.device(fmt.Sprintf("drip-%d", i)))
		wg.Go(func() {
			start := time.Now()
			stop := make(chan struct{})
			var dripping sync.WaitGroup
			dripping.Go(func() {
				r.write(c.start)
				tick := time.NewTicker(100 * time.Millisecond)
				defer tick.Stop()
				for c.drip != nil {
					select {
					case <-stop:
						return
					case <-tick.C:
						r.write(c.drip)
					}
				}
			})
			if got := r.closeCode(); got != int(devices.CloseViolation) {
				t.Errorf("%s: closed with %d after %s", c.name, got, time.Since(start))
			}
			close(stop)
			dripping.Wait()
		})
	}
	wg.Wait()
}

// TestHostileHandshakes sends requests that are not quite the handshake of RFC 6455.
func TestHostileHandshakes(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(o *options) { o.cfg.Devices.ConnectsPerMinute = 0 })
	good := "Authorization: Bearer " + h.device("pump-7") + "\r\n"
	edit := func(old, with string) string { return strings.Replace(handshake, old, with, 1) + good + "\r\n" }
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	cases := []struct{ name, request, want string }{
		{"good", handshake + good + "\r\n", "101"},
		{"no key", edit(key, ""), "400"},
		{"short key", edit("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), "400"},
		{"key not base64", edit("dGhlIHNhbXBsZSBub25jZQ==", "!!!!!!!!!!!!!!!!!!!!!!=="), "400"},
		{"two keys", edit(key, key+key), "400"},
		{"version 8", edit("Version: 13", "Version: 8"), "400"},
		{"version 12", edit("Version: 13", "Version: 12"), "400"},
		{"version 14", edit("Version: 13", "Version: 14"), "400"},
		{"two versions", edit("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n"), "400"},
		{"no version", edit("Sec-WebSocket-Version: 13\r\n", ""), "400"},
		{"no upgrade", edit("Upgrade: websocket\r\n", ""), "400"},
		{"upgrade to something else", edit("Upgrade: websocket", "Upgrade: h2c"), "400"},
		{"connection close", edit("Connection: Upgrade", "Connection: close"), "400"},
		{"POST", edit("GET ", "POST "), "400"},
		{"get in lower case", edit("GET ", "get "), "400"},
		{"HTTP/1.0", edit("HTTP/1.1", "HTTP/1.0"), "400"},
		{"HTTP/0.9", edit("HTTP/1.1", "HTTP/0.9"), "505"},
		{"no host", edit("Host: hub\r\n", ""), "400"},
		{"two hosts", edit("Host: hub\r\n", "Host: hub\r\nHost: hub\r\n"), "400"},
		{"a body", edit("Host: hub\r\n", "Host: hub\r\nContent-Length: 5\r\n") + "hello", "400"},
		{"a chunked body", edit("Host: hub\r\n", "Host: hub\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", "400"},
		{"length and chunks", edit("Host: hub\r\n", "Host: hub\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n", "400"},
		{"header of 100 KB", edit("Host: hub\r\n", "Host: hub\r\nX: "+strings.Repeat("x", 100<<10)+"\r\n"), "431"},
		{"NUL in a header", edit("Host: hub\r\n", "Host: hub\r\nX: a\x00b\r\n"), "400"},
		{"blank before the colon", edit("Host: hub\r\n", "Host: hub\r\nX : a\r\n"), "400"},
		{"foreign origin", edit("Host: hub\r\n", "Host: hub\r\nOrigin: https://evil.example\r\n"), "403"},
		{"same origin is not listed either", edit("Host: hub\r\n", "Host: hub\r\nOrigin: http://hub\r\n"), "403"},
		{"token in the query", edit("/v1/device", "/v1/device?access_token=x"), "400"},
		{"no token", handshake + "\r\n", "401"},
		{"token of 5 KB", handshake + "Authorization: Bearer " + strings.Repeat("x", 5<<10) + "\r\n\r\n", "401"},
		{"frame behind the handshake", handshake + good + "\r\n" + string(text(point(1))), "closed"},
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		{"header that never ends", handshake, "closed"},
	}
	var wg sync.WaitGroup
	for _, c := range cases {
		r := rawConn(t, h)
		wg.Go(func() {
			r.write([]byte(c.request))
			if got := r.status(); got != c.want && (c.want != "closed" || got != "408") {
				t.Errorf("%s: expected %s, got %s", c.name, c.want, got)
			}
		})
	}
	wg.Wait()
	fmt.Printf("handshake corpus: cases=%d crashed=0\n", len(cases))
}
