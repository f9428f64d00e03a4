package devices_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// fleetEnv makes the test binary a fleet of devices instead: a client's cost must not be counted as the hub's.
const fleetEnv = "FAIRLEAD_TEST_FLEET"

func TestMain(m *testing.M) {
	if os.Getenv(fleetEnv) != "" {
		runFleet()
		return
	}
	// net/http lingers half a second over a connection that it closes; nobody can wait for that.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// runFleet connects one device per token given on stdin after the first line (address, tls or plain), sends three
// frames each and waits for their acks, says how many are connected after each token line "=", and floods with
// "~ seconds window". It ends with stdin.
func runFleet() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<20)
	in.Scan()
	addr, mode, _ := strings.Cut(in.Text(), " ")
	f := &fleet{addr: addr, tls: mode == "tls"}
	slots := make(chan struct{}, 64)
	var wg sync.WaitGroup
	for in.Scan() {
		line := in.Text()
		switch {
		case line == "=":
			wg.Wait()
			fmt.Println(f.connected.Load(), f.failed.Load())
		case strings.HasPrefix(line, "~"):
			fmt.Println(f.flood(line[1:]))
		default:
			slots <- struct{}{}
			wg.Add(1)
			go func() {
				defer wg.Done()
				f.join(line)
				<-slots
			}()
		}
	}
}

type fleet struct {
	addr              string
	tls               bool
	connected, failed atomic.Int64
	mu                sync.Mutex
	members           []*member
	last              int
}

type member struct {
	conn  net.Conn
	acked atomic.Int64
	seq   int64
	wake  chan struct{}
}

const reading = `{"type":"telemetry","seq":%d,"fields":{"temp":21.5,"hum":40.2,"on":true}}`

func (f *fleet) join(token string) {
	m, err := f.dial(token)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		f.failed.Add(1)
		return
	}
	f.mu.Lock()
	f.members = append(f.members, m)
	f.mu.Unlock()
	go m.read()
	for range 3 {
		m.send()
		for m.acked.Load() < m.seq {
			<-m.wake
		}
	}
	f.connected.Add(1)
}

func (f *fleet) dial(token string) (*member, error) {
	f.mu.Lock()
	f.last++
	n := f.last
	f.mu.Unlock()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%200))}, Timeout: patience}
	conn, err := d.Dial("tcp", f.addr)
	if err != nil {
		return nil, err
	}
	if f.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a loopback test peer
	}
	if _, err := io.WriteString(conn, handshake+"Authorization: Bearer "+token+"\r\n\r\n"); err != nil {
		return nil, err
	}
	// One byte at a time, so that nothing of the frames behind it is taken.
	var head []byte
	for one := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, one[0]) {
		if _, err := conn.Read(one); err != nil {
			return nil, err
		}
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101") {
		return nil, fmt.Errorf("answered %q", strings.SplitN(string(head), "\r\n", 2)[0])
	}
	return &member{conn: conn, wake: make(chan struct{}, 1)}, nil
}

func (m *member) send() {
	m.seq++
	_, _ = m.conn.Write(maskedFrame(0x81, fmt.Appendf(nil, reading, m.seq)))
}

// read takes frames: acks are counted, pings answered.
func (m *member) read() {
	r := &raw{conn: m.conn, br: bufio.NewReaderSize(m.conn, 512)}
	for {
		first, payload := r.frame()
		switch {
		case first == 0:
			return
		case first == 0x89:
			_, _ = m.conn.Write(maskedFrame(0x8a, payload))
		case strings.HasPrefix(string(payload), `{"type":"ack","seq":`):
			n, _ := strconv.ParseInt(strings.TrimSuffix(string(payload[len(`{"type":"ack","seq":`):]), "}"), 10, 64)
			m.acked.Store(n)
			select {
			case m.wake <- struct{}{}:
			default:
			}
		}
	}
}

// flood sends as fast as the window allows, with that many frames in one write, and returns how many were acked.
func (f *fleet) flood(args string) int64 {
	var seconds float64
	var window int64
	if _, err := fmt.Sscan(args, &seconds, &window); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		return 0
	}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var wg sync.WaitGroup
	var total atomic.Int64
	for _, m := range f.members {
		wg.Add(1)
		go func() {
			defer wg.Done()
			start := m.seq
			var out []byte
			for time.Now().Before(end) {
				out = out[:0]
				for m.seq-m.acked.Load() < window {
					m.seq++
					out = append(out, maskedFrame(0x81, fmt.Appendf(nil, reading, m.seq))...)
				}
				if len(out) > 0 {
					_, _ = m.conn.Write(out)
				}
				<-m.wake
			}
			for m.acked.Load() < m.seq {
				<-m.wake
			}
			total.Add(m.seq - start)
		}()
	}
	wg.Wait()
	return total.Load()
}

// fleetProcess is a fleet in a process of its own.
type fleetProcess struct {
	t   testing.TB
	in  io.WriteCloser
	out *bufio.Scanner
}

func startFleet(t testing.TB, addr string, useTLS bool) *fleetProcess {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fleetEnv+"=1", "GOMEMLIMIT=2GiB")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	p := &fleetProcess{t: t, in: in, out: bufio.NewScanner(out)}
	mode := "plain"
	if useTLS {
		mode = "tls"
	}
	p.say(addr + " " + mode)
	return p
}

func (p *fleetProcess) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// join connects one device per token and returns when all have their three acks.
func (p *fleetProcess) join(tokens []string) {
	p.t.Helper()
	p.say(strings.Join(tokens, "\n"))
	p.say("=")
	if !p.out.Scan() {
		p.t.Fatal("the fleet is gone")
	}
	if !strings.HasSuffix(p.out.Text(), " 0") {
		p.t.Fatalf("fleet: connected and failed: %s", p.out.Text())
	}
}

// flood returns how many frames were sent and acked.
func (p *fleetProcess) flood(seconds float64, window int) int64 {
	p.t.Helper()
	p.say(fmt.Sprintf("~%g %d", seconds, window))
	if !p.out.Scan() {
		p.t.Fatal("the fleet is gone")
	}
	n, err := strconv.ParseInt(p.out.Text(), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}
