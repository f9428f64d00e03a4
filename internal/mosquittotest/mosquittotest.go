// Package mosquittotest starts Debian's mosquitto and its clients for tests, because what a bridge promises can only be
// shown against a broker that is not ours.
package mosquittotest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// startWithin is how long a broker may take to listen.
const startWithin = 10 * time.Second

// Options are what a test needs of the broker.
type Options struct {
	Username    string // empty: anonymous clients are let in
	Password    string
	Persistence bool     // kept in the test's directory and written on each change
	Config      []string // more lines of mosquitto.conf
}

// Broker is one mosquitto with an address that it keeps over restarts.
type Broker struct {
	Addr string // host:port
	Port string

	tb   testing.TB
	opts Options
	conf string
	cmd  *exec.Cmd
	out  *tail
}

// Start starts a broker on a free loopback port; it is stopped with the test. A machine without mosquitto fails it.
func Start(tb testing.TB, o Options) *Broker {
	tb.Helper()
	binary(tb, "mosquitto")
	port := freePort(tb)
	dir := tb.TempDir()
	b := &Broker{
		Addr: net.JoinHostPort("127.0.0.1", port), Port: port,
		tb: tb, opts: o, conf: filepath.Join(dir, "mosquitto.conf"),
	}
	lines := []string{
		"listener " + port + " 127.0.0.1",
		"log_type error", "log_type warning", "log_type notice",
		"max_queued_messages 100000",
	}
	if os.Geteuid() == 0 {
		lines = append(lines, "user root") // else it changes to a user that may not read the test's directory
	}
	if o.Username == "" {
		lines = append(lines, "allow_anonymous true")
	} else {
		passwords := filepath.Join(dir, "passwords")
		if out, err := exec.CommandContext(tb.Context(), binary(tb, "mosquitto_passwd"), "-c", "-b", passwords, o.Username, o.Password).CombinedOutput(); err != nil {
			tb.Fatalf("mosquitto_passwd: %v\n%s", err, out)
		}
		lines = append(lines, "allow_anonymous false", "password_file "+passwords)
	}
	if o.Persistence {
		lines = append(lines, "persistence true", "persistence_location "+dir+"/", "autosave_on_changes true", "autosave_interval 1")
	} else {
		lines = append(lines, "persistence false")
	}
	lines = append(lines, o.Config...)
	if err := os.WriteFile(b.conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	b.Restart()
	tb.Cleanup(b.Stop)
	return b
}

// URL is the broker's address for a bridge.
func (b *Broker) URL() string { return "tcp://" + b.Addr }

// Restart starts the broker that Stop or Kill has ended, on the same port.
func (b *Broker) Restart() {
	b.tb.Helper()
	b.out = &tail{}
	b.cmd = exec.CommandContext(context.Background(), binary(b.tb, "mosquitto"), "-c", b.conf)
	b.cmd.Stdout, b.cmd.Stderr = b.out, b.out
	if err := b.cmd.Start(); err != nil {
		b.tb.Fatalf("start mosquitto: %v", err)
	}
	deadline := time.Now().Add(startWithin)
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", b.Addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			b.tb.Fatalf("mosquitto does not listen on %s: %v\n%s", b.Addr, err, b.out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Stop ends the broker properly, Kill as a power cut would.
func (b *Broker) Stop() { b.end(os.Interrupt) }

// Kill ends the broker at once.
func (b *Broker) Kill() { b.end(os.Kill) }

func (b *Broker) end(sig os.Signal) {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(sig)
	_ = b.cmd.Wait() // the exit status of a killed process says nothing
	b.cmd = nil
}

// Log returns the last of what the broker has written.
func (b *Broker) Log() string { return b.out.String() }

// Pub publishes with mosquitto_pub and fails the test if that fails.
func (b *Broker) Pub(topic, payload string, more ...string) {
	b.tb.Helper()
	if err := PubTo(b.tb, b.Port, append(b.login(), more...), topic, payload); err != nil {
		b.tb.Fatal(err)
	}
}

// PubTo publishes to any broker on loopback; args are more arguments of mosquitto_pub.
func PubTo(tb testing.TB, port string, args []string, topic, payload string) error {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	args = append([]string{"-h", "127.0.0.1", "-p", port, "-t", topic}, args...)
	if payload == "" {
		args = append(args, "-n")
	} else {
		args = append(args, "-m", payload)
	}
	out, err := exec.CommandContext(ctx, binary(tb, "mosquitto_pub"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mosquitto_pub %s: %w\n%s", topic, err, out)
	}
	return nil
}

// PubLines publishes one message for each line, over one connection at QoS 1; it returns when the broker has
// acknowledged all.
func (b *Broker) PubLines(topic string, lines []string) {
	b.tb.Helper()
	args := append([]string{"-h", "127.0.0.1", "-p", b.Port, "-t", topic, "-q", "1", "-l"}, b.login()...)
	cmd := exec.CommandContext(b.tb.Context(), binary(b.tb, "mosquitto_pub"), args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.tb.Fatalf("mosquitto_pub -l %s: %v\n%s", topic, err, out)
	}
}

func (b *Broker) login() []string {
	if b.opts.Username == "" {
		return nil
	}
	return []string{"-u", b.opts.Username, "-P", b.opts.Password}
}

// Line is one message that mosquitto_sub has got.
type Line struct {
	Topic    string
	Payload  string
	QoS      int
	Retained bool
}

// Sub runs mosquitto_sub until the test ends. It returns when the broker has answered the subscription.
func (b *Broker) Sub(filters ...string) <-chan Line {
	b.tb.Helper()
	return SubTo(b.tb, b.Port, b.login(), filters...)
}

// SubTo is Sub for any broker on loopback.
func SubTo(tb testing.TB, port string, login []string, filters ...string) <-chan Line {
	tb.Helper()
	args := append([]string{"-h", "127.0.0.1", "-p", port, "-q", "1", "-d", "-F", "MSG %q %r %t %p"}, login...)
	for _, f := range filters {
		args = append(args, "-t", f)
	}
	cmd := exec.CommandContext(context.Background(), "stdbuf", append([]string{"-oL", binary(tb, "mosquitto_sub")}, args...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start mosquitto_sub: %v", err)
	}
	ready, lines, done := make(chan struct{}), make(chan Line, 4096), make(chan struct{})
	go func() {
		defer close(done)
		read(stdout, ready, lines)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait() // killed
	})
	select {
	case <-ready:
	case <-done:
		tb.Fatal("mosquitto_sub ended before it was subscribed")
	case <-time.After(startWithin):
		tb.Fatal("mosquitto_sub is not subscribed")
	}
	return lines
}

func read(r io.Reader, ready chan<- struct{}, lines chan<- Line) {
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		text := scan.Text()
		if ready != nil && strings.Contains(text, "received SUBACK") || ready != nil && strings.HasPrefix(text, "Subscribed") {
			close(ready)
			ready = nil
		}
		parts := strings.SplitN(text, " ", 5)
		if len(parts) != 5 || parts[0] != "MSG" {
			continue
		}
		qos, err := strconv.Atoi(parts[1])
		if err != nil {
			continue
		}
		lines <- Line{Topic: parts[3], Payload: parts[4], QoS: qos, Retained: parts[2] == "1"}
	}
}

// binary finds a program or fails the test.
func binary(tb testing.TB, name string) string {
	tb.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	tb.Fatalf("%s is not installed; apt-get install mosquitto mosquitto-clients (make check does)", name)
	return ""
}

func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// tail keeps the last of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 16 << 10

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > tailBytes {
		t.b = t.b[len(t.b)-tailBytes:]
	}
	return len(p), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
