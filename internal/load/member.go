package load

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// member is one device of a crowd. It has one goroutine.
type member struct {
	crowd  *Crowd
	number int

	mu   sync.Mutex
	conn net.Conn // guarded by mu

	// owned by live
	settled bool
	seq     int
}

// Waits before a device tries again, unless the hub says how long.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// live connects, and connects again, until the crowd ends.
func (m *member) live() {
	c := m.crowd
	for retry := firstRetry; c.ctx.Err() == nil; {
		rest, err := m.connect()
		if err != nil {
			wait := m.count(err, retry)
			retry = min(2*retry, lastRetry)
			if !sleep(c.ctx, wait) {
				return
			}
			continue
		}
		retry = firstRetry
		err = m.read(rest)
		if c.ctx.Err() != nil {
			return
		}
		if !errors.Is(err, net.ErrClosed) {
			c.breaks.Add(1)
			c.lastErr.Store(&err)
		}
	}
}

// count takes note of a connect that failed and says how long to wait.
func (m *member) count(err error, retry time.Duration) time.Duration {
	c := m.crowd
	var r *refusal
	if !errors.As(err, &r) {
		c.faults.Add(1)
		c.lastErr.Store(&err)
		return retry/2 + rand.N(retry)
	}
	c.refusals.Add(1)
	c.lastErr.Store(&err)
	return max(r.after, retry)
}

func (m *member) connect() (rest []byte, err error) {
	c := m.crowd
	if !c.storming.Load() {
		c.slots <- struct{}{}
		defer func() { <-c.slots }()
	}
	c.dials.Add(1)
	conn, rest, err := c.dialer.dial(c.ctx, m.number)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn = conn
	if c.ctx.Err() != nil {
		conn.Close()
	}
	return rest, nil
}

// cut ends the connection as a network does that is gone: nothing is said.
func (m *member) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	conn := m.conn
	if conn == nil {
		return
	}
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed one
	}
	conn.Close()
}

// memberBuffer holds the hub's longest frame that concerns a crowd.
const memberBuffer = 1 << 10

// read handles what the hub says until the connection ends.
func (m *member) read(rest []byte) error {
	defer m.conn.Close()
	up := false
	defer func() {
		if up {
			m.crowd.up.Add(-1)
		}
	}()
	buf := append(make([]byte, 0, memberBuffer), rest...)
	for {
		used, err := m.take(buf, &up)
		if err != nil {
			return err
		}
		buf = buf[:copy(buf, buf[used:])]
		if len(buf) == cap(buf) {
			return errors.New("frame of the hub is too long for a crowd")
		}
		n, err := m.conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return err
		}
		buf = buf[:len(buf)+n]
	}
}

// take handles the whole frames in buf and returns how much of it that was [RFC6455 5.2].
func (m *member) take(buf []byte, up *bool) (used int, err error) {
	for {
		b := buf[used:]
		if len(b) < 2 {
			return used, nil
		}
		head, size := 2, int(b[1]&0x7f)
		if size == 126 {
			if len(b) < 4 {
				return used, nil
			}
			head, size = 4, int(b[2])<<8|int(b[3])
		}
		if len(b) < head+size {
			return used, nil
		}
		if err := m.frame(b[0]&0x0f, b[head:head+size], up); err != nil {
			return used, err
		}
		used += head + size
	}
}

var welcomePrefix = []byte(`{"type":"welcome"`)

func (m *member) frame(opcode byte, payload []byte, up *bool) error {
	c := m.crowd
	switch {
	case opcode == opPing:
		c.pings.Add(1)
		return m.write(append([]byte{0x80 | opPong, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
	case opcode == opClose:
		return fmt.Errorf("hub closes: %q", payload[min(2, len(payload)):])
	case opcode != opText:
		return nil
	case bytes.HasPrefix(payload, welcomePrefix):
		*up = true
		c.up.Add(1)
		c.returns.Add(1)
		c.took[m.number].Store(time.Now().UnixNano() - c.began.Load())
		defer c.tell()
		return m.next()
	case bytes.HasPrefix(payload, ackPrefix):
		return m.next()
	case bytes.HasPrefix(payload, commandPrefix):
		return m.obey(payload)
	case bytes.HasPrefix(payload, rejectPrefix), bytes.HasPrefix(payload, byePrefix):
		return fmt.Errorf("hub says: %s", payload)
	}
	return nil
}

// next sends the next frame of telemetry, if there is one to send.
func (m *member) next() error {
	c := m.crowd
	if m.settled {
		return nil
	}
	if m.seq == c.spec.Frames {
		m.settled = true
		c.settled.Add(1)
		c.tell()
		return nil
	}
	m.seq++
	return m.say(fmt.Appendf(nil, `{"type":"telemetry","seq":%d,%s}`, m.seq, c.spec.Frame))
}

// obey accepts a command and has done it.
func (m *member) obey(payload []byte) error {
	_, rest, _ := bytes.Cut(payload, []byte(`"id":"`))
	id, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return fmt.Errorf("command without an id: %s", payload)
	}
	m.crowd.answered.Add(1)
	frame := func(text string) []byte { return append(appendHeader(nil, len(text)), text...) }
	both := frame(`{"type":"accept","id":"` + string(id) + `"}`)
	return m.write(append(both, frame(`{"type":"result","id":"`+string(id)+`","ok":true,"result":{}}`)...))
}

func (m *member) say(text []byte) error {
	return m.write(append(appendHeader(nil, len(text)), text...))
}

func (m *member) write(b []byte) error {
	_, err := m.conn.Write(b)
	return err
}
