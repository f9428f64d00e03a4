package devices_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// nullLog stores everything at once and nowhere.
type nullLog struct{}

func (nullLog) Open(_ string, _ map[string]string, w devices.Waiter) devices.TelemetrySource {
	return nullSource{w}
}

type nullSource struct{ w devices.Waiter }

func (s nullSource) Append(t *wire.Telemetry) error { s.w.Stored(t.Seq); return nil }
func (nullSource) Close()                           {}

// bare is what anybody would build with the library, tuned the same way: no token, no registry, no heartbeat.
type bare struct {
	upgrader websocket.Upgrader
	buffers  sync.Pool
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    []*websocket.Conn
}

func newBare() *bare {
	return &bare{
		upgrader: websocket.Upgrader{ReadBufferSize: 512, WriteBufferPool: &sync.Pool{}},
		buffers:  sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := b.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	b.mu.Lock()
	b.conns = append(b.conns, ws)
	b.mu.Unlock()
	_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"welcome"}`))
	b.wg.Go(func() { b.read(ws) })
}

func (b *bare) read(ws *websocket.Conn) {
	for {
		_, r, err := ws.NextReader()
		if err != nil {
			return
		}
		buf := b.buffers.Get().(*bytes.Buffer)
		buf.Reset()
		if _, err := buf.ReadFrom(r); err != nil {
			return
		}
		// The least an acknowledging server does: find the number, answer with it.
		_, rest, _ := strings.Cut(buf.String(), `"seq":`)
		seq, _, _ := strings.Cut(rest, ",")
		b.buffers.Put(buf)
		if ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"ack","seq":`+seq+`}`)) != nil {
			return
		}
	}
}

func (b *bare) close() {
	b.mu.Lock()
	for _, ws := range b.conns {
		ws.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// selfSigned is a certificate for loopback.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// listenFor serves handler, over TLS if asked, and returns its address.
func listenFor(t testing.TB, handler http.Handler, useTLS bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if useTLS {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MinVersion: tls.VersionTLS12})
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		wg.Wait()
	})
	return addr
}

// memory is what the process holds after the garbage is gone.
type memory struct{ rss, heap, stack float64 }

func settled(b testing.TB) memory {
	b.Helper()
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, resident float64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		b.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memory{rss: resident * float64(os.Getpagesize()), heap: float64(m.HeapInuse), stack: float64(m.StackInuse)}
}

// slope connects few and then many devices and returns what one costs.
func slope(b *testing.B, addr string, useTLS bool, tokens []string, few int) memory {
	b.Helper()
	f := startFleet(b, addr, useTLS)
	f.join(tokens[:few])
	first := settled(b)
	f.join(tokens[few:])
	second := settled(b)
	n := float64(len(tokens) - few)
	return memory{(second.rss - first.rss) / n, (second.heap - first.heap) / n, (second.stack - first.stack) / n}
}

// benchHub is a hub whose log is nowhere, with n devices.
func benchHub(b *testing.B, n int) (http.Handler, *hub, []string) {
	b.Helper()
	h := startHub(b, func(o *options) {
		o.telemetry = nullLog{}
		o.cfg.Devices.FramesPerSecond = 10_000_000 // counted, and never reached
	})
	tokens := make([]string, n)
	var wg sync.WaitGroup
	for part := range 8 {
		wg.Go(func() {
			for i := part; i < n; i += 8 {
				id := fmt.Sprintf("device-%05d", i)
				if _, err := h.records.Create(context.Background(), &devices.Record{ID: id}); err != nil {
					b.Error(err)
					return
				}
				tokens[i] = h.token(id)
			}
		})
	}
	wg.Wait()
	return h.handler, h, tokens
}

const benchSessions, benchFew = 10_000, 2_000

// BenchmarkIdleSession prints what an idle authenticated session costs, as the slope between 2,000 and 10,000 of them
// after three frames each, and the same for a bare server of the library in the same run.
func BenchmarkIdleSession(b *testing.B) {
	for _, useTLS := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "tls"}[useTLS]
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				server := newBare()
				base := slope(b, listenFor(b, server, useTLS), useTLS, make([]string, benchSessions), benchFew)
				server.close()
				handler, h, tokens := benchHub(b, benchSessions)
				got := slope(b, listenFor(b, handler, useTLS), useTLS, tokens, benchFew)
				if err := h.stop(); err != nil {
					b.Error(err)
				}
				b.ReportMetric(got.rss, "rss-B/session")
				b.ReportMetric(got.heap, "heap-B/session")
				b.ReportMetric(got.stack, "stack-B/session")
				b.ReportMetric(base.rss, "bare-rss-B/session")
				b.ReportMetric(base.heap, "bare-heap-B/session")
				b.ReportMetric(got.rss/base.rss, "x-bare")
			}
		})
	}
}

// cpu is the processor time that this process has used.
func cpu(b testing.TB) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFrames prints the server's processor time per acknowledged frame through sessions whose log is nowhere, and
// through the bare server.
func BenchmarkFrames(b *testing.B) {
	const conns, seconds = 50, 3
	for _, window := range []int{1, 16} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			for b.Loop() {
				server := newBare()
				baseCPU, baseRate := floodOf(b, listenFor(b, server, false), make([]string, conns), seconds, window)
				server.close()
				handler, h, tokens := benchHub(b, conns)
				gotCPU, gotRate := floodOf(b, listenFor(b, handler, false), tokens, seconds, window)
				if err := h.stop(); err != nil {
					b.Error(err)
				}
				b.ReportMetric(gotCPU, "cpu-us/frame")
				b.ReportMetric(gotRate, "frames/s")
				b.ReportMetric(baseCPU, "bare-cpu-us/frame")
				b.ReportMetric(baseRate, "bare-frames/s")
			}
		})
	}
}

func floodOf(b *testing.B, addr string, tokens []string, seconds float64, window int) (cpuUS, rate float64) {
	b.Helper()
	f := startFleet(b, addr, false)
	f.join(tokens)
	f.flood(0.5, window) // warm
	start, used := time.Now(), cpu(b)
	n := f.flood(seconds, window)
	used = cpu(b) - used
	return float64(used.Microseconds()) / float64(n), float64(n) / time.Since(start).Seconds()
}

// BenchmarkConnect prints the server's processor time per connect with a token that was seen before, as in a reconnect
// storm, and per connect to the bare server.
func BenchmarkConnect(b *testing.B) {
	const n = 3000
	for b.Loop() {
		server := newBare()
		base := connectCost(b, listenFor(b, server, false), make([]string, n))
		server.close()
		handler, h, tokens := benchHub(b, n)
		addr := listenFor(b, handler, false)
		fresh := connectCost(b, addr, tokens)
		again := connectCost(b, addr, tokens)
		if err := h.stop(); err != nil {
			b.Error(err)
		}
		b.ReportMetric(fresh, "fresh-cpu-us/connect")
		b.ReportMetric(again, "again-cpu-us/connect")
		b.ReportMetric(base, "bare-cpu-us/connect")
	}
}

// connectCost includes the three frames and acks of each device; the bare server's does too.
func connectCost(b *testing.B, addr string, tokens []string) float64 {
	b.Helper()
	f := startFleet(b, addr, false)
	used := cpu(b)
	f.join(tokens)
	used = cpu(b) - used
	f.in.Close()
	return float64(used.Microseconds()) / float64(len(tokens))
}
